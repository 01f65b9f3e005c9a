"""`run` and `create`."""

from __future__ import annotations

from pycontainer.engine.config import ContainerConfig
from pycontainer.engine.settings import Settings
from pycontainer.errors import ImageNotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def run(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer run`; the program's exit status, 0 with --detach. Raises PycontainerError, OSError."""
    config = ContainerConfig(operands[0], operands[1:], values)
    from pycontainer.cli import launch

    request = {"do": "run", "config": config.to_json()}

    def start() -> int:
        if config.detach:
            print(launch.detached(settings, request, values=values)[0])
            return 0
        return launch.attached(settings, request, interactive=config.interactive, tty=config.tty, values=values)

    return _with_image(settings, values, config.image, start)


def create(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer create`: print the id. Raises PycontainerError, OSError."""
    from pycontainer.cli.main import notice
    from pycontainer.engine.create import create as create_container
    from pycontainer.engine.repair import open_engine

    config = ContainerConfig(operands[0], operands[1:], values)

    def make() -> int:
        print(create_container(settings, open_engine(settings, notice), config).id)
        return 0

    return _with_image(settings, values, config.image, make)


def _with_image(settings: Settings, values: dict[str, Any], image: str, start: Callable[[], int]) -> int:
    """Start a container of an image that is pulled first, if need be: --pull. Raises PycontainerError, OSError."""
    policy = values.get("pull", "missing")
    if policy not in ("always", "missing", "never"):
        raise UsageError("--pull", repr(policy), "no such policy", "there are always, missing and never")
    if policy == "always":
        from pycontainer.cli.pull import before_run

        before_run(settings, values, image, missing=False)
        return start()
    try:
        return start()
    except ImageNotFound:
        # Not looked for before, because mostly it is there.
        if policy == "never":
            raise
    from pycontainer.cli.pull import before_run

    before_run(settings, values, image, missing=True)
    return start()
