"""Times and durations as users write them, and times as Docker writes them."""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Iterator

import pytest

from pycontainer.engine import moment
from pycontainer.errors import UsageError
from pycontainer.monitor.clock import nanoseconds, rfc3339, rfc3339_ns

NOW = 1_800_000_000.0
NEW_YEAR = 1_767_225_600.0  # 2026-01-01T00:00:00Z


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is five hours behind, without a database of zones."""
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("10s", 10),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("5.s", 5),
        ("1m0.5s", 60.5),
        ("500ms", 0.5),
        ("7us", 7e-6),
        ("7µs", 7e-6),
        ("7\u03bcs", 7e-6),
        ("100ns", 1e-7),
        ("+3s", 3),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert moment.parse_duration("--health-interval", text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", "1d", "1 s", "1s ", "..s", "1.2.3s", "-", "+", "1m30", "-5s", "1e3s", "9999999h", "\u0661s", "1S"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError) as error:
        moment.parse_duration("--health-interval", text)
    assert error.value.step == "--health-interval"
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", NEW_YEAR),
        ("2026-01-01t00:00:00z", NEW_YEAR),
        ("2026-01-01T00:00:00.123456789Z", NEW_YEAR + 0.123456789),
        ("2026-01-01T00:00:00.5+02:00", NEW_YEAR - 7200 + 0.5),
        ("2026-01-01T00:00:00-05:30", NEW_YEAR + 19800),
        ("2026-01-01T00:00:00", NEW_YEAR + 18000),
        ("2026-01-01T00:00:00.25", NEW_YEAR + 18000.25),
        ("2026-01-01T00:01", NEW_YEAR + 18060),
        ("2026-01-01T01", NEW_YEAR + 21600),
        ("2026-01-01T01:00Z", NEW_YEAR + 3600),
        ("2026-01-01", NEW_YEAR + 18000),
        ("2026-01-01Z", NEW_YEAR),
        ("2026-01-01+01:00", NEW_YEAR - 3600),
        ("2024-02-29Z", 1_709_164_800),
        ("1767225600", NEW_YEAR),
        ("1767225600.5", NEW_YEAR + 0.5),
        ("-1", -1),
        ("0", 0),
        ("20260102", 20260102),
        ("10m", NOW - 600),
        ("0s", NOW),
        ("-10m", NOW + 600),
    ],
)
def test_moments(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moment.time, "time", lambda: NOW)
    assert moment.parse_moment("--since", text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "yesterday", "2026-1-1x", "2026-13-01", "2026-02-29", "2026-00-10", "0000-01-01Z",
        "2026-01-01T24:00:00", "2026-01-01T00:60", "2026-01-01T00:00:61Z", "2026-01-01T", "2026-01-01T0:00",
        "2026-01-01T00:00:00.", "2026-01-01T00:00.5", "2026-01-01T00:00:00+2500", "2026-01-01T00:00:00+25:00",
        "2026-01-01 00:00:00", "2026-W01-1", "+026-01-01", "1e9", "1.5.5", "1.", "999999999999999", "10x",
        "2026-01-01T00:00:00Z ", "\u0662026-01-01",
    ],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError) as error:
        moment.parse_moment("--since", text)
    assert error.value.step == "--since"
    assert "2026-01-02T15:04:05" in error.value.hint


def test_the_calendar_is_the_one_of_datetime() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        day = datetime.datetime.fromordinal(chance.randint(1, 3_000_000)).replace(tzinfo=datetime.UTC)
        assert moment.parse_moment("--since", f"{day:%Y-%m-%d}".rjust(10, "0") + "Z") == day.timestamp()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000000Z"),
        (NEW_YEAR + 0.5, "2026-01-01T00:00:00.500000000Z"),
        (-0.25, "1969-12-31T23:59:59.750000000Z"),
    ],
)
def test_rfc3339(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


def test_nanoseconds_are_exact() -> None:
    assert rfc3339_ns(1_767_225_600_123_456_789) == "2026-01-01T00:00:00.123456789Z"
    assert nanoseconds(1_767_225_600.5) == 1_767_225_600_500_000_000


def test_what_is_written_is_read_as_the_same() -> None:
    """So that --since and --until with the time of an event include it."""
    chance = random.Random(2)
    for _ in range(2000):
        seconds = chance.uniform(1e9, 4e9)
        assert moment.parse_moment("--since", rfc3339(seconds)) == seconds
