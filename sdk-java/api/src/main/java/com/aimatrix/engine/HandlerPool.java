package com.aimatrix.engine;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.AbstractExecutorService;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Threads for handlers that may block, where the JVM has no virtual ones. As many work as there are processors: a
 * message handed from thread to thread costs more than most handlers. Those that are long at one task do not count: for
 * them others step in, up to a bound; then tasks wait.
 *
 * <p>Who is long at a task is looked at in regular intervals while tasks wait. As long as they do, the number of threads
 * doubles with each look: a burst of handlers that block has its threads after a few.
 */
final class HandlerPool extends AbstractExecutorService {
    private static final long IDLE_NS = TimeUnit.SECONDS.toNanos(30);
    private static final int QUIET_LOOKS = 50; // without a waiting task, until the watch rests

    private final int most;
    private final int processors;
    private final long lookNs;
    private final ConcurrentLinkedQueue<Runnable> tasks = new ConcurrentLinkedQueue<>();
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition ended = lock.newCondition();
    // Changes under the lock. Who adds a task reads it after that, who goes idle changes it before a last look at tasks.
    private volatile int quick; // workers that have a task, or look for one, and are not long at it
    private volatile boolean shut;
    private volatile boolean watching; // the watch does not rest
    // Under the lock:
    private final ArrayDeque<Worker> idle = new ArrayDeque<>(); // the last to rest is the first to work
    private final List<Worker> workers = new ArrayList<>();
    private Thread watch; // made with the first task that waits
    private int made;

    /**
     * most: threads, whatever handlers do. processors: how many that are quick work at a time. lookNs: nanoseconds from
     * one look at who is long to the next.
     */
    HandlerPool(int most, int processors, long lookNs) {
        this.most = most;
        this.processors = Math.min(most, processors);
        this.lookNs = lookNs;
    }

    private final class Worker extends Thread {
        private volatile long turn; // even: without a task; written by itself only
        private volatile boolean longAtIt; // changes under the lock: it is not counted as quick
        private long seen; // the watch's: turn at its last look
        private boolean called; // under the lock: is to look for a task
        private final Condition call = lock.newCondition();

        Worker(int number) {
            super("amx-handler-" + number);
            setDaemon(true);
        }

        void leaves() {
            leave(this);
        }

        @Override
        public void run() {
            while (true) {
                Runnable task = tasks.poll();
                if (task == null) {
                    task = rest(this);
                    if (task == null) {
                        return;
                    }
                }
                turn++;
                try {
                    task.run();
                } catch (Throwable error) {
                    getUncaughtExceptionHandler().uncaughtException(this, error);
                }
                turn++;
                if (longAtIt) {
                    back(this);
                }
            }
        }
    }

    @Override
    public void execute(Runnable task) {
        if (shut) {
            return; // the link is over: nobody waits for what it would do
        }
        tasks.add(task);
        if (quick < processors) {
            lock.lock();
            try {
                if (quick < processors && !tasks.isEmpty()) {
                    call(1);
                }
            } finally {
                lock.unlock();
            }
        } else if (!watching) {
            startWatch();
        }
    }

    /** Puts so many more to work, as far as there may be. Under the lock. */
    private void call(int count) {
        for (int more = 0; more < count; more++) {
            Worker worker = idle.pollLast();
            if (worker != null) {
                quick++;
                worker.called = true;
                worker.call.signal();
            } else if (workers.size() < most) {
                quick++;
                made++;
                Worker next = new Worker(made);
                workers.add(next);
                next.start();
            } else {
                return;
            }
        }
    }

    /** A worker found no task: it waits for one. Null: it is to end. */
    private Runnable rest(Worker worker) {
        lock.lock();
        try {
            if (worker.longAtIt) {
                worker.longAtIt = false; // marked after its task had ended
                quick++;
            }
            while (true) {
                quick--;
                Runnable task = tasks.poll();
                if (task != null) {
                    quick++;
                    return task;
                }
                if (!called(worker)) {
                    return null;
                }
                task = tasks.poll();
                if (task != null) {
                    return task;
                }
            }
        } finally {
            lock.unlock();
        }
    }

