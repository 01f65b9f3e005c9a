"""`lab`: demonstrations, in throw-away containers."""

from __future__ import annotations

import sys

from pycontainer.cli.main import notice
from pycontainer.engine.repair import open_engine
from pycontainer.labs import _stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.settings import Settings


def lab(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer lab`. Raises UsageError, HostError, ImageNotFound, Conflict, StepFailed, OSError."""
    if not operands:
        width = max(map(len, _stage.names()))
        for name in _stage.names():
            sys.stdout.write(f"{name:{width}}  {_stage.load(name).SUMMARY}\n")
        return 0
    (name,) = operands
    module = _stage.load(name)
    _stage.require(settings, name)
    open_engine(settings, notice).close()
    with _stage.stage(name, settings, step="step" in values) as stage:
        stage.say(f"lab {name}: {module.SUMMARY}")
        module.show(stage)
    return 0
