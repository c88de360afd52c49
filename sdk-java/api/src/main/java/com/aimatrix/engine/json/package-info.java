/** JSON with one meaning in every language: strict both ways, by the types that are declared; payloads; JSON Schema. */
package com.aimatrix.engine.json;
