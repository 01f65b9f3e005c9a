"""`system boot`: what the restart policies want to run after the machine has come up. The unit file calls it."""

from __future__ import annotations

import sys

from pycontainer.cli import launch
from pycontainer.cli.main import for_each, notice
from pycontainer.engine import containers
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def boot(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """Start every container whose policy says so, the oldest first; print their names. 1 when one could not be."""
    connection = open_engine(settings, notice)
    wanted = [container for container in containers.list_all(connection)[::-1] if _is_wanted(container)]

    def start(container_id: str) -> None:
        _, name = launch.detached(settings, {"do": "run", "id": container_id}, values={})
        sys.stdout.write(f"{name}\n")

    return for_each((container.id for container in wanted), start)


def _is_wanted(container: containers.Container) -> bool:
    if container.status != "exited" or container.started is None:
        return False
    return container.config.restart.applies_at_boot(container.exit_status or 0, stopped=container.stopped)
