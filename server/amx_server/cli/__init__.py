"""The `amx` command."""
