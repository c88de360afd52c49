package com.aimatrix.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class HandlerPoolTest {
    private static final long NEVER = Long.MAX_VALUE; // the tests look themselves
    private HandlerPool pool = new HandlerPool(64, 2, NEVER);
    private final Semaphore started = new Semaphore(0);
    private final CountDownLatch go = new CountDownLatch(1);

    @AfterEach
    void nobody_is_left_and_the_count_is_right() throws InterruptedException {
        go.countDown();
        pool.shutdown();
        assertTrue(pool.awaitTermination(30, TimeUnit.SECONDS));
        assertTrue(pool.isTerminated());
        assertEquals(0, pool.quick());
    }

    private void block() {
        Blocking task =
                () -> {
                    started.release();
                    go.await();
                };
        pool.execute(task);
    }

    private interface Blocking extends Runnable {
        void work() throws InterruptedException;

        @Override
        default void run() {
            try {
                work();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }
    }

    @Test
    void no_more_threads_than_processors_work_while_tasks_are_quick() throws Exception {
        Set<Thread> threads = ConcurrentHashMap.newKeySet();
        CountDownLatch done = new CountDownLatch(20_000);
        for (int task = 0; task < 20_000; task++) {
            pool.execute(
                    () -> {
                        threads.add(Thread.currentThread());
                        done.countDown();
                    });
        }
        done.await();
        assertTrue(threads.size() <= 2, () -> threads.size() + " threads");
    }

    @Test
    void a_task_that_waits_behind_long_ones_runs_once_they_are_seen_to_be_long() throws Exception {
        block();
        block();
        started.acquire(2);
        CountDownLatch third = new CountDownLatch(1);
        pool.execute(third::countDown);
        pool.look(true); // they may have begun just now
        assertEquals(1, third.getCount());
        pool.look(true);
        third.await();
    }

    @Test
    void a_burst_of_long_tasks_has_its_threads_after_a_few_looks() throws Exception {
        for (int task = 0; task < 64; task++) {
            block();
        }
        int running = 2;
        started.acquire(2);
        pool.look(true);
        for (int looks = 0; looks < 5; looks++) {
            pool.look(true); // 2, 4, 8, 16, 32 more
            started.acquire(running);
            running *= 2;
            pool.look(true);
        }
        assertEquals(64, running);
    }

    @Test
    void a_task_that_waits_for_a_call_counts_as_long_at_once() throws Exception {
        CompletableFuture<String> reply = new CompletableFuture<>();
        CompletableFuture<String> said = new CompletableFuture<>();
        pool.execute(() -> said.complete(Calls.await(reply)));
        block();
        started.acquire();
        pool.execute(() -> reply.complete("answered"));
        assertEquals("answered", said.get());
    }

    @Test
    void tasks_wait_for_a_thread_when_all_there_may_be_are_long() throws Exception {
        pool.shutdown();
        pool = new HandlerPool(3, 2, NEVER);
        Semaphore done = new Semaphore(0);
        for (int task = 0; task < 10; task++) {
            block();
        }
        pool.execute(done::release);
        started.acquire(2);
        pool.look(true);
        pool.look(true);
        started.acquire();
        pool.look(true);
        pool.look(true);
        assertEquals(0, done.availablePermits());
        go.countDown();
        done.acquire();
        started.acquire(7);
    }

    @Test
    void a_task_that_fails_leaves_its_thread_to_the_next() throws Exception {
        CountDownLatch told = new CountDownLatch(2);
        pool.execute(
                () -> {
                    Thread.currentThread().setUncaughtExceptionHandler((thread, error) -> told.countDown());
                    throw new IllegalStateException("a defect");
                });
        pool.execute(
                () -> {
                    Thread.currentThread().setUncaughtExceptionHandler((thread, error) -> told.countDown());
                    throw new AssertionError("another");
                });
        told.await();
        CountDownLatch done = new CountDownLatch(1);
        pool.execute(done::countDown);
        done.await();
    }

    @Test
    void an_interrupt_that_comes_late_does_not_end_a_thread_that_rests() throws Exception {
        CompletableFuture<Thread> first = new CompletableFuture<>();
        pool.execute(() -> first.complete(Thread.currentThread()));
        first.get().interrupt();
        CountDownLatch done = new CountDownLatch(1);
        pool.execute(done::countDown);
        done.await();
    }

    @Test
    void quick_and_long_tasks_under_a_watch_that_looks_all_the_time_are_all_done() throws Exception {
        pool.shutdown();
        pool = new HandlerPool(16, 2, 1_000);
        int count = 20_000;
        CountDownLatch done = new CountDownLatch(count);
        Semaphore passes = new Semaphore(0);
        for (int number = 0; number < count; number++) {
            Blocking task =
                    number % 100 == 0
                            ? passes::acquire // until one of the next has come
                            : number % 100 == 99 ? passes::release : () -> Thread.onSpinWait();
            pool.execute(
                    () -> {
                        task.run();
                        done.countDown();
                    });
        }
        done.await();
    }
}
