// Chooses who answers messages that name no agent; and those who answer.

package com.aimatrix.examples

import com.aimatrix.engine.kotlin.*

@MessageRouter
class CustomRouter : BaseMessageRouter() {
    override suspend fun route(message: Message): AgentReference? = when {
        message.priority == Priority.HIGH -> findAgent("HighPriorityAgent")
        message.type == "customer_inquiry" -> findAgent("CustomerServiceAgent")
        message.source == "mobile_app" -> findAgent("MobileResponseAgent")
        else -> findAgent("DefaultAgent")
    }
}

/** Says who got a question, and the question. */
abstract class Desk : BaseAgent() {
    @Handler
    suspend fun answer(question: String, context: Context): String {
        logger.info("asked: {}", question)
        return "${context.agent}: $question"
    }
}

@Agent class HighPriorityAgent : Desk()

@Agent class CustomerServiceAgent : Desk()

@Agent class MobileResponseAgent : Desk()

@Agent class DefaultAgent : Desk()
