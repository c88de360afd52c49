"""Durable state behind one interface; SQLite is the embedded store."""
