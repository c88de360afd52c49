package com.aimatrix.engine;

/**
 * What the engine says of a message that was sent.
 *
 * @param messageId of the message
 * @param duplicate it was there already
 */
public record Receipt(String messageId, boolean duplicate) {}
