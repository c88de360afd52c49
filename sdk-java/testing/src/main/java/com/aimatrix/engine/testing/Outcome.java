package com.aimatrix.engine.testing;

import com.aimatrix.engine.Message;
import com.aimatrix.engine.v1.ScheduleDefinition;
import java.util.List;

/**
 * What one message led to: what the handler returned, and what it staged, committed with it.
 *
 * @param <T> what the handler returned
 * @param value null: no value
 * @param sent one-way messages, in order; not those that were sent at once
 * @param published events, in order; not those that were published at once
 * @param schedules schedules and timers that were set
 * @param memoryChanged whether anything was remembered or forgotten
 */
public record Outcome<T>(
        T value,
        List<Message> sent,
        List<Message> published,
        List<ScheduleDefinition> schedules,
        boolean memoryChanged) {}
