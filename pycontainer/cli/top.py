"""`top`: the host's ps(1), and of what it prints the container's processes."""

from __future__ import annotations

import os

from pycontainer.cli.main import notice
from pycontainer.engine import containers
from pycontainer.engine.processes import list_processes
from pycontainer.engine.repair import open_engine
from pycontainer.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.settings import Settings

_WIDTH = 20  # of a column at least, as docker has it
_GAP = 3


def top(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """Print the table. Raises NotFound, Conflict, HostError, UsageError."""
    container = containers.find(open_engine(settings, notice), operands[0])
    wanted = list_processes(settings, container)
    arguments = operands[1:] or ["-ef"]
    try:
        # By their numbers, because without -e ps shows those of the caller's own terminal.
        lines = _ps([*arguments, "-q", ",".join(map(str, sorted(wanted)))])
    except UsageError:
        # There are options that go with no others; as docker has it.
        lines = _ps(arguments)
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise UsageError("top", " ".join(operands[1:]), "the output of ps has no column PID", "such as -o pid,comm")
    rows = [titles]
    column, inside = titles.index("PID"), False
    for line in lines[1:]:
        # The last column is the rest of the line, spaces and all.
        fields = line.split(None, len(titles) - 1)
        pid = fields[column] if len(fields) > column else ""
        # ps -m gives a line to each thread, below its process, with a dash for the number.
        inside = int(pid) in wanted if pid.isdecimal() else inside and pid == "-"
        if inside:
            rows.append(fields)
    print(_table(rows), end="")
    return 0


def _ps(arguments: list[str]) -> list[str]:
    import subprocess

    # Another column could call itself PID, and then show what is not this container's.
    if any("=PID" in argument.replace(" ", "") for argument in arguments):
        raise UsageError("top", " ".join(arguments), "no other column may be called PID")
    try:
        result = subprocess.run(
            ["ps", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        raise HostError("top", "ps", "not installed", "apt-get install procps") from None
    if result.returncode != 0:
        cause = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[0]
        raise UsageError("top", f"ps {' '.join(arguments)}", cause.removeprefix("error: ").rstrip(".").lower())
    return result.stdout.splitlines()


def _table(rows: list[list[str]]) -> str:
    """Columns as docker has them for this command: 20 wide, or what the longest cell and a gap need."""
    widths = [
        max(_WIDTH, _GAP + max(len(row[column]) for row in rows if len(row) > column)) for column in range(len(rows[0]))
    ]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )
