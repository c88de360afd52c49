package com.aimatrix.engine;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.v1.BroadcastScope;
import java.util.List;

/**
 * What became of a broadcast.
 *
 * @param messageId of the message
 * @param recipients each of them, in no particular order
 * @param succeeded how many did
 * @param failed how many did not
 */
public record Broadcast(String messageId, List<Recipient> recipients, int succeeded, int failed) {
    /**
     * What became of it at one instance: a value, or an error.
     *
     * @param instance which
     * @param value null: none, or an error
     * @param error null: a value
     */
    public record Recipient(AgentReference instance, Object value, AmxException error) {}

    /** Whom a broadcast reaches. */
    public static final class Scope {
        private final BroadcastScope wire;

        private Scope(BroadcastScope.Builder wire) {
            this.wire = wire.build();
        }

        /**
         * Every instance of every agent.
         *
         * @return the scope
         */
        public static Scope all() {
            return new Scope(BroadcastScope.newBuilder().setAll(true));
        }

        /**
         * Every instance of one agent.
         *
         * @param name of the agent
         * @return the scope
         */
        public static Scope agent(String name) {
            return new Scope(BroadcastScope.newBuilder().setAgent(name));
        }

        /**
         * Every instance of the agents in a group.
         *
         * @param name of the group
         * @return the scope
         */
        public static Scope group(String name) {
            return new Scope(BroadcastScope.newBuilder().setGroup(name));
        }

        /**
         * Every instance of the agents whose labels satisfy an expression.
         *
         * @param expression such as `tier = gold, region != eu`
         * @return the scope
         */
        public static Scope labels(String expression) {
            return new Scope(BroadcastScope.newBuilder().setLabels(expression));
        }

        BroadcastScope wire() {
            return wire;
        }
    }
}
