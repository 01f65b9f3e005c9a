"""`run` and `create`."""

from __future__ import annotations

import os

from pycontainer.cli import request
from pycontainer.errors import ImageNotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainer.engine.settings import Settings


def run(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer run`; the program's exit status, 0 with --detach. Raises PycontainerError, OSError."""
    from pycontainer.cli import launch

    asked = request.container(operands[0], operands[1:], values)
    if os.geteuid() != 0:
        # Somebody who may not run it is still told what is wrong with the words.
        _check(asked)
    if values.get("explain") == "script":
        return _explain(settings, values, asked)
    message = {"do": "run", "config": asked}

    def start() -> int:
        if values.get("detach"):
            print(launch.detached(settings, message, values=values)[0])
            return 0
        interactive, tty = bool(values.get("interactive")), bool(values.get("tty"))
        return launch.attached(settings, message, interactive=interactive, tty=tty, values=values)

    return _with_image(settings, values, asked, start)


def create(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer create`: print the id. Raises PycontainerError, OSError."""
    from pycontainer.cli.main import notice
    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.create import create as create_container
    from pycontainer.engine.repair import open_engine

    asked = request.container(operands[0], operands[1:], values)
    if "explain" in values or values.get("explain_to"):
        if values.get("explain") != "script":
            raise UsageError(
                "--explain", values.get("explain") or "steps", "nothing is done to explain", "=script, or run"
            )
        return _explain(settings, values, asked)
    config = ContainerConfig.from_request(asked)

    def make() -> int:
        print(create_container(settings, open_engine(settings, notice), config).id)
        return 0

    return _with_image(settings, values, asked, make)


def _explain(settings: Settings, values: dict[str, Any], asked: dict[str, Any]) -> int:
    # Only now, because mostly nobody asks.
    from pycontainer.cli import script

    return _with_image(settings, values, asked, lambda: script.write(settings, values, asked))


def _with_image(settings: Settings, values: dict[str, Any], asked: dict[str, Any], start: Callable[[], int]) -> int:
    """Start a container of an image that is pulled first, if need be: --pull. Raises PycontainerError, OSError."""
    policy = values.get("pull", "missing")
    if policy not in ("always", "missing", "never"):
        raise UsageError("--pull", repr(policy), "no such policy", "there are always, missing and never")
    if policy == "always":
        # Before something is fetched that nobody can use.
        _check(asked)
        from pycontainer.cli.pull import before_run

        before_run(settings, values, asked["image"], missing=False)
        return start()
    try:
        return start()
    except ImageNotFound:
        # Not looked for before, because mostly it is there.
        if policy == "never":
            raise
    from pycontainer.cli.pull import before_run

    before_run(settings, values, asked["image"], missing=True)
    return start()


def _check(asked: dict[str, Any]) -> None:
    """Raises UsageError where the launcher would."""
    from pycontainer.engine.config.container import ContainerConfig

    ContainerConfig.from_request(asked)
