"""The program that a container runs: what of it was asked for."""

from __future__ import annotations

from pycontainer.engine.config.quantity import integer, optional
from pycontainer.errors import UsageError
from pycontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class Process:
    """The program, its terminal and its end.

    command        the words after the image's name, [] where there were none
    entrypoint     "" takes the image's away, None leaves it
    oom_score_adj  -1,000 to 1,000: how soon the kernel takes it when the machine is out of memory
    environment    (name, value); the value is None where the name is to be taken away
    stop_signal    its number, None where it was not said
    stop_timeout   seconds, -1 for ever, None where it was not said
    """

    __slots__ = ("command", "entrypoint", "environment", "init", "interactive", "oom_score_adj", "stop_signal",
                 "stop_timeout", "tty", "user", "workdir")  # fmt: skip

    def __init__(self, command: list[str], values: Values) -> None:
        self.command = command
        self.entrypoint: str | None = values.get("entrypoint")
        self.environment = [_variable(text) for text in values.get("env") or []]
        self.init = bool(values.get("init"))
        self.interactive = bool(values.get("interactive"))
        self.oom_score_adj = _oom_score_adj(values.get("oom_score_adj"))
        self.stop_signal = _signal(values.get("stop_signal"))
        self.stop_timeout: int | None = optional(integer, "--stop-timeout", values.get("stop_timeout"))
        self.tty = bool(values.get("tty"))
        self.user: str | None = values.get("user")
        self.workdir: str = values.get("workdir") or ""
        if self.workdir and not self.workdir.startswith("/"):
            raise UsageError("--workdir", self.workdir, "must be an absolute path")


def _variable(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None


def _oom_score_adj(text: str | None) -> int:
    value = optional(integer, "--oom-score-adj", text) or 0
    if not -1000 <= value <= 1000:
        hint = "-1000 to 1000, such as --oom-score-adj 500: the more, the sooner the kernel takes it"
        raise UsageError("--oom-score-adj", repr(text), "not an OOM score", hint)
    return value


def _signal(text: str | None) -> int | None:
    if text is None:
        return None
    number = signals.parse(text)
    if number is None:
        raise UsageError("--stop-signal", repr(text), "no such signal", "a number or a name such as SIGTERM")
    return number
