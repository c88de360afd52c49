"""structlog, without rich: it takes that along wherever it is installed, for tracebacks that are not written here, and
every engine would hold 3.5 MB for it.
"""

from __future__ import annotations

import sys

_NONE = object()
_rich = sys.modules.get("rich", _NONE)
sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog as structlog
finally:
    if _rich is _NONE:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich  # type: ignore[assignment]
