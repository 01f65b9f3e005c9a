"""`load` and `import`: images out of archives."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from pycontainer.cli.explained import Explained
from pycontainer.cli.main import notice
from pycontainer.engine.config.quantity import parse_size
from pycontainer.engine.repair import open_engine
from pycontainer.errors import UsageError
from pycontainer.image.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontainer.engine.settings import Settings
    from pycontainer.image.unpack import Progress

_REFRESH_SECONDS = 0.1


def load(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer load`: print the images' names. Raises ImageError, UsageError, OSError."""
    from pycontainer.image.load import load as load_images

    path, limit = values.get("input", "-"), max_layer_size(values.get("max_layer_size"))
    explained = Explained(values)
    store = Store(settings.root, open_engine(settings, notice))
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(explained)
        progress = stack.enter_context(progress_bar(values))
        if os.path.isdir(path):
            lines = load_images(store, path, progress=progress, max_layer_size=limit, journal=journal)
        else:
            source, total = stack.enter_context(_open_input(path))
            lines = load_images(store, source, progress=progress, max_layer_size=limit, total=total, journal=journal)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def import_(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer import`: print the image's id. Raises ImageError, UsageError, OSError."""
    from pycontainer.image.importer import import_tarball

    file, name = operands
    limit = max_layer_size(values.get("max_layer_size"))
    explained = Explained(values)
    store = Store(settings.root, open_engine(settings, notice))
    with explained as journal, _open_input(file) as (source, total), progress_bar(values) as progress:
        image_id = import_tarball(
            store,
            source,
            name,
            changes=values.get("change") or [],
            message=values.get("message") or "",
            progress=progress,
            max_layer_size=limit,
            total=total,
            journal=journal,
        )
    sys.stdout.write(f"{image_id}\n")
    return 0


def max_layer_size(given: str | None) -> int:
    """--max-layer-size, bytes. Raises UsageError."""
    text = given or "16g"
    size = parse_size("--max-layer-size", text)
    if size <= 0:
        raise UsageError("--max-layer-size", repr(text), "not a size", "such as 500m or 16g")
    return size


@contextlib.contextmanager
def _open_input(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file, or standard input for `-`, and its length in bytes, 0 where that is not known."""
    if path == "-":
        if os.isatty(0):
            raise UsageError("read archive", "-", "standard input is a terminal", "name a file with -i, or use a pipe")
        with open(0, "rb", closefd=False) as file:
            yield file, 0
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError("open", path, (error.strerror or "failed").lower()) from error
    with file:
        yield file, os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def progress_bar(values: dict[str, Any]) -> Iterator[Progress | None]:
    """A bar for each step or layer, on standard error if that is a terminal.

    It starts no thread, because layers are unpacked in forked children.
    """
    # What is explained would be written into it.
    is_explained = values.get("explain") and not values.get("explain_to")
    if values.get("quiet") or is_explained or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:>12}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, Any] = {}
    drawn = 0.0
    with Bar(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:

        def show(step: str, done: int, total: int) -> None:
            nonlocal drawn
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total or None)
            bar.update(tasks[step], completed=done, total=total or None)
            if time.monotonic() - drawn > _REFRESH_SECONDS:
                drawn = time.monotonic()
                bar.refresh()

        yield show
