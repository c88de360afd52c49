package com.aimatrix.engine;

/**
 * What the engine says of an event that was published.
 *
 * @param eventId of the event
 * @param subscribers it goes to
 */
public record Publication(String eventId, int subscribers) {}
