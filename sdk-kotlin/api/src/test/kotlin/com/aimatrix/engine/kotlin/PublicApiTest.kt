package com.aimatrix.engine.kotlin

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File

class PublicApiTest {
    @Suppress("unused")
    class Leaky {
        fun leak() = System.getProperty("leak") // of a type of Java's
    }

    private val api = PublicApi(classesOf<ProcessingResult>())

    private inline fun <reified T> classesOf() = File(T::class.java.protectionDomain.codeSource.location.toURI())

    @Test
    fun `nothing public has a type of which nobody says whether it may be null`() {
        assertTrue(api.declarations.size > 20) // it was read
        assertEquals(emptyList<String>(), api.platformTypes)
        assertEquals(listOf("fun leak(): kotlin.String"), PublicApi(classesOf<Leaky>()).platformTypes.filter { "leak" in it })
    }

    @Test
    fun `everything public says what it is`(@TempDir folder: File) {
        val sources = File("src/main/kotlin").walk().filter { it.extension == "kt" }.toList()
        assertTrue(sources.isNotEmpty())
        assertEquals(emptyList<String>(), sources.flatMap(::undocumented))
        val file = File(folder, "A.kt")
        file.writeText("/** One. */\n@Two\npublic class One(\n    public val two: Int,\n) {\n    public fun three() {}\n}\n")
        assertEquals(listOf("A.kt:4: public val two: Int,", "A.kt:6: public fun three() {}"), undocumented(file))
    }

    @Test
    fun `the public API is the one that is written down`() {
        val file = File("public-api.txt")
        val now = api.declarations.joinToString("\n", postfix = "\n")
        if (System.getProperty("api.write") != null) {
            file.writeText(now)
        }
        assertEquals(
            if (file.exists()) file.readText() else "",
            now,
            "the public API is another; if it should be: mvn -f sdk-kotlin/pom.xml test -Dapi.write, and commit public-api.txt",
        )
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
