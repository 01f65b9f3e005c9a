"""`save`: images out of the store, as an archive."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from pycontainer.cli.main import notice
from pycontainer.cli.output import output
from pycontainer.engine.repair import open_engine
from pycontainer.errors import StepFailed, UsageError
from pycontainer.image.store import Store
from pycontainer.image.stream import write_all

if TYPE_CHECKING:
    from pycontainer.engine.settings import Settings


def save(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer save`. Raises PycontainerError, OSError."""
    from pycontainer.image.save import save

    path = values.get("output")
    if not path and os.isatty(1):
        raise UsageError("cowardly refusing to save to a terminal", hint="use the -o flag or redirect")
    store = Store(settings.root, open_engine(settings, notice))
    with output(path) as out:
        try:
            save(store, operands, partial(write_all, out))
        except BrokenPipeError:
            raise
        except OSError as error:
            # Only what writing raises: all else has its own.
            raise StepFailed("save", path or "standard output", error.errno or 0) from error
    return 0
