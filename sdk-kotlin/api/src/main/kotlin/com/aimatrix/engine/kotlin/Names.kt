// Java's names that Kotlin uses as they are, so that one import is enough.
package com.aimatrix.engine.kotlin

/** The address of an agent's instance. */
public typealias AgentReference = com.aimatrix.engine.AgentReference

/** Makes a class an agent. */
public typealias Agent = com.aimatrix.engine.Agent

/** Makes a function a handler of messages. */
public typealias Handler = com.aimatrix.engine.Handler

/** How urgent a message is. */
public typealias Priority = com.aimatrix.engine.Priority
