"""`run` and `create`."""

from __future__ import annotations

from pycontainer.engine.config import ContainerConfig
from pycontainer.engine.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer run`; the program's exit status, 0 with --detach. Raises PycontainerError, OSError."""
    config = ContainerConfig(operands[0], operands[1:], values)
    from pycontainer.cli import launch

    request = {"do": "run", "config": config.to_json()}
    if config.detach:
        print(launch.detached(settings, request, values=values)[0])
        return 0
    return launch.attached(settings, request, interactive=config.interactive, tty=config.tty, values=values)


def create(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer create`: print the id. Raises PycontainerError, OSError."""
    from pycontainer.cli.main import notice
    from pycontainer.engine.create import create as create_container
    from pycontainer.engine.repair import open_engine

    config = ContainerConfig(operands[0], operands[1:], values)
    print(create_container(settings, open_engine(settings, notice), config).id)
    return 0
