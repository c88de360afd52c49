package com.aimatrix.engine.testee;

import com.aimatrix.engine.Context;
import com.aimatrix.engine.Timing;
import java.util.Set;

/** What the Interpreter stages with its result. */
final class Effects {
    static final Set<String> ALL = Set.of("send", "publish", "schedule", "unschedule");

    private Effects() {}

    static void stage(Operation operation, Context context) {
        Object payload = operation.said().get("payload");
        switch (operation.op()) {
            case "send" -> context.send(operation.text("agent"), payload, operation.options());
            case "publish" -> context.publish(operation.text("topic"), payload, operation.event());
            case "schedule" ->
                    context.schedule(operation.text("name"), operation.text("handler"), timing(operation), payload);
            default -> context.unschedule(operation.text("name"));
        }
    }

    private static Timing timing(Operation operation) {
        if (operation.has("every_ms")) {
            return Timing.fixedRate(operation.millis("every_ms"));
        }
        if (operation.has("delay_ms")) {
            return Timing.fixedDelay(operation.millis("delay_ms"));
        }
        return operation.has("cron")
                ? Timing.cron(operation.text("cron"), "")
                : Timing.after(operation.millis("after_ms"));
    }
}
