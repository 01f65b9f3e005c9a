"""Tables, sizes and ages, in Docker's form."""

from __future__ import annotations

import os
import sys
import time

from pycontainer.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence

_GAP = 3
_LEAST = 10  # how wide a column is at least, with its gap, as docker has it
_SHORTEST = 12  # what is left of a cell that is shortened to fit the terminal


def print_table(rows: Sequence[Sequence[str]], shrink: Container[int] = ()) -> None:
    """Columns as wide as their longest cell; the first row is the header.

    shrink  columns whose cells may be shortened where standard output is a terminal that is too narrow
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    columns = range(max(map(len, cells), default=0))
    widths = [max(_width(row[column]) for row in cells if column < len(row)) for column in columns]
    if shrink and sys.stdout.isatty():
        widths = _fit(widths, shrink, _terminal_width())
    for row in cells:
        line = "".join(_pad(shorten(cell, width), width) for cell, width in zip(row, widths, strict=False))
        sys.stdout.write(f"{line.rstrip()}\n")


def _pad(cell: str, width: int) -> str:
    return cell + " " * (max(width + _GAP, _LEAST) - _width(cell))


def _width(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    # Here, because of what is listed hardly anything is so.
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def shorten(text: str, width: int) -> str:
    """`text` cut to so many columns; the last one says that there was more."""
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _fit(widths: list[int], shrink: Container[int], terminal: int) -> list[int]:
    """Take from the widest of the columns that may be shortened until all fit, or nothing more can be taken."""
    widths = list(widths)
    while sum(max(width + _GAP, _LEAST) for width in widths[:-1]) + widths[-1] > terminal:
        able = [column for column, width in enumerate(widths) if column in shrink and width > _SHORTEST]
        if not able:
            break
        widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def _terminal_width() -> int:
    try:
        # 0 where nobody has said.
        return os.get_terminal_size(sys.stdout.fileno()).columns or sys.maxsize
    except OSError:
        return sys.maxsize


def human_size(size: int) -> str:
    """Bytes with three significant digits, in powers of 1000 as Docker has them."""
    return _scaled(size, 1000, 3, ("B", "kB", "MB", "GB", "TB"))


def binary_size(size: int) -> str:
    """Bytes with four significant digits, in powers of 1024 as Docker has memory."""
    return _scaled(size, 1024, 4, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(size: int, base: int, digits: int, units: tuple[str, ...]) -> str:
    value = float(size)
    for unit in units[:-1]:
        # As it will be rounded, because 999.9 would be written as 1e+03.
        if float(f"{value:.{digits}g}") < base:
            return f"{value:.{digits}g}{unit}"
        value /= base
    return f"{value:.{digits}g}{units[-1]}"


def human_duration(seconds: float) -> str:
    """How long, in Docker's words."""
    hours = round(seconds / 3600)
    steps = (
        (seconds < 1, "Less than a second"),
        (seconds < 2, "1 second"),
        (seconds < 60, f"{int(seconds)} seconds"),
        (seconds < 120, "About a minute"),
        (seconds < 3600, f"{int(seconds / 60)} minutes"),
        (hours <= 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 14, f"{hours // 24} days"),
        (hours < 24 * 60, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
        (True, f"{int(hours / 24 / 365)} years"),
    )
    return next(words for holds, words in steps if holds)


def human_age(seconds: float) -> str:
    """How long ago, in Docker's words."""
    return f"{human_duration(seconds)} ago"


def local_time(seconds: float) -> str:
    """A time as Docker's lists have it: `2026-01-02 15:04:05 +0100 CET`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))
