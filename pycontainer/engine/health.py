"""The health check of a container: its --health options over its image's HEALTHCHECK."""

from __future__ import annotations

from pycontainer.engine.moment import parse_duration
from pycontainer.errors import UsageError
from pycontainer.monitor.health import Health, HealthCheck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLAGS = ("health_cmd", "health_interval", "health_timeout", "health_retries", "health_start_period")
_LEAST = 0.001  # seconds, as docker has it


class HealthOptions:
    """What the flags say; None, or an empty command, where they say nothing.

    disabled  --no-healthcheck
    """

    __slots__ = ("command", "disabled", "interval", "retries", "start_interval", "start_period", "timeout")

    def __init__(self, values: dict[str, Any]) -> None:
        self.disabled = bool(values.get("no_healthcheck"))
        if self.disabled and any(values.get(name) for name in _FLAGS):
            raise UsageError("--no-healthcheck", "", "conflicts with --health-*", "leave out one of them")
        self.command: str = values.get("health_cmd") or ""
        self.interval = _duration(values, "--health-interval")
        self.timeout = _duration(values, "--health-timeout")
        self.start_period = _duration(values, "--health-start-period")
        self.start_interval = _duration(values, "--health-start-interval")
        text = values.get("health_retries")
        self.retries = None if text is None else _retries(text)


def _duration(values: dict[str, Any], flag: str) -> float | None:
    text = values.get(flag[2:].replace("-", "_"))
    if text is None:
        return None
    seconds = parse_duration(flag, text)
    if seconds != 0 and seconds < _LEAST:
        raise UsageError(flag, repr(text), "less than a millisecond", f"such as {flag} 30s")
    return seconds


def _retries(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UsageError("--health-retries", repr(text), "not a number", "--health-retries 3")
    return int(text)


def check(options: HealthOptions, image: dict[str, Any]) -> HealthCheck | None:
    """The check to run, None where there is none. `image` is the OCI image's `config` object."""
    stored = image.get("Healthcheck")
    stored = stored if isinstance(stored, dict) else {}
    test = ["CMD-SHELL", options.command] if options.command else stored.get("Test") or []
    if options.disabled or not isinstance(test, list) or len(test) < 2 or test[0] == "NONE":
        return None
    arguments = ["/bin/sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
    return HealthCheck(
        [str(word) for word in arguments],
        interval=options.interval or _seconds(stored, "Interval") or 30.0,
        timeout=options.timeout or _seconds(stored, "Timeout") or 30.0,
        retries=options.retries or _number(stored, "Retries") or 3,
        start_period=options.start_period or _seconds(stored, "StartPeriod"),
        start_interval=options.start_interval or _seconds(stored, "StartInterval") or 5.0,
    )


def begin(check: HealthCheck) -> dict[str, Any]:
    """Docker's State.Health of a container that has just been started."""
    return Health(check, 0.0).to_json()


def _seconds(stored: dict[str, Any], name: str) -> float:
    """A field of the image's, which counts nanoseconds."""
    return _number(stored, name) / 1e9


def _number(stored: dict[str, Any], name: str) -> int:
    value = stored.get(name)
    return value if isinstance(value, int) and value > 0 else 0
