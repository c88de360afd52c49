package com.aimatrix.engine.spring;

import com.aimatrix.engine.spec.AgentSpec;
import java.util.function.UnaryOperator;

/** Stands before the agents of an application. */
interface AgentDecorator extends UnaryOperator<AgentSpec> {}
