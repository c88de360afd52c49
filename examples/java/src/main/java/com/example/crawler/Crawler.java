package com.example.crawler;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Events;
import com.aimatrix.engine.MessageOptions;
import java.io.IOException;
import java.net.URI;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;

/**
 * Crawls a site and searches it: {@code java -cp examples/java/target/examples.jar com.example.crawler.Crawler}, with an
 * engine at localhost:9090 (`amx dev`), and the address of a site, or else a small one on this machine.
 */
public final class Crawler {
    private Crawler() {}

    /**
     * Crawls, reports, searches.
     *
     * @param arguments the address of a page, and what to search for; nothing: the demo site
     * @throws IOException the demo site cannot be served
     */
    public static void main(String[] arguments) throws IOException {
        try (DemoSite site = new DemoSite();
                AmxEngine engine =
                        AmxEngine.builder()
                                .withAgent(Site.class)
                                .withAgent(Fetcher.class)
                                .withAgent(Index.class)
                                .build()
                                .start()) {
            URI start = arguments.length > 0 ? URI.create(arguments[0]) : site.home();
            String query = arguments.length > 1 ? arguments[1] : "an engine";
            Site.Report report = crawl(engine, start);
            System.out.println(report.pages() + " pages");
            report.broken().forEach((page, reason) -> System.out.println("broken: " + page + " (" + reason + ")"));
            search(engine, start.getAuthority(), query).join();
        }
    }

    /** Starts a crawl, and waits for its end. Who starts it may go away: it goes on wherever its agents are hosted. */
    static Site.Report crawl(AmxEngine engine, URI start) {
        try (Events done = engine.subscribe("crawls.done", "")) {
            engine.send("Site/" + start.getAuthority(), start, new MessageOptions().handler("crawl"));
            while (true) {
                Site.Report report = done.next().content(Site.Report.class);
                if (report.host().equals(start.getAuthority())) {
                    return report;
                }
            }
        }
    }

    /** Prints what is found, as it arrives. */
    private static CompletableFuture<Void> search(AmxEngine engine, String host, String query) {
        CompletableFuture<Void> done = new CompletableFuture<>();
        engine.stream("Index/" + host, query, Index.Hit.class, new MessageOptions().handler("search"))
                .subscribe(
                        new Flow.Subscriber<>() {
                            @Override
                            public void onSubscribe(Flow.Subscription subscription) {
                                subscription.request(Long.MAX_VALUE);
                            }

                            @Override
                            public void onNext(Index.Hit hit) {
                                System.out.println("\"" + query + "\" is on " + hit.path() + ", " + hit.title());
                            }

                            @Override
                            public void onError(Throwable error) {
                                done.completeExceptionally(error);
                            }

                            @Override
                            public void onComplete() {
                                done.complete(null);
                            }
                        });
        return done;
    }
}
