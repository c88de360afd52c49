package com.example.crawler;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Capability;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.Retry;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Fetches pages, blocking, and tells their site and the index what is in them. */
@Agent(name = "Fetcher")
public class Fetcher {
    private static final int ATTEMPTS = 4;
    private static final Pattern LINK = Pattern.compile("href=\"([^\"#]+)");
    private static final Pattern TITLE = Pattern.compile("<title>(.*?)</title>", Pattern.DOTALL);
    private static final Pattern TAG = Pattern.compile("<[^>]*>");

    @Capability
    private HttpClient http = HttpClient.newHttpClient();

    /** A server that is in trouble is asked again, later; what it sent is told with the commit, once. */
    @Handler(timeout = "10s", retry = @Retry(attempts = ATTEMPTS, initial = "100ms"))
    void fetch(URI page, Context context) throws IOException, InterruptedException {
        String site = "Site/" + page.getAuthority();
        HttpResponse<String> response = http.send(HttpRequest.newBuilder(page).build(), HttpResponse.BodyHandlers.ofString());
        int status = response.statusCode();
        if (status >= 500 && context.attempt() < ATTEMPTS) {
            throw new IOException(page + " answers with " + status);
        }
        if (status != 200) {
            context.send(site, new Site.Failed(page, "HTTP " + status), new MessageOptions().handler("failed"));
            return;
        }
        String text = response.body();
        List<URI> links = LINK.matcher(text).results().map(link -> page.resolve(link.group(1))).distinct().toList();
        Matcher title = TITLE.matcher(text);
        String name = title.find() ? title.group(1).strip() : page.getPath();
        context.send(
                "Index/" + page.getAuthority(),
                new Index.Document(page.getPath(), name, TAG.matcher(text).replaceAll(" ")),
                new MessageOptions().handler("add"));
        context.send(site, new Site.Fetched(page, links), new MessageOptions().handler("fetched"));
    }
}
