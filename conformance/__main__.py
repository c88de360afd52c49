"""`python -m conformance`: lists and runs the cases. See README.md."""

from __future__ import annotations

import sys

from conformance.runner.cli import main

if __name__ == "__main__":
    sys.exit(main())
