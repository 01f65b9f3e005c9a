"""`rename` and `update`: what can be changed of a container that exists."""

from __future__ import annotations

import sys

from pycontainer.cli.main import for_each, notice
from pycontainer.engine import containers
from pycontainer.engine.config.container import container_name
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import UsageError

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


def update(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer update`: print the names of those that were changed. A running container's monitor sees it too."""
    if not values:
        raise UsageError("update", "", "nothing is to be changed", "name an option, such as --restart always")
    connection = open_engine(settings, notice)

    def update_one(name: str) -> None:
        container = containers.find(connection, name)
        changed = container.config.changed(values)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            containers.set_config(connection, container.id, changed)
        sys.stdout.write(f"{name}\n")

    return for_each(operands, update_one)
