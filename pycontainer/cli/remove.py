"""`rm`."""

from __future__ import annotations

import sys

from pycontainer.cli.explained import Explained
from pycontainer.cli.main import notice
from pycontainer.engine.remove import remove_container
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.kernel.operation import Journal


def rm(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer rm`: print the names of those that are gone."""
    explained = Explained(values)
    connection = open_engine(settings, notice)
    force, volumes = bool(values.get("force")), bool(values.get("volumes"))

    def remove(name: str, journal: Journal) -> None:
        try:
            remove_container(settings, connection, name, journal, force=force, volumes=volumes)
        except NotFound as error:
            if not force:
                raise
            # It is said, and no failure: what --force is to bring about is the case. As docker has it.
            notice(str(error).partition("\n")[0])
        else:
            sys.stdout.write(f"{name}\n")

    return explained.for_each(operands, remove)
