// Java's names that Kotlin uses as they are, so that one import is enough.

package com.aimatrix.engine.kotlin

/** Makes a class an agent. */
public typealias Agent = com.aimatrix.engine.Agent

/** The address of an agent's instance. */
public typealias AgentReference = com.aimatrix.engine.AgentReference

/** Something did not happen, and this is why. */
public typealias AmxException = com.aimatrix.engine.errors.AmxException

/** A property that is built once and shared by the instances of an agent in this process. */
public typealias Capability = com.aimatrix.engine.Capability

/** When a handler is given a rest. */
public typealias CircuitBreaker = com.aimatrix.engine.CircuitBreaker

/** What kind of failure it is. */
public typealias Code = com.aimatrix.engine.errors.Code

/** An agent cannot be one, and this is why. */
public typealias DefinitionException = com.aimatrix.engine.errors.DefinitionException

/** Whether messages are stored first. */
public typealias Durability = com.aimatrix.engine.Durability

/** Makes a function the one that sees to what a pipeline's stages throw. */
public typealias ErrorHandler = com.aimatrix.engine.ErrorHandler

/** Where a handler runs. */
public typealias Execution = com.aimatrix.engine.Execution

/** Makes a function a handler of messages. */
public typealias Handler = com.aimatrix.engine.Handler

/** Fails a message with a reason of the application's own. */
public typealias HandlerException = com.aimatrix.engine.errors.HandlerException

/** A value does not fit, or is none. */
public typealias InvalidInputException = com.aimatrix.engine.errors.InvalidInputException

/** Makes a property something that an instance remembers; `by memory(…)` does, too. */
public typealias Memory = com.aimatrix.engine.Memory

/** Makes a class a router. */
public typealias MessageRouter = com.aimatrix.engine.MessageRouter

/** Counts and durations per agent, for at most 10,000 agents. Safe for many threads. */
public typealias Metrics = com.aimatrix.engine.Metrics

/** What happens to occurrences of a schedule that nobody could run. */
public typealias Missed = com.aimatrix.engine.Missed

/** Makes a class a monitor. */
public typealias PerformanceMonitor = com.aimatrix.engine.PerformanceMonitor

/** Makes a class a pipeline. */
public typealias Pipeline = com.aimatrix.engine.Pipeline

/** One run of a pipeline, as its stages see it. */
public typealias PipelineContext = com.aimatrix.engine.PipelineContext

/** How urgent a message is. */
public typealias Priority = com.aimatrix.engine.Priority

/** What the caller of a handler must hold. */
public typealias RequiresPermission = com.aimatrix.engine.RequiresPermission

/** How often and how fast a failed message is repeated. */
public typealias Retry = com.aimatrix.engine.Retry

/** Which of an agent's failures its supervisor sees to. */
public typealias Restart = com.aimatrix.engine.Supervisor.Restart

/** Who is restarted along with an agent that failed. */
public typealias RestartStrategy = com.aimatrix.engine.Supervisor.Strategy

/** Makes a function run by the clock. */
public typealias Scheduled = com.aimatrix.engine.Scheduled

/** Makes a function a stage of a pipeline. */
public typealias Stage = com.aimatrix.engine.Stage

/** Makes a function receive events. */
public typealias Subscribe = com.aimatrix.engine.Subscribe

/** An agent that another one sees to. */
public typealias Supervised = com.aimatrix.engine.Supervisor.Child

/** Makes an agent see to others. */
public typealias Supervisor = com.aimatrix.engine.Supervisor
