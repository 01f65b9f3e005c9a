"""`events`: what happens, a line for each, as docker writes them."""

from __future__ import annotations

import sys
import time

from pycontainer import json_text
from pycontainer.cli.filters import EVENT, Filters, event_filter
from pycontainer.cli.main import notice
from pycontainer.engine import watch
from pycontainer.engine.moment import parse_moment
from pycontainer.engine.repair import open_engine
from pycontainer.errors import printable
from pycontainer.monitor.clock import nanoseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainer.engine.events import Event
    from pycontainer.engine.settings import Settings


def events(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer events`: print until --until, or for ever. Raises UsageError, OSError."""
    since, until = (parse_moment(f"--{name}", values[name]) if name in values else None for name in ("since", "until"))
    line = _line(values.get("format") or "")
    wanted = event_filter(Filters(values.get("filter") or [], EVENT))
    connection = open_engine(settings, notice)
    for batch in watch.events(settings, connection, since, until):
        text = "".join(f"{line(event)}\n" for event in batch if wanted(event))
        if text:
            sys.stdout.write(text)
            # Now, because who waits for an event reads a pipe.
            sys.stdout.flush()
    return 0


def _line(text: str) -> Callable[[Event], str]:
    """What writes an event as --format asks for it. Raises UsageError."""
    if not text:
        return _plain
    if text in ("json", "{{json .}}"):
        return _json
    from pycontainer.cli.template import Template

    template = Template(text, escapes=True)
    return lambda event: template.render(_fields(event))


def _plain(event: Event) -> str:
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    line = f"{_local(event.time)} {event.kind} {event.action} {event.actor}"
    return printable(f"{line} ({attributes})" if attributes else line)


def _local(seconds: float) -> str:
    """RFC 3339 in local time, with nine digits of a second."""
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{nanoseconds(seconds) % 1_000_000_000:09}{zone}"


def _json(event: Event) -> str:
    """EventMessage of the Engine API."""
    fields = _fields(event)
    # Docker has three names for what an older API knew, for those kinds that it knew.
    names = {"Status": "status", "ID": "id", "From": "from", "Scope": "scope", "Time": "time", "TimeNano": "timeNano"}
    return json_text.dumps({names.get(name, name): value for name, value in fields.items() if value != ""})


def _fields(event: Event) -> dict[str, Any]:
    """The same as templates know it."""
    old = event.kind in ("container", "image")
    return {
        "Status": event.action if old else "",
        "ID": event.actor if old else "",
        "From": event.attributes.get("image", "") if event.kind == "container" else "",
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor, "Attributes": dict(sorted(event.attributes.items()))},
        "Scope": "local",
        "Time": int(event.time),
        "TimeNano": nanoseconds(event.time),
    }
