/** Agents as beans of a Spring Boot application: configuration, life, health and metrics of its AmxEngine. */
package com.aimatrix.engine.spring;
