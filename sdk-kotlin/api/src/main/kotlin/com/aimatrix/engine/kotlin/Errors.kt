// What an AmxException says, as properties.

package com.aimatrix.engine.kotlin


/** What kind of failure it is. */
public val AmxException.code: Code get() = code()

/** UPPER_SNAKE; the same in every language. */
public val AmxException.reason: String get() = reason()

/** Whether the same call may succeed later. */
public val AmxException.isRetryable: Boolean get() = retryable()

/** Facts for programs. */
public val AmxException.metadata: Map<String, String> get() = metadata()

/** Values for whoever catches it. */
public val AmxException.details: List<Any?> get() = details()

/** Where it failed: `agent/key#handler`; may be empty. */
public val AmxException.source: String get() = source()
