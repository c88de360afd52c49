// Flows as publishers, and back.

package com.aimatrix.engine.kotlin.hosting

import com.aimatrix.engine.kotlin.Context
import com.aimatrix.engine.spec.ChunkSource
import kotlinx.coroutines.Job
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.launch
import java.util.concurrent.Flow
import kotlinx.coroutines.flow.Flow as KotlinFlow

/** What a streaming handler returned: each value is made when it is asked for. */
internal class FlowPublisher(private val flow: KotlinFlow<*>, private val context: Context) : ChunkSource {
    override fun subscribe(subscriber: Flow.Subscriber<in Any?>) {
        val wanted = Channel<Unit>(Channel.UNLIMITED) // holds what was asked for, which is one
        val job = Job()
        subscriber.onSubscribe(
            object : Flow.Subscription {
                override fun request(count: Long) {
                    repeat(count.coerceAtMost(MOST).toInt()) { wanted.trySend(Unit) }
                }

                override fun cancel() = job.cancel()
            },
        )
        val collecting = Coroutines.scope(context, job).launch {
            wanted.receive()
            flow.collect {
                subscriber.onNext(it)
                wanted.receive()
            }
        }
        collecting.invokeOnCompletion { error ->
            if (error == null) subscriber.onComplete() else subscriber.onError(error)
        }
    }

    private companion object {
        const val MOST = 1024L
    }
}

/** The values of a publisher, one asked for at a time. Nothing happens before it is collected. */
internal fun <T : Any> Flow.Publisher<T>.asFlow(): KotlinFlow<T> = flow {
    val arrived = Channel<T>(Channel.UNLIMITED) // holds what was asked for, which is one
    lateinit var subscription: Flow.Subscription
    subscribe(
        object : Flow.Subscriber<T> {
            override fun onSubscribe(given: Flow.Subscription) {
                subscription = given
                given.request(1)
            }

            override fun onNext(item: T) {
                arrived.trySend(item)
            }

            override fun onError(error: Throwable) {
                arrived.close(error)
            }

            override fun onComplete() {
                arrived.close()
            }
        },
    )
    try {
        for (one in arrived) {
            emit(one)
            subscription.request(1)
        }
    } finally {
        subscription.cancel()
    }
}
