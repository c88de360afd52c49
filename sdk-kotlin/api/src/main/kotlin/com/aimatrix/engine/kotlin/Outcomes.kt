// What the engine says of what was sent, published, and sent to many.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.Broadcast as JavaBroadcast
import com.aimatrix.engine.Publication as JavaPublication
import com.aimatrix.engine.Receipt as JavaReceipt

/**
 * The engine has a message.
 *
 * @property messageId its id
 * @property isDuplicate it had it already
 */
public data class Receipt(val messageId: String, val isDuplicate: Boolean) {
    internal companion object {
        fun of(java: JavaReceipt): Receipt = Receipt(java.messageId(), java.duplicate())
    }
}

/**
 * The engine has an event.
 *
 * @property eventId its id
 * @property subscribers how many it goes to
 */
public data class Publication(val eventId: String, val subscribers: Int) {
    internal companion object {
        fun of(java: JavaPublication): Publication = Publication(java.eventId(), java.subscribers())
    }
}

/** To whom a broadcast goes. */
public class Scope private constructor(internal val java: JavaBroadcast.Scope) {
    public companion object {
        /** Every instance in the namespace. */
        public fun all(): Scope = Scope(JavaBroadcast.Scope.all())

        /** Every instance of one agent. */
        public fun agent(name: String): Scope = Scope(JavaBroadcast.Scope.agent(name))

        /** Every instance of the agents of a group. */
        public fun group(name: String): Scope = Scope(JavaBroadcast.Scope.group(name))

        /** Every instance of the agents whose labels fit, such as `tier = gold`. */
        public fun labels(expression: String): Scope = Scope(JavaBroadcast.Scope.labels(expression))
    }
}

/**
 * What became of a broadcast.
 *
 * @property messageId its id
 * @property recipients what became of it at each
 * @property succeeded how many handled it
 * @property failed how many did not
 */
public class Broadcast private constructor(
    public val messageId: String,
    public val recipients: List<Recipient>,
    public val succeeded: Int,
    public val failed: Int,
) {
    /**
     * What became of it at one.
     *
     * @property instance who
     * @property value what it answered; a [ProcessingResult] if that is what it returned; null: no value
     * @property error why it failed; null: it did not
     */
    public class Recipient internal constructor(
        public val instance: AgentReference,
        public val value: Any?,
        public val error: AmxException?,
    )

    internal companion object {
        fun of(java: JavaBroadcast): Broadcast {
            val recipients = java.recipients().map { one ->
                val value = one.value()
                val its = if (value is com.aimatrix.engine.ProcessingResult) ProcessingResult.of(value) else value
                Recipient(one.instance(), its, one.error())
            }
            return Broadcast(java.messageId(), recipients, java.succeeded(), java.failed())
        }
    }
}
