package com.aimatrix.engine.spec;

import java.util.concurrent.Flow;

/**
 * A publisher of chunks that always says its end, with `onError` or `onComplete`, also when it was cancelled: its handler
 * has ended then and not before, so that nothing it does last meets the next handler of its instance.
 */
public interface ChunkSource extends Flow.Publisher<Object> {}
