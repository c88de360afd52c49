"""The conformance suite: one corpus of cases that holds the engine and every SDK to docs/protocol.md. See README.md."""
