package com.example.crawler;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/** A small site on this machine: one of its links is broken, and one page is in trouble when it is first asked for. */
final class DemoSite implements AutoCloseable {
    private static final Map<String, String> PAGES =
            Map.of(
                    "/", page("Home", "An engine for agents.", "/agents", "/memory", "/nowhere", "https://example.org/"),
                    "/agents", page("Agents", "An agent is a class. An engine hosts many an agent.", "/", "/memory"),
                    "/memory", page("Memory", "What an agent remembers, the engine stores.", "/agents", "/delivery"),
                    "/delivery", page("Delivery", "Every message takes effect once.", "/", "guide/start"),
                    "/guide/start", page("Start", "Write an agent, and start an engine.", "../memory"));

    private final HttpServer server;
    private final AtomicBoolean troubled = new AtomicBoolean(true);

    DemoSite() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", this::answer);
        server.start();
    }

    URI home() {
        return URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/");
    }

    private void answer(HttpExchange exchange) throws IOException {
        String path = exchange.getRequestURI().getPath();
        String page = PAGES.get(path);
        int status = page == null ? 404 : path.equals("/memory") && troubled.getAndSet(false) ? 503 : 200;
        byte[] body = (status == 200 ? page : "no such luck").getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    private static String page(String title, String text, String... links) {
        StringBuilder page = new StringBuilder("<html><head><title>" + title + "</title></head><body><p>" + text + "</p>");
        for (String link : links) {
            page.append("<a href=\"").append(link).append("\">more</a>");
        }
        return page.append("</body></html>").toString();
    }

    @Override
    public void close() {
        server.stop(0);
    }
}
