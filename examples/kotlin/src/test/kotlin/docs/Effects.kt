package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*
import kotlinx.serialization.Serializable
import kotlin.time.Duration.Companion.days

@Serializable
data class Order(val id: String, val warehouse: String, val region: String)

@Agent
class OrderDesk {
    @Handler
    suspend fun place(order: Order, context: Context) {
        context.send("Warehouse/${order.warehouse}", order)
        context.publish("orders.placed", order) { attributes = mapOf("region" to order.region) }
        context.schedule("remind", "remind", Timing.after(3.days), order)
    }

    @Handler
    suspend fun price(order: Order, context: Context): Double =
        context.request<Double>("Prices", order.id) { handler = "of" }

    @Handler
    suspend fun remind(order: Order, context: Context) {
        context.logger.info("order {} is still open", order.id)
    }

    @Subscribe("orders.*.shipped", filter = "region = eu")
    suspend fun shipped(order: Order, context: Context) {
        context.logger.info("order {} is on its way", order.id)
        context.unschedule("remind")
    }
}
