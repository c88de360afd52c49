"""Benchmarks of AMX Engine against bounds it must reach and against other systems in the same run. See README.md."""
