package com.aimatrix.engine.kotlin

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

class PublicApiTest {
    private val api = PublicApi(File(ProcessingResult::class.java.protectionDomain.codeSource.location.toURI()))

    @Test
    fun `nothing public has a type of which nobody says whether it may be null`() {
        assertTrue(api.declarations.size > 20) // it was read
        assertEquals(emptyList<String>(), api.platformTypes)
    }
}
