"""`python -m amx_server.cli` is `amx`."""

from amx_server.cli import main

main()
