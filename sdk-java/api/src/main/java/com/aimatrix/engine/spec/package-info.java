/**
 * A compiled agent: the interface between writing agents (annotations, memories, contexts) and hosting them. Authoring
 * makes an AgentSpec; the host runs handlers on it and knows nothing of classes, schemas or tracked memory.
 */
package com.aimatrix.engine.spec;
