// What routers of messages extend.

package com.aimatrix.engine.kotlin

/** Chooses the agent of messages that name none. Extend it, annotate with [MessageRouter], and write [route]. */
public abstract class BaseMessageRouter {
    /** The agent that gets [message], which names none. Null leaves it to the next router. */
    public abstract suspend fun route(message: Message): AgentReference?

    /** The address of an agent, or of an instance: `name/key`. Whether somebody hosts it is found out later. */
    protected fun findAgent(name: String): AgentReference = AgentReference.parse(name)

    /** The address of an instance, with a [handler] for messages that name none; empty: not chosen. */
    protected fun findAgent(name: String, key: String, handler: String = ""): AgentReference =
        AgentReference(name, key, handler)
}
