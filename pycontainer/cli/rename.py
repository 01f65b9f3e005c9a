"""`rename`: another name for a container."""

from __future__ import annotations

from pycontainer.cli.main import notice
from pycontainer.engine import containers
from pycontainer.engine.config.container import container_name
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def rename(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer rename`. Raises NotFound, Conflict, UsageError."""
    connection = open_engine(settings, notice)
    container = containers.find(connection, operands[0])
    name = container_name("NAME", operands[1])
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        containers.rename(connection, container, name)
    return 0
