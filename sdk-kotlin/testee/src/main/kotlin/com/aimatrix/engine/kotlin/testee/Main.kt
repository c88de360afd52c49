// The testee of the Kotlin SDK; see conformance/README.md, "Testees".

package com.aimatrix.engine.kotlin.testee

import com.aimatrix.engine.testee.Testee

fun main(arguments: Array<String>) = Testee.run(arguments, ::fixtures)
