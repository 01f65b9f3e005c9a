"""A container's files: `diff`, `commit`, `export`, `cp`."""

from __future__ import annotations

import os
import sys
from typing import Any

from pycontainer.cli.main import notice
from pycontainer.cli.options import boolean
from pycontainer.cli.output import output, refuse_terminal
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import UsageError, printable


def diff(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer diff`: a line for each path that the container has added, changed or deleted."""
    from pycontainer.engine.export import diff

    is_terminal = os.isatty(1)
    for line in diff(settings, open_engine(settings, notice), operands[0]):
        shown = printable(os.fsdecode(line)).encode() if is_terminal else line
        sys.stdout.buffer.write(shown + b"\n")
    return 0


def commit(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer commit`: print the new image's id."""
    from pycontainer.cli.explained import Explained
    from pycontainer.engine.commit import commit

    pause = boolean("--pause", values.get("pause", "true"))
    explained = Explained(values)
    connection = open_engine(settings, notice)
    with explained as journal:
        image_id = commit(
            settings,
            connection,
            operands[0],
            operands[1] if len(operands) > 1 else "",
            author=values.get("author") or "",
            message=values.get("message") or "",
            changes=values.get("change") or [],
            pause=pause,
            journal=journal,
        )
    sys.stdout.write(f"{image_id}\n")
    return 0


def export(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer export`."""
    from pycontainer.engine.export import export

    with output(values.get("output")) as out:
        export(settings, open_engine(settings, notice), operands[0], out)
    return 0


def cp(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer cp`."""
    from pycontainer.engine.copy import copy, parse_place

    source, target = map(parse_place, operands)
    if bool(source.container) == bool(target.container):
        cause = "between containers" if source.container else "no container is named"
        raise UsageError("cp", cause, hint="one of the two is CONTAINER:PATH, the other a path of the host's or -")
    if target.is_stream:
        refuse_terminal(1)
    if source.is_stream and os.isatty(0):
        raise UsageError("cp", "-", "standard input is a terminal", "give it a tar archive")
    connection = open_engine(settings, notice)
    follow, archive = bool(values.get("follow_link")), bool(values.get("archive"))
    copy(settings, connection, source, target, archive=archive, follow=follow)
    return 0
