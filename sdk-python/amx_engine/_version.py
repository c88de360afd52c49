"""The version of this SDK."""

from __future__ import annotations

VERSION = "0.1.0"
"""As in pyproject.toml; reading it from the installed package would load a megabyte of libraries."""
