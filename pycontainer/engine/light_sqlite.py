"""SQLite's C module `_sqlite3` as `sqlite`, without all that it takes with it.

Not `sqlite3`, which adds adapters for dates, that nobody uses here, and 3 ms to every command. And `_sqlite3` imports
functools, and that collections, for one function that caches compiled statements: 3 ms more. It gets that function by
itself, of the same C code.
"""

from __future__ import annotations

import _functools  # type: ignore[import-not-found]
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Functools:
    """As much of functools as is wanted."""

    @staticmethod
    def lru_cache(maxsize: int) -> Callable[[Callable[..., Any]], Any]:
        return lambda function: _functools._lru_cache_wrapper(function, maxsize, False, tuple)


if "functools" in sys.modules or "_sqlite3" in sys.modules:
    import _sqlite3 as sqlite
else:
    sys.modules["functools"] = _Functools  # type: ignore[assignment]
    try:
        import _sqlite3 as sqlite
    finally:
        # Whoever wants it from here on gets the real one.
        del sys.modules["functools"]

__all__ = ["sqlite"]
