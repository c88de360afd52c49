"""The agent virtual machine, run and measured: many agents on one engine in one process, and beside it one process
each. `amx vm` shows it; docs/agent-vm.md explains it.
"""
