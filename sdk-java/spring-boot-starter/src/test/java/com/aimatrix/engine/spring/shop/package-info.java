/** The specification's RecommendationAgent, in an application of its own: what it recommends, and from where. */
package com.aimatrix.engine.spring.shop;
