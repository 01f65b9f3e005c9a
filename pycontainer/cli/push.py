"""`push`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pycontainer.cli.load import progress_bar
from pycontainer.cli.main import notice
from pycontainer.engine.repair import open_engine
from pycontainer.image import reference
from pycontainer.image.registry import push as registry
from pycontainer.image.store import Store

if TYPE_CHECKING:
    from pycontainer.engine.settings import Settings


def push(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer push`. Raises PycontainerError, OSError."""
    every, quiet = "all_tags" in values, "quiet" in values
    name = registry.parse(operands[0], all_tags=every)
    store = Store(settings.root, open_engine(settings, notice))
    # Kept, because while there is a bar sys.stdout leads to it, which would break lines and go to standard error.
    out = sys.stdout
    # The bar is the terminal's last line, and is drawn anew below what takes its place.
    clear = "\r\x1b[2K" if out.isatty() and sys.stderr.isatty() else ""

    def tell(line: str) -> None:
        if not quiet:
            out.write(f"{clear}{line}\n")
            out.flush()

    if not every and ":" not in operands[0].rpartition("/")[2]:
        tell(f"Using default tag: {reference.DEFAULT_TAG}")
    tell(f"The push refers to repository [{name.name}]")
    with progress_bar(values) as progress:
        registry.push(store, name, tell=tell, progress=progress, notify=notice)
    if quiet:
        sys.stdout.write(f"{name}\n")
    return 0
