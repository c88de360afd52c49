"""The `amx` command: one file a group of commands; what they share is in command.py, client.py and output.py."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `amx` command."""
    from amx_server.cli.app import run

    run()
