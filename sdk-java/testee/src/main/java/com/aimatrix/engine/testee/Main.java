package com.aimatrix.engine.testee;

/** The testee of the Java SDK. */
public final class Main {
    private Main() {}

    /**
     * Runs until it is stopped.
     *
     * @param arguments see conformance/README.md, "Testees"
     * @throws Exception what cannot be helped
     */
    public static void main(String[] arguments) throws Exception {
        Testee.run(arguments, Fixtures::all);
    }
}
