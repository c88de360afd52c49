package com.aimatrix.engine.testing;

/** Patterns of topics. */
final class Topics {
    private Topics() {}

    /** Whether a pattern (`*`: one segment; `**`, or a last `>`: any number) matches a topic. */
    static boolean matches(String pattern, String topic) {
        return matches(pattern.split("\\.", -1), 0, topic.split("\\.", -1), 0);
    }

    private static boolean matches(String[] pattern, int at, String[] topic, int from) {
        if (at == pattern.length) {
            return from == topic.length;
        }
        String wanted = pattern[at];
        if (wanted.equals("**")) {
            for (int rest = from; rest <= topic.length; rest++) {
                if (matches(pattern, at + 1, topic, rest)) {
                    return true;
                }
            }
            return false;
        }
        if (from == topic.length) {
            return false;
        }
        if (wanted.equals(">") && at == pattern.length - 1) {
            return true;
        }
        return (wanted.equals("*") || wanted.equals(topic[from])) && matches(pattern, at + 1, topic, from + 1);
    }
}
