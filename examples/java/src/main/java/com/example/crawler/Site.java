package com.example.crawler;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.MessageOptions;
import java.net.URI;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/** One site's crawl: which pages are known, which are still out. Its key is the host with its port. */
@Agent(name = "Site")
public class Site {
    /** Pages of a site are fetched by so many instances, one page at a time each: no site is asked more at once. */
    static final int FETCHERS = 4;

    /** What is told when the last page is in. broken: reasons by address. */
    record Report(String host, int pages, Map<String, String> broken) {}

    /** What a page turned out to be. */
    record Fetched(URI page, List<URI> links) {}

    /** What could not be had. */
    record Failed(URI page, String reason) {}

    @Memory(persistent = true)
    private Set<URI> seen = new HashSet<>();

    @Memory(persistent = true)
    private Set<URI> open = new HashSet<>();

    @Memory(persistent = true)
    private Map<URI, String> broken = new HashMap<>();

    @Handler
    void crawl(URI start, Context context) {
        seen.clear();
        open.clear();
        broken.clear();
        visit(start, context);
    }

    @Handler
    void fetched(Fetched page, Context context) {
        for (URI link : page.links()) {
            if (context.key().equals(link.getAuthority())) {
                visit(link, context);
            }
        }
        ended(page.page(), context);
    }

    @Handler
    void failed(Failed page, Context context) {
        broken.put(page.page(), page.reason());
        ended(page.page(), context);
    }

    @Handler(concurrent = true)
    Report report(Context context) {
        Map<String, String> reasons = new TreeMap<>();
        broken.forEach((page, reason) -> reasons.put(page.getPath(), reason));
        return new Report(context.key(), seen.size() - broken.size(), reasons);
    }

    private void visit(URI page, Context context) {
        if (seen.add(page)) {
            open.add(page);
            int fetcher = Math.floorMod(page.hashCode(), FETCHERS);
            context.send("Fetcher/" + context.key() + "-" + fetcher, page, new MessageOptions().handler("fetch"));
        }
    }

    private void ended(URI page, Context context) {
        if (open.remove(page) && open.isEmpty()) {
            context.publish("crawls.done", report(context));
        }
    }
}
