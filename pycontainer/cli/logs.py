"""`logs`."""

from __future__ import annotations

import os

from pycontainer.cli.main import notice
from pycontainer.engine import containers, monitors
from pycontainer.engine.containers import Container
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, UsageError
from pycontainer.monitor.log_reader import LogReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pycontainer.monitor.log_reader import Record

_STREAMS = {"stdout": 1, "stderr": 2}


def logs(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer logs`. Raises NotFound, Conflict, UsageError, HostError, OSError."""
    tail = _tail(values.get("tail", "all"))
    since, until = _time(values, "since"), _time(values, "until")
    container = containers.find(open_engine(settings, notice), operands[0])
    if container.values.get("log_driver") == "none":
        raise Conflict("read the log", container.name, "it keeps none (--log-driver none)")
    if not os.path.exists(settings.log(container.id)) and not container.is_active:
        # It has never been started.
        return 0
    reader = LogReader(settings.log(container.id))
    if tail is not None or since:
        reader.seek_lines(tail if tail is not None else 1 << 62, _text(since), _text(until))
    records = _follow(settings, container, reader, until) if values.get("follow") else reader.records()
    writer = Writer(timestamps=bool(values.get("timestamps")))
    for record in records:
        if until and record.time > _text(until):
            break
        if record.time >= _text(since):
            writer.write(record)
    return 0


def _tail(text: str) -> int | None:
    if text == "all" or text.startswith("-"):
        return None
    if not text.isascii() or not text.isdecimal():
        raise UsageError("--tail", repr(text), "not a number of lines", "--tail 100, or --tail all")
    return int(text)


def _time(values: dict[str, Any], name: str) -> float | None:
    if name not in values:
        return None
    from pycontainer.engine.moment import parse_moment

    return parse_moment(f"--{name}", values[name])


def _text(moment: float | None) -> str:
    """As a record has it; "" for none, which is less than every time."""
    if moment is None:
        return ""
    from pycontainer.monitor.clock import rfc3339

    return rfc3339(moment)


def _follow(settings: Settings, container: Container, reader: LogReader, until: float | None) -> Iterator[Record]:
    connection = monitors.connect(settings, container.id)
    if connection is None:
        yield from reader.records()
        return
    from pycontainer.engine.logs import Follower

    follower = Follower(settings.container_directory(container.id), reader, connection, until)
    while not follower.is_down:
        yield from follower.records()


class Writer:
    """Writes records to the caller's standard output and errors, as they were written in the container.

    timestamps  before each line, when it was written
    """

    def __init__(self, *, timestamps: bool = False) -> None:
        self._timestamps = timestamps
        self._begins = dict.fromkeys(_STREAMS, True)

    def write(self, record: Record) -> None:
        """Write one. Raises OSError."""
        data = record.data
        if self._timestamps and data:
            stamp = record.time.encode() + b" "
            begins, self._begins[record.stream] = self._begins[record.stream], data.endswith(b"\n")
            lines = data.removesuffix(b"\n").replace(b"\n", b"\n" + stamp)
            data = (stamp if begins else b"") + lines + (b"\n" if data.endswith(b"\n") else b"")
        target = _STREAMS[record.stream]
        while data:
            data = data[os.write(target, data) :]
