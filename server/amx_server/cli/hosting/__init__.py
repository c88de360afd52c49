"""Agents that an engine process hosts itself: from modules, in its own loop and in helper processes."""
