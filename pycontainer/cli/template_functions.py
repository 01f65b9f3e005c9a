"""The functions of templates, and how Go writes values."""

from __future__ import annotations

from pycontainer import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NO_VALUE = "<no value>"
_FLAGS = "+-# 0"


def text(value: Any) -> str:
    """As Go's %v, of the value of an action."""
    return NO_VALUE if value is None else _inner(value)


def _inner(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, dict):
        pairs = sorted((key, item) for key, item in value.items() if not callable(item))
        return f"map[{' '.join(f'{key}:{_inner(item)}' for key, item in pairs)}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_inner, value))}]"
    return str(value)


def type_name(value: Any) -> str:
    """Go's name of its type, for errors."""
    names = {bool: "bool", int: "int", float: "float64", str: "string", type(None): "nil"}
    names |= {dict: "map[string]interface {}", list: "[]interface {}"}
    return names.get(type(value), type(value).__name__)


def truth(value: Any) -> bool:
    """What `if` makes of it: false, 0, nothing and what is empty are false."""
    return bool(value)


def _json(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not callable(item)}
    return json_text.dumps(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _title(value: Any) -> str:
    letters = _string(value)
    return "".join(
        letter.upper() if not (before.isalnum() or before in "_'") else letter
        for before, letter in zip(" " + letters, letters, strict=False)
    )


def _join(items: Any, separator: str) -> str:
    if not isinstance(items, (list, tuple)):
        raise TypeError(f"wrong type for value; expected []string; got {type_name(items)}")
    return _string(separator).join(map(_string, items))


def _split(value: str, separator: str) -> list[str]:
    return _string(value).split(separator) if separator else list(_string(value))


def _pad(value: str, before: int, after: int) -> str:
    return " " * before + _string(value) + " " * after if value else value


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode(errors="surrogateescape"))
    if not isinstance(value, (dict, list, tuple)):
        raise TypeError(f"len of type {type_name(value)}")
    return len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            # Where all are texts it is a map of them, and then Go has an empty one for what is not there.
            absent = "" if all(isinstance(item, str) for item in value.values()) else None
            value = value.get(_string(key), absent)
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TypeError(f"cannot index slice/array with type {type_name(key)}")
            items = value.encode(errors="surrogateescape") if isinstance(value, str) else value
            if not 0 <= key < len(items):
                raise TypeError(f"index out of range: {key}")
            value = items[key]
        else:
            raise TypeError("index of untyped nil" if value is None else f"can't index item of type {type_name(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    if not isinstance(value, (str, list, tuple)):
        raise TypeError(f"can't slice item of type {type_name(value)}")
    items = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    start, end = (*bounds, *(0, len(items))[len(bounds) :])[:2]
    if len(bounds) > 2 or not 0 <= start <= end <= len(items):
        raise TypeError(f"index out of range: {' '.join(map(str, bounds))}")
    part = items[start:end]
    return part.decode(errors="surrogateescape") if isinstance(part, bytes) else part


def _kind(value: Any) -> str:
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type_name(value)


def _same(one: Any, other: Any) -> bool:
    if one is not None and other is not None and _kind(one) != _kind(other):
        raise TypeError("incompatible types for comparison")
    return bool(one == other)


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _order(one: Any, other: Any) -> int:
    if _kind(one) != _kind(other):
        raise TypeError("incompatible types for comparison")
    if _kind(one) not in ("number", "string"):
        raise TypeError("invalid type for comparison")
    return int(one > other) - int(one < other)


def _print(*values: Any) -> str:
    """Go's Sprint: a space between two of which none is a text."""
    written = ""
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            written += " "
        written += _inner(value)
    return written


def _println(*values: Any) -> str:
    return " ".join(map(_inner, values)) + "\n"


def quote(value: str) -> str:
    """As Go's %q."""
    letters = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b"}
    letters |= {"\f": "\\f", "\v": "\\v"}
    return '"' + "".join(letters.get(c) or (c if c.isprintable() else _code(c)) for c in value) + '"'


def _code(character: str) -> str:
    number = ord(character)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _printf(pattern: str, *values: Any) -> str:
    rest, left, written = _string(pattern), list(values), ""
    while rest:
        before, percent, rest = rest.partition("%")
        written += before
        if not percent:
            break
        after = rest.lstrip(_FLAGS)
        flags, rest = rest[: len(rest) - len(after)], after
        after = rest.lstrip("0123456789.")
        size, rest = rest[: len(rest) - len(after)], after
        verb, rest = rest[:1], rest[1:]
        if verb == "%":
            written += "%"
        elif not verb:
            written += "%!(NOVERB)"
        elif not left:
            written += f"%!{verb}(MISSING)"
        else:
            written += _padded(_verb(verb, left.pop(0), size.partition(".")[2], flags), size.partition(".")[0], flags)
    if left:
        written += f"%!(EXTRA {', '.join(f'{type_name(value)}={_inner(value)}' for value in left)})"
    return written


def _verb(verb: str, value: Any, precision: str, flags: str) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = number and isinstance(value, int)
    if verb == "s" and not number and not isinstance(value, bool) and value is not None:
        shown = _inner(value)
        return shown[: int(precision)] if precision else shown
    if verb == "v":
        return _inner(value)
    if verb == "q" and isinstance(value, (str, list)):
        return quote(value) if isinstance(value, str) else f"[{' '.join(quote(_inner(item)) for item in value)}]"
    if (verb == "d" and whole) or (verb == "t" and isinstance(value, bool)):
        return f"+{value}" if "+" in flags and whole and value >= 0 else _inner(value)
    if verb in "xX" and (whole or isinstance(value, str)):
        shown = f"{value:x}" if whole else value.encode(errors="surrogateescape").hex()
        return shown.upper() if verb == "X" else shown
    if verb in "feg" and isinstance(value, float):
        return f"{value:.{precision or 6}{verb}}" if precision or verb != "g" else _inner(value)
    return f"%!{verb}(<nil>)" if value is None else f"%!{verb}({type_name(value)}={_inner(value)})"


def _padded(shown: str, width: str, flags: str) -> str:
    size = min(int(width or 0), 1000)
    if "-" in flags:
        return shown.ljust(size)
    return shown.zfill(size) if "0" in flags else shown.rjust(size)


# Each raises TypeError for arguments that it does not understand. `and` and `or` are not here: they do not look at all
# of theirs.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "upper": lambda value: _string(value).upper(),
    "lower": lambda value: _string(value).lower(),
    "title": _title,
    "join": _join,
    "split": _split,
    "truncate": lambda value, length: _string(value)[:length],
    "pad": _pad,
    "print": _print,
    "println": _println,
    "printf": _printf,
    "len": _len,
    "index": _index,
    "slice": _slice,
    "eq": _eq,
    "ne": lambda one, other: not _same(one, other),
    "lt": lambda one, other: _order(one, other) < 0,
    "le": lambda one, other: _order(one, other) <= 0,
    "gt": lambda one, other: _order(one, other) > 0,
    "ge": lambda one, other: _order(one, other) >= 0,
    "not": lambda value: not truth(value),
}
