package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.testing.EmbeddedEngine
import com.aimatrix.engine.kotlin.testing.WithEmbeddedEngine
import com.aimatrix.engine.kotlin.testing.link
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.condition.EnabledIf

@EnabledIf("com.aimatrix.engine.testing.EmbeddedEngine#available") // AMX_COMMAND, or amx in the PATH
@WithEmbeddedEngine
class EngineTest {
    @Test
    fun `members are remembered when the engine is killed`(engine: EmbeddedEngine): Unit = runBlocking {
        engine.link { agent<Members>() }.start().use { link ->
            assertEquals(1, link.request<Int>("Members", "Ada"))
            engine.kill()
            engine.restart()
            assertEquals(2, link.request<Int>("Members", "Grace"))
        }
    }
}
