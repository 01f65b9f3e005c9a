"""Numbers as the options write them: sizes and counts."""

from __future__ import annotations

from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def optional(parse: Any, flag: str, text: str | None) -> Any:
    return None if text is None else parse(flag, text)


def parse_size(flag: str, text: str) -> int:
    """Bytes from "64m", "1.5g", "512k", "1048576" or "-1", as docker reads them: units of 1,024. Raises UsageError."""
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    factor = 1
    if number[-1:] in ("k", "m", "g", "t", "p"):
        factor = 1024 ** ("kmgtp".index(number[-1]) + 1)
        number = number[:-1]
    try:
        if number == "-1" and factor == 1:
            return -1
        if not number[:1].isdigit() or set(number) - set("0123456789."):
            raise ValueError
        return int(number) * factor if number.isdigit() else int(float(number) * factor)
    except (ValueError, OverflowError):
        raise UsageError(flag, repr(text), "not a size", "write a number with k, m or g, such as 64m or 1.5g") from None


def format_size(size: int) -> str:
    """Bytes as `parse_size` reads them, with three significant digits: "64m", "1.5g", "312k"."""
    value, unit = float(size), ""
    for larger in "kmgtp":
        if value < 1023.5:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f}{unit}" if value >= 100 or not unit else f"{value:.3g}{unit}"


def integer(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(flag, repr(text), "not a whole number", f"such as {flag} 100, or -1 for no limit") from None
