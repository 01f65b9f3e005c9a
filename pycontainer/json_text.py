"""JSON without the `json` package, whose import (re, enum, functools) costs a third of what starting a container may.

The parser is the interpreter's own C scanner, the one that `json` uses; nothing is parsed by hand.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_MAX_DIGITS = 4000  # of an integer; the interpreter itself refuses a few more


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of more than {_MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:  # 1e999 becomes an infinity, which JSON cannot hold and nobody could write again
        raise ValueError("a number out of range")
    return value


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_finite)
    parse_int = staticmethod(_integer)
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> object:
        raise ValueError(f"{name} is not JSON")


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]
_SPACE = " \t\r\n"


def loads(text: str) -> Any:
    """Parse a JSON document. Raises ValueError."""
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        try:
            value, end = _scan(text, start)
        except SystemError:
            # because the scanner words its errors with json.decoder, and where nobody imported that, it raises nothing
            import json.decoder  # noqa: F401

            value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"a value is missing at character {stop.value}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text[end:].strip(_SPACE):
        raise ValueError(f"extra text at character {end}")
    return value


def dumps(value: object) -> str:
    """Write what JSON can hold: None, bool, int, str, list, and dict with string keys. Raises TypeError."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        text: str = _json.encode_basestring_ascii(value)
        return text
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"not JSON: a key that is no string in {value!r}")
        return "{" + ",".join(f"{dumps(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"not JSON: {value!r}")


def pretty(value: object, indent: str = "") -> str:
    """The same for people: an entry a line, each level four spaces further in. Raises TypeError."""
    if not value or not isinstance(value, (dict, list, tuple)):
        return dumps(value)
    inner = f"{indent}    "
    if isinstance(value, dict):
        opened, closed = "{", "}"
        entries = [f"{dumps(key)}: {pretty(item, inner)}" for key, item in value.items()]
    else:
        opened, closed = "[", "]"
        entries = [pretty(item, inner) for item in value]
    lines = f",\n{inner}".join(entries)
    return f"{opened}\n{inner}{lines}\n{indent}{closed}"
