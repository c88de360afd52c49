package com.aimatrix.engine;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/** What a stage sees of its run. */
public final class PipelineContext {
    private final String pipeline;
    private final Context invocation;
    private final Object input;
    private final Map<String, Object> results = new LinkedHashMap<>();
    private Object previous;
    private String stage = "";

    PipelineContext(String pipeline, Context invocation, Object input) {
        this.pipeline = pipeline;
        this.invocation = invocation;
        this.input = input;
        this.previous = input;
    }

    void begin(String name) {
        stage = name;
    }

    void ended(Object result) {
        results.put(stage, result);
        previous = result;
    }

    /**
     * Name of the pipeline.
     *
     * @return never empty
     */
    public String pipeline() {
        return pipeline;
    }

    /**
     * The invocation: its message, and what may be staged and called.
     *
     * @return its context
     */
    public Context invocation() {
        return invocation;
    }

    /**
     * Content of the message that started the run.
     *
     * @return null: none
     */
    public Object input() {
        return input;
    }

    /**
     * What the stage before returned.
     *
     * @return the input, for the first
     */
    public Object previousResult() {
        return previous;
    }

    /**
     * What each stage returned.
     *
     * @return in order; unmodifiable
     */
    public Map<String, Object> results() {
        return Collections.unmodifiableMap(results);
    }

    /**
     * The running stage, or the one that failed.
     *
     * @return its name
     */
    public String currentStage() {
        return stage;
    }
}
