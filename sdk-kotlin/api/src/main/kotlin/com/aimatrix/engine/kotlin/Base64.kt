// Bytes inside classes with @Serializable.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.kotlin.values.BYTES
import kotlinx.serialization.KSerializer
import kotlinx.serialization.Serializable

/** Bytes that travel as base64 text, as every SDK has them; a plain ByteArray would be a list of numbers. */
public typealias Bytes = @Serializable(with = Base64::class) ByteArray

/** Serializer of [Bytes]. */
public object Base64 : KSerializer<ByteArray> by BYTES
