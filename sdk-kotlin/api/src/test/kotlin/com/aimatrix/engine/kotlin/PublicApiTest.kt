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

    @Test
    fun `everything public says what it is`() {
        val sources = File("src/main/kotlin").walk().filter { it.extension == "kt" }.toList()
        assertTrue(sources.isNotEmpty())
        assertEquals(emptyList<String>(), sources.flatMap(::undocumented))
    }

    /** Lines that declare something public without KDoc. Explicit API mode makes sure that `public` is said. */
    private fun undocumented(source: File): List<String> {
        val lines = source.readLines()
        return lines.indices.filter { at ->
            val line = lines[at].trim()
            val property = PROPERTY.matchEntire(line)?.groupValues?.get(1)
            val before = lines.subList(0, at).lastOrNull { !it.trim().startsWith("@") }?.trim()
            DECLARATION.containsMatchIn(line) &&
                before?.endsWith("*/") != true &&
                (property == null || lines.none { it.contains("@property $property ") })
        }.map { "${source.name}:${it + 1}: ${lines[it].trim()}" }
    }

    private companion object {
        val DECLARATION = Regex("""^(@\w+(\(.*\))? )*(public|protected) (?!companion object \{|constructor|override )""")
        val PROPERTY = Regex("""public (?:override )?va[lr] (\w+): .*,""") // of a primary constructor
    }
}
