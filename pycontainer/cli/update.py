"""`update`: other limits and another restart policy for containers that exist."""

from __future__ import annotations

import sys

from pycontainer.cli.main import for_each, notice
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def update(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer update`: print the names of those that were changed. A running container's monitor sees it too."""
    if not values:
        hint = "name an option, such as --memory 128m or --restart always"
        raise UsageError("update", "", "nothing is to be changed", hint)
    from pycontainer.engine import update as engine

    connection = open_engine(settings, notice)

    def update_one(name: str) -> None:
        for warning in engine.update(settings, connection, name, values):
            notice(warning)
        sys.stdout.write(f"{name}\n")

    return for_each(operands, update_one)
