// What one message led to.

package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.Message

/**
 * What one message led to: what the handler returned, and what it staged, committed with it.
 *
 * @property value what the handler returned
 * @property sent one-way messages, in order; not those that were sent at once
 * @property published events, in order; not those that were published at once
 * @property schedules names of the schedules and timers that were set
 * @property isMemoryChanged whether anything was remembered or forgotten
 */
public class Outcome<T> internal constructor(
    public val value: T,
    public val sent: List<Message>,
    public val published: List<Message>,
    public val schedules: List<String>,
    public val isMemoryChanged: Boolean,
)
