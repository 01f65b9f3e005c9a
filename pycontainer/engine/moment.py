"""Points in time and durations as users write them for docker: --since, --until, --health-interval."""

from __future__ import annotations

import time

from pycontainer.errors import UsageError

_MICRO = {"µs": 1e-6, "\u03bcs": 1e-6}  # the sign for a millionth, and the Greek letter
_UNITS = {"ns": 1e-9, "us": 1e-6, **_MICRO, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = "0123456789."
_LONGEST = float(1 << 63) / 1e9  # Go counts nanoseconds in 63 bits
_DURATION_HINT = "such as 10s, 1m30s or 500ms"
_MOMENT_HINT = "2026-01-02T15:04:05, seconds since 1970, or 10m for ten minutes ago"
_MOST_DIGITS = 11  # of seconds since 1970: up to the year 5138


def parse_duration(flag: str, text: str) -> float:
    """Seconds of one of Go's durations, such as `1h30m`, `1.5s` or `0`. Raises UsageError."""
    seconds = _duration(text)
    if seconds is None:
        raise UsageError(flag, repr(text), "not a duration", _DURATION_HINT)
    if seconds < 0:
        raise UsageError(flag, repr(text), "less than nothing", _DURATION_HINT)
    return seconds


def parse_moment(flag: str, text: str) -> float:
    """Seconds since the epoch. Raises UsageError.

    text  an RFC 3339 time, whose zone (then it is local time), fraction, seconds, minutes or whole time of day may be
          missing; seconds since the epoch; or one of Go's durations, for so long ago
    """
    ago = _duration(text)
    # A lone 0 is both, and docker takes it for the epoch.
    if ago is not None and text != "0":
        return time.time() - ago
    moment = _seconds(text)
    if moment is None:
        moment = _date(text)
    if moment is None:
        raise UsageError(flag, repr(text), "not a time", _MOMENT_HINT)
    return moment


def _duration(text: str) -> float | None:
    """As time.ParseDuration of Go; None for what is none."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    seconds, start = 0.0, 0
    while start < len(rest):
        middle = _end(rest, start, number=True)
        end = _end(rest, middle, number=False)
        number, unit = rest[start:middle], rest[middle:end]
        if unit not in _UNITS or number.count(".") > 1 or not number.strip("."):
            return None
        seconds += float(number) * _UNITS[unit]
        start = end
    if not rest or seconds >= _LONGEST:
        return None
    return -seconds if text[0] == "-" else seconds


def _end(text: str, start: int, *, number: bool) -> int:
    while start < len(text) and (text[start] in _NUMBER) == number:
        start += 1
    return start


def _seconds(text: str) -> float | None:
    whole, dot, fraction = text.partition(".")
    digits = whole.removeprefix("-")
    if not _is_number(digits) or len(digits) > _MOST_DIGITS or (dot and not _is_number(fraction)):
        return None
    return float(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _date(text: str) -> float | None:
    """RFC 3339 and shorter; None for what is none. By hand, because importing datetime takes longer than `images`."""
    day, rest = text[:10].split("-"), text[10:].upper()
    zone = 1 if rest.endswith("Z") else 6 if rest[-6:-5] in ("+", "-") else 0
    clock, zone_text = rest[: len(rest) - zone], rest[len(rest) - zone :]
    clock, _, fraction = clock.partition(".")
    hands = clock[1:].split(":") if clock else []
    if [len(part) for part in day] != [4, 2, 2] or clock[:1] not in ("", "T") or len(hands) > 3:
        return None
    if any(len(part) != 2 for part in hands) or ("." in rest and (len(hands) < 3 or not _is_number(fraction))):
        return None
    if not all(map(_is_number, day + hands)):
        return None
    year, month, number = map(int, day)
    hour, minute, second = (*map(int, hands), 0, 0, 0)[:3]
    days = _days(year, month, number)
    offset = _offset(zone_text)
    if days is None or offset is None or hour > 23 or minute > 59 or second > 60:
        return None
    if zone:
        moment = float(days * 86400 + hour * 3600 + minute * 60 + second - offset)
    else:
        try:
            moment = time.mktime((year, month, number, hour, minute, second, 0, 0, -1))
        except OverflowError:
            return None
    return moment + float(f"0.{fraction}0")


def _days(year: int, month: int, day: int) -> int | None:
    """Days since 1970-01-01; None for what is no day."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not year or not 1 <= month <= 12 or not 1 <= day <= lengths[month - 1]:
        return None
    before = year - 1
    return before * 365 + before // 4 - before // 100 + before // 400 - 719162 + sum(lengths[: month - 1]) + day - 1


def _offset(zone: str) -> int | None:
    """Seconds east of Greenwich; 0 also where nothing is said. None for what is no zone."""
    if zone in ("", "Z"):
        return 0
    hours, minutes = zone[1:3], zone[4:]
    if zone[3] != ":" or not _is_number(hours + minutes) or int(hours) > 23 or int(minutes) > 59:
        return None
    seconds = int(hours) * 3600 + int(minutes) * 60
    return -seconds if zone[0] == "-" else seconds
