// Coroutines of handlers: they run where the host runs handlers, and end when it wants them to.

package com.aimatrix.engine.kotlin.hosting

import com.aimatrix.engine.kotlin.Context
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.Job
import kotlinx.coroutines.ThreadContextElement
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.async
import java.util.concurrent.CompletableFuture
import kotlin.coroutines.AbstractCoroutineContextElement
import kotlin.coroutines.CoroutineContext
import com.aimatrix.engine.Context as JavaContext

/** The context of a handler, in its coroutines and on the threads that they run on. */
internal class ContextElement(val context: Context) :
    AbstractCoroutineContextElement(ContextElement), ThreadContextElement<JavaContext?> {

    companion object Key : CoroutineContext.Key<ContextElement>

    override fun updateThreadContext(context: CoroutineContext): JavaContext? = JavaContext.enter(this.context.java)

    override fun restoreThreadContext(context: CoroutineContext, oldState: JavaContext?) = JavaContext.leave(oldState)
}

internal object Coroutines {
    /** Where the coroutines of a handler run: on threads that they may block. They are cancelled when it is to stop. */
    fun scope(context: Context, job: Job): CoroutineScope {
        context.java.onStop { why -> job.cancel(CancellationException(why.message, why)) }
        return CoroutineScope(context.java.executor().asCoroutineDispatcher() + ContextElement(context) + job)
    }

    /**
     * Runs a handler on this thread until it first waits. Returns its value; or, if it waits, a stage that is done when
     * it and everything it started have ended, also when they are cancelled.
     */
    @OptIn(ExperimentalCoroutinesApi::class)
    fun run(context: Context, body: suspend CoroutineScope.() -> Any?): Any? {
        val job = Job()
        val result = scope(context, job).async(start = CoroutineStart.UNDISPATCHED, block = body)
        job.complete()
        if (!result.isCompleted) return Outcome(result)
        result.getCompletionExceptionOrNull()?.let { throw it }
        return result.getCompleted()
    }

    /** Its own end is that of the coroutine; who wants it to end cancels that. */
    @OptIn(ExperimentalCoroutinesApi::class)
    private class Outcome(private val result: Deferred<Any?>) : CompletableFuture<Any?>() {
        init {
            result.invokeOnCompletion { error ->
                if (error == null) complete(result.getCompleted()) else completeExceptionally(error)
            }
        }

        override fun cancel(mayInterruptIfRunning: Boolean): Boolean {
            result.cancel()
            return false
        }
    }
}
