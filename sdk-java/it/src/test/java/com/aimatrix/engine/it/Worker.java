package com.aimatrix.engine.it;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicInteger;

/** A worker as a process of its own: hosts Slow and Crowd at the address that AMX_ADDRESS names, until it is told to end. */
final class Worker {
    /** Waits for a file to appear. */
    @Agent(name = "Slow")
    static class Slow {
        @Memory(persistent = true)
        int runs;

        @Handler(byDefault = true)
        String wait(String file, Context context) throws InterruptedException {
            runs++;
            System.out.println("begun " + context.attempt());
            while (!Files.exists(Path.of(file))) {
                Thread.sleep(5);
            }
            return "attempt " + context.attempt() + ", run " + runs;
        }

        @Handler
        long pid() {
            return ProcessHandle.current().pid();
        }
    }

    /** Waits until so many instances of it wait. */
    @Agent(name = "Crowd")
    static class Crowd {
        private static final AtomicInteger WAITING = new AtomicInteger();

        @Handler
        String meet(int parties) throws InterruptedException {
            WAITING.incrementAndGet();
            while (WAITING.get() < parties) {
                Thread.sleep(5);
            }
            return Thread.currentThread().toString();
        }
    }

    private Worker() {}

    public static void main(String[] arguments) {
        AmxEngine.builder().withAgent(Slow.class).withAgent(Crowd.class).build().runForever();
        System.out.println("main has ended");
    }
}
