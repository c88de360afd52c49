package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.AmxEngine
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.memory
import com.aimatrix.engine.kotlin.memoryMap
import com.aimatrix.engine.spring.SpringAgents
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import kotlinx.serialization.Serializable
import org.aopalliance.intercept.MethodInterceptor
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.condition.EnabledIf
import org.springframework.aop.framework.ProxyFactory
import org.springframework.beans.factory.config.BeanPostProcessor
import org.springframework.boot.WebApplicationType
import org.springframework.boot.autoconfigure.EnableAutoConfiguration
import org.springframework.boot.builder.SpringApplicationBuilder
import org.springframework.context.ConfigurableApplicationContext
import org.springframework.context.annotation.Bean
import org.springframework.context.annotation.Configuration
import org.springframework.context.annotation.Import
import org.springframework.stereotype.Component
import kotlin.time.Duration.Companion.minutes
import com.aimatrix.engine.AmxEngine as JavaEngine

@Serializable
internal data class Question(val text: String, val urgent: Boolean = false)

@Serializable
internal data class Ticket(val id: String, val number: Int)

internal fun interface Tickets {
    suspend fun open(question: Question): String
}

@Agent(name = "Support")
@Component
internal class Support(private val tickets: Tickets) {
    private var asked by memory(0, persistent = true)
    private val open by memoryMap<String, Question>(persistent = true)

    @Handler
    suspend fun ask(question: Question): Ticket {
        val id = withContext(Dispatchers.Default) { tickets.open(question) }
        open[id] = question
        return Ticket(id, ++asked)
    }
}

/** Open, as the compiler plugin kotlin-spring makes what is a `@Component`. */
@Agent(name = "Watched")
@Component
internal open class Watched(private val tickets: Tickets) {
    private var asked by memory(0, persistent = true)

    @Handler(byDefault = true)
    open suspend fun ask(question: Question): Ticket {
        val id = withContext(Dispatchers.Default) { tickets.open(question) }
        return Ticket(id, ++asked)
    }

    @Handler
    suspend fun unseen(): Int = asked
}

/** Wraps Watched, as an aspect does. */
internal class Watch : BeanPostProcessor {
    val seen = mutableListOf<String>()

    override fun postProcessAfterInitialization(bean: Any, beanName: String): Any {
        if (bean !is Watched) return bean
        val factory = ProxyFactory(bean)
        factory.isProxyTargetClass = true
        factory.addAdvice(MethodInterceptor { call -> call.proceed().also { seen += call.method.name } })
        return factory.getProxy(javaClass.classLoader)
    }
}

@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
@Import(Support::class, Watched::class, Watch::class)
internal open class Application {
    @Bean
    open fun tickets() = Tickets { "T-${it.text.length}${if (it.urgent) "!" else ""}" }
}

/** Agents in Kotlin as beans of Spring. */
class SpringTest {
    private fun application(vararg properties: String, test: suspend (ConfigurableApplicationContext) -> Unit) {
        val builder = SpringApplicationBuilder(Application::class.java).web(WebApplicationType.NONE)
        builder.properties("spring.main.banner-mode=off", "amx.patience=60s", *properties).run().use { runBlocking { test(it) } }
    }

    @EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
    @Test
    fun `a bean of a final class with suspending handlers is hosted with its memory`() {
        EmbeddedEngine.start().use { process ->
            application("amx.address=${process.address()}") { context ->
                val engine = AmxEngine.of(context.getBean(JavaEngine::class.java))
                suspend fun ask(key: String, question: Question): Ticket =
                    engine.request("Support/$key", question) { timeout = 1.minutes }
                assertEquals(Ticket("T-4", 1), ask("ada", Question("Why?")))
                assertEquals(Ticket("T-4!", 2), ask("ada", Question("Who?", urgent = true)))
                assertEquals(Ticket("T-0", 1), ask("bob", Question("")))
                assertEquals(mapOf("text" to "Why?", "urgent" to false), engine.memory("Support/ada").get("open", "T-4"))
            }
        }
    }

    @Test
    fun `open handlers of a bean are called through its proxy, and others on the object behind it`() {
        application("amx.auto-start=false") { context ->
            val watch = context.getBean(Watch::class.java)
            AgentHarness.start(SpringAgents.of(context, Watched::class.java)).use { agent ->
                assertEquals(Ticket("T-4", 1), agent.request<Ticket>(Question("Why?")))
                assertEquals(1, agent.request<Int> { handler = "unseen" })
                assertEquals(listOf("ask"), watch.seen)
                assertEquals(1, agent.memory().get("asked"))
            }
        }
    }
}
