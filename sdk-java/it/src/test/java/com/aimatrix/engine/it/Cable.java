package com.aimatrix.engine.it;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

/** Passes bytes on between a process and an engine, until it is cut, or goes dead without a word. */
final class Cable implements AutoCloseable {
    private final ServerSocket server;
    private final String host;
    private final int port;
    private final AtomicInteger connected = new AtomicInteger();
    private final Set<Line> lines = ConcurrentHashMap.newKeySet();

    /** Two sockets that are one connection. */
    private static final class Line {
        final Socket near;
        final Socket far;
        volatile boolean dead;

        Line(Socket near, Socket far) {
            this.near = near;
            this.far = far;
        }
    }

    /** A cable to that address. */
    Cable(String address) throws IOException {
        int colon = address.lastIndexOf(':');
        host = address.substring(0, colon);
        port = Integer.parseInt(address.substring(colon + 1));
        server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        start(this::accept);
    }

    String address() {
        return "127.0.0.1:" + server.getLocalPort();
    }

    /** Connections there have been. */
    int connected() {
        return connected.get();
    }

    /** Ends every connection; new ones get through. */
    void cut() {
        lines.forEach(Cable::end);
    }

    /** What is said on the connections there are now arrives nowhere, and nobody is told. New ones get through. */
    void deaden() {
        lines.forEach(line -> line.dead = true);
    }

    @Override
    public void close() throws IOException {
        server.close();
        cut();
    }

    private void accept() {
        while (true) {
            Socket near;
            try {
                near = server.accept();
            } catch (IOException closed) {
                return;
            }
            try {
                Line line = new Line(near, new Socket(host, port));
                lines.add(line);
                connected.incrementAndGet();
                start(() -> pass(line, line.near, line.far));
                start(() -> pass(line, line.far, line.near));
            } catch (IOException refused) {
                quietly(near);
            }
        }
    }

    private void pass(Line line, Socket from, Socket to) {
        byte[] buffer = new byte[65_536];
        try {
            InputStream in = from.getInputStream();
            OutputStream out = to.getOutputStream();
            int count;
            while ((count = in.read(buffer)) >= 0) {
                if (!line.dead) {
                    out.write(buffer, 0, count);
                }
            }
            if (line.dead) {
                return; // the other side does not hear of it either
            }
        } catch (IOException over) {
            // the other direction ends with this one
        }
        lines.remove(line);
        end(line);
    }

    private static void end(Line line) {
        quietly(line.near);
        quietly(line.far);
    }

    private static void quietly(Socket socket) {
        try {
            socket.close();
        } catch (IOException gone) {
            // that was the aim
        }
    }

    private static void start(Runnable work) {
        Thread thread = new Thread(work, "cable");
        thread.setDaemon(true);
        thread.start();
    }
}
