"""The testee of the Python SDK: `python -m conformance.testees.python --stdio` or `--connect host:port`."""
