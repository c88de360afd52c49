"""Testees: one small program per language that hosts the fixtures."""
