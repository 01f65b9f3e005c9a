"""`start`."""

from __future__ import annotations

import sys

from pycontainer.cli import launch
from pycontainer.cli.main import for_each, notice
from pycontainer.engine import containers
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def start(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer start`: print the names; with --attach stay, and give the program's exit status."""
    connection = open_engine(settings, notice)
    if values.get("attach") or values.get("interactive"):
        if len(operands) > 1:
            raise UsageError(
                "start", " ".join(operands), "only one container can be attached to", "start the others first"
            )
        return _attached(settings, containers.find(connection, operands[0]), values)

    def start_one(name: str) -> None:
        container = containers.find(connection, name)
        if not _runs(container):
            launch.detached(settings, {"do": "run", "id": container.id}, values=values)
        sys.stdout.write(f"{name}\n")

    return for_each(operands, start_one)


def _runs(container: containers.Container) -> bool:
    return container.status in ("running", "paused", "restarting")


def _attached(settings: Settings, container: containers.Container, values: dict[str, Any]) -> int:
    interactive = bool(values.get("interactive")) and container.config.process.interactive
    if _runs(container):
        from pycontainer.cli.attach import attach_to

        return attach_to(settings, container, values, interactive=interactive, proxy=True)
    request = {"do": "run", "id": container.id}
    return launch.attached(settings, request, interactive=interactive, tty=container.config.process.tty, values=values)