    /** Waits until it is put to work, and is counted as quick again; false: it was not, and has left. Under the lock. */
    private boolean called(Worker worker) {
        long left = IDLE_NS;
        worker.called = false;
        idle.addLast(worker);
        while (!worker.called) {
            if (shut || left <= 0) {
                idle.remove(worker);
                workers.remove(worker);
                if (workers.isEmpty()) {
                    ended.signalAll();
                }
                return false;
            }
            try {
                left = worker.call.awaitNanos(left);
            } catch (InterruptedException late) {
                continue; // it was meant for a handler that has ended
            }
        }
        return true;
    }

    /** It was long at a task, which has ended. */
    private void back(Worker worker) {
        lock.lock();
        try {
            worker.longAtIt = false;
            quick++;
        } finally {
            lock.unlock();
        }
    }

    /** The calling thread is about to block. Does nothing if it is not one of a pool's. */
    static void blocks() {
        if (Thread.currentThread() instanceof Worker worker) {
            worker.leaves();
        }
    }

    private void leave(Worker worker) {
        lock.lock();
        try {
            if (!worker.longAtIt) {
                worker.longAtIt = true;
                quick--;
                if (quick < processors && !tasks.isEmpty()) {
                    call(1);
                }
            }
        } finally {
            lock.unlock();
        }
    }

    // --- the watch ---------------------------------------------------------------------------------------------------

    private void startWatch() {
        lock.lock();
        try {
            if (watching || shut) {
                return;
            }
            watching = true;
            if (watch == null) {
                watch = new Thread(this::watch, "amx-handler-watch");
                watch.setDaemon(true);
                watch.start();
            } else {
                LockSupport.unpark(watch);
            }
        } finally {
            lock.unlock();
        }
    }

    private void watch() {
        int quiet = 0;
        while (!shut) {
            if (!watching) {
                LockSupport.park(this);
                continue;
            }
            LockSupport.parkNanos(this, lookNs);
            boolean waiting = !tasks.isEmpty();
            quiet = waiting ? 0 : quiet + 1;
            look(waiting);
            if (quiet >= QUIET_LOOKS) {
                quiet = 0;
                watching = false;
                if (!tasks.isEmpty()) {
                    watching = true; // it came just now, and relies on this
                }
            }
        }
    }

    /** Finds who has been at one task since the last look, and puts others in their places if tasks wait. */
    void look(boolean waiting) {
        lock.lock();
        try {
            int absent = 0;
            for (Worker worker : workers) {
                long turn = worker.turn;
                if ((turn & 1) == 1) {
                    if (!worker.longAtIt && turn == worker.seen) {
                        worker.longAtIt = true;
                        quick--;
                    }
                    absent += worker.longAtIt ? 1 : 0;
                }
                worker.seen = turn;
            }
            if (waiting && quick < processors) {
                call(Math.max(processors - quick, absent));
            }
        } finally {
            lock.unlock();
        }
    }

    /** How many are counted as quick. */
    int quick() {
        return quick;
    }

    // --- the end -----------------------------------------------------------------------------------------------------

    @Override
    public void shutdown() {
        lock.lock();
        try {
            shut = true;
            idle.forEach(worker -> worker.call.signal());
            LockSupport.unpark(watch);
        } finally {
            lock.unlock();
        }
    }

    @Override
    public List<Runnable> shutdownNow() {
        shutdown();
        List<Runnable> left = new ArrayList<>();
        for (Runnable task = tasks.poll(); task != null; task = tasks.poll()) {
            left.add(task);
        }
        lock.lock();
        try {
            workers.forEach(Thread::interrupt);
        } finally {
            lock.unlock();
        }
        return left;
    }

    @Override
    public boolean isShutdown() {
        return shut;
    }

    @Override
    public boolean isTerminated() {
        lock.lock();
        try {
            return shut && workers.isEmpty();
        } finally {
            lock.unlock();
        }
    }

    @Override
    public boolean awaitTermination(long timeout, TimeUnit unit) throws InterruptedException {
        long left = unit.toNanos(timeout);
        lock.lock();
        try {
            while (!shut || !workers.isEmpty()) {
                if (left <= 0) {
                    return false;
                }
                left = ended.awaitNanos(left);
            }
            return true;
        } finally {
            lock.unlock();
        }
    }
}
