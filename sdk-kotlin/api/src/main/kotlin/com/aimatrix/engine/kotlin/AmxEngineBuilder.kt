// Says what an AmxEngine hosts and where its engine is.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.Agents
import com.aimatrix.engine.kotlin.values.KOTLIN_JSON
import com.aimatrix.engine.spec.AgentSpec
import com.aimatrix.engine.transport.GrpcConnector
import java.nio.file.Path
import java.util.function.Supplier
import kotlin.reflect.KClass
import com.aimatrix.engine.AmxEngine as JavaEngine

/** Keeps what is inside an agent's block out of the engine's. */
@DslMarker
public annotation class AmxDsl

/**
 * An engine, not started: `amxEngine { agent<Greeter>(); address = "localhost:9090" }`.
 *
 * @throws AmxException INVALID_CONFIG
 * @throws DefinitionException naming the culprit and the cure
 */
public fun amxEngine(describe: AmxEngineBuilder.() -> Unit): AmxEngine = AmxEngineBuilder().apply(describe).build()

/** Says what an AmxEngine hosts and where its engine is. Functions that begin with `with` change this and return it. */
@AmxDsl
public class AmxEngineBuilder internal constructor() {
    internal val agents: MutableList<AgentSpec> = mutableListOf()
    private val java = JavaEngine.builder().withJson(KOTLIN_JSON).withSdk("amx-engine-kotlin", "kotlin ${KotlinVersion.CURRENT}")

    /** Where the engine is, `host:port`; null: by the configuration, AMX_ADDRESS, localhost:9090. */
    public var address: String? = null

    /** Who this process is, to the engine; null: by the configuration, AMX_TOKEN. */
    public var token: String? = null

    /** How many messages are handled at a time; null: by the configuration, 1,024. */
    public var concurrency: Int? = null

    /**
     * Hosts an agent, a router, a monitor or a pipeline: each instance key gets an object of its own.
     *
     * @param make makes one; without it, the constructor without parameters
     * @throws DefinitionException naming the culprit and the cure
     */
    public inline fun <reified T : Any> agent(noinline make: (() -> T)? = null): AmxEngineBuilder = withAgent(T::class, make)

    /** As [agent], for a class that is known at run time only. */
    public fun <T : Any> withAgent(type: KClass<T>, make: (() -> T)? = null): AmxEngineBuilder = apply {
        agents += Agents.of(type.java, make?.let { Supplier { it() } }, "", KOTLIN_JSON)
    }

    /**
     * Hosts an agent, a router, a monitor or a pipeline.
     *
     * @param agent an object: each instance key gets a shallow copy, whose memories are its own
     * @throws DefinitionException naming the culprit and the cure
     */
    public fun withAgent(agent: Any): AmxEngineBuilder = apply {
        agents += when (agent) {
            is AgentSpec -> agent
            is KClass<*> -> Agents.of(agent.java, null, "", KOTLIN_JSON)
            else -> Agents.of(agent)
        }
    }

    /** Where the engine is: `host:port`. */
    public fun withAddress(address: String): AmxEngineBuilder = apply { this.address = address }

    /** Who this process is, to the engine. */
    public fun withToken(token: String): AmxEngineBuilder = apply { this.token = token }

    /** How many messages are handled at a time: at least 1. */
    public fun withConcurrency(invocations: Int): AmxEngineBuilder = apply { concurrency = invocations }

    /**
     * Encrypts the link; what is null is the system's.
     *
     * @param ca certificates that the engine's must be signed by
     * @param certificate of this process, by which the engine recognises it
     * @param key of that certificate
     * @param serverName that the engine's certificate has, if not its address
     */
    public fun withTls(
        ca: Path? = null,
        certificate: Path? = null,
        key: Path? = null,
        serverName: String = "",
    ): AmxEngineBuilder = apply { java.withTls(GrpcConnector.Tls(ca, certificate, key, serverName)) }

    /** Settings; later ones win over earlier ones, section by section. The section `engine` is the SDK's. */
    public fun withConfig(config: Map<String, Any?>): AmxEngineBuilder = apply { java.withConfig(config) }

    /**
     * Settings of a file.
     *
     * @throws AmxException INVALID_CONFIG naming the file and what is wrong with it
     */
    public fun withConfig(file: Path): AmxEngineBuilder = apply { java.withConfig(file) }

    /** Settings of a file, as [withConfig]. */
    public fun withConfiguration(file: String): AmxEngineBuilder = withConfig(Path.of(file))

    /**
     * The engine, not started.
     *
     * @throws AmxException INVALID_CONFIG, AGENT_TWICE
     */
    public fun build(): AmxEngine {
        address?.let { java.withAddress(it) }
        token?.let { java.withToken(it) }
        concurrency?.let { java.withConcurrency(it) }
        agents.forEach { java.withAgent(it as Any) }
        return AmxEngine(java.build())
    }
}
