package com.aimatrix.engine.transport;

import com.aimatrix.engine.core.Environment;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.PriorityQueue;
import java.util.UUID;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The thread of a link: runs what it is given in order, and timers when they are due. */
public final class LinkThread implements Environment, AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger("com.aimatrix.engine");

    private final ConcurrentLinkedQueue<Runnable> queue = new ConcurrentLinkedQueue<>();
    private final PriorityQueue<Alarm> alarms = new PriorityQueue<>();
    private final AtomicBoolean parked = new AtomicBoolean();
    private final Thread thread;
    private volatile boolean closed;
    private long sequence;

    /** Starts the thread. It does not keep the process alive. */
    public LinkThread() {
        thread = new Worker(this::work);
        thread.setDaemon(true);
        thread.start();
    }

    /** Recognised by its class. */
    private static final class Worker extends Thread {
        Worker(Runnable work) {
            super(work, "amx-link");
        }
    }

    /**
     * Whether this is the thread of some link: callbacks of calls run there, and must not wait for anything.
     *
     * @return whether it is
     */
    public static boolean isCurrent() {
        return Thread.currentThread() instanceof Worker;
    }

    private static final class Alarm implements Comparable<Alarm>, Timer {
        private final double at;
        private final long sequence;
        private volatile Runnable callback;

        Alarm(double at, long sequence, Runnable callback) {
            this.at = at;
            this.sequence = sequence;
            this.callback = callback;
        }

        @Override
        public int compareTo(Alarm other) {
            int order = Double.compare(at, other.at);
            return order != 0 ? order : Long.compare(sequence, other.sequence);
        }

        @Override
        public void cancel() {
            callback = null;
        }
    }

    @Override
    public double now() {
        return System.nanoTime() / 1e6;
    }

    @Override
    public Timer callAt(double at, Runnable callback) {
        Alarm alarm = new Alarm(at, sequence++, callback);
        alarms.add(alarm);
        return alarm;
    }

    @Override
    public Timer await(double millis, Runnable callback) {
        return callAt(now() + millis, callback);
    }

    @Override
    public void execute(Runnable callback) {
        queue.add(callback);
        if (parked.compareAndSet(true, false)) {
            LockSupport.unpark(thread);
        }
    }

    @Override
    public String randomId() {
        return UUID.randomUUID().toString().replace("-", "");
    }

    @Override
    public void log(Level level, String message, Throwable error) {
        switch (level) {
            case DEBUG -> LOG.debug(message, error);
            case INFO -> LOG.info(message, error);
            case WARN -> LOG.warn(message, error);
            case ERROR -> LOG.error(message, error);
        }
    }

    @Override
    public String host() {
        String name;
        try {
            name = InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException unnamed) {
            name = "localhost";
        }
        return name + " pid " + ProcessHandle.current().pid();
    }

    @Override
    public String language() {
        return "java " + System.getProperty("java.version");
    }

    /** Runs what is queued, then ends the thread. */
    @Override
    public void close() {
        closed = true;
        execute(() -> {});
    }

    private void work() {
        int since = 0; // callbacks since the last look at the timers
        while (true) {
            Runnable next = since < 64 ? queue.poll() : null;
            if (next != null) {
                since++;
                run(next);
                continue;
            }
            since = 0;
            double wait = fire();
            if (wait == 0 || !queue.isEmpty()) {
                continue;
            }
            if (closed) {
                return;
            }
            parked.set(true);
            if (queue.isEmpty()) {
                if (wait < 0) {
                    LockSupport.park(this);
                } else {
                    LockSupport.parkNanos(this, (long) (wait * 1e6) + 1);
                }
            }
            parked.set(false);
        }
    }

    /** Runs the timers that are due. Returns milliseconds until the next; 0: some ran; -1: there is none. */
    private double fire() {
        boolean ran = false;
        while (!alarms.isEmpty()) {
            Alarm first = alarms.peek();
            if (first.callback == null) {
                alarms.poll();
                continue;
            }
            double wait = first.at - now();
            if (wait > 0) {
                return ran ? 0 : wait;
            }
            alarms.poll();
            run(first.callback);
            ran = true;
        }
        return ran ? 0 : -1;
    }

    private static void run(Runnable callback) {
        try {
            if (callback != null) {
                callback.run();
            }
        } catch (RuntimeException | Error error) {
            LOG.error("the link's thread goes on after a defect", error);
        }
    }
}
