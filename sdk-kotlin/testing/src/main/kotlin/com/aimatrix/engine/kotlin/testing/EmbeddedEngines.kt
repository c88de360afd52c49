// A real engine for a test, as a process of its own.

package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.AmxEngine
import com.aimatrix.engine.kotlin.AmxEngineBuilder
import com.aimatrix.engine.kotlin.amxEngine

/** A real engine for a test, as a process of its own that ends with the test's. */
public typealias EmbeddedEngine = com.aimatrix.engine.testing.EmbeddedEngine

/** Gives a test class an engine, of which nothing is said: its functions take an [EmbeddedEngine]. */
public typealias WithEmbeddedEngine = com.aimatrix.engine.testing.WithEmbeddedEngine

/** Gives a test class an engine: its functions take an [EmbeddedEngine]. */
public typealias EmbeddedEngineExtension = com.aimatrix.engine.testing.EmbeddedEngineExtension

/** An AmxEngine that goes there, not started: `engine.link { agent<Greeter>() }`. */
public fun EmbeddedEngine.link(describe: AmxEngineBuilder.() -> Unit = {}): AmxEngine = amxEngine {
    withAddress(this@link.address())
    describe()
}
