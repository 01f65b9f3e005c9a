"""The commands for images: load, import, images, rmi, tag, and the group `image`, in Docker's words."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from pycontainer.cli.main import for_each, notice
from pycontainer.cli.table import human_age, human_size, print_table
from pycontainer.engine.config import parse_size
from pycontainer.errors import UsageError

if TYPE_CHECKING:
    from pycontainer.image.store import Image, Store
    from pycontainer.image.unpack import Progress

_REFRESH_SECONDS = 0.1


def _store(context: click.Context) -> Store:
    from pycontainer.engine.repair import open_engine
    from pycontainer.image.store import Store

    return Store(context.obj.root, open_engine(context.obj, notice))


def _parse_size(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    size = parse_size("--max-layer-size", text)
    if size <= 0:
        raise UsageError("--max-layer-size", repr(text), "not a size", "such as 500m or 16g")
    return size


_max_layer_size = click.option(
    "--max-layer-size",
    default="16g",
    show_default=True,
    metavar="SIZE",
    callback=_parse_size,
    help="Refuse a layer that unpacks to more.",
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="Show no progress, or only IDs.")


@contextlib.contextmanager
def _open_input(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file, or standard input for `-`, and its length in bytes, 0 where that is not known."""
    if path == "-":
        if sys.stdin.isatty():
            raise UsageError("read archive", "-", "standard input is a terminal", "name a file with -i, or use a pipe")
        yield sys.stdin.buffer, 0
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError("open", path, (error.strerror or "failed").lower()) from error
    with file:
        yield file, os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def _progress_bar(quiet: bool) -> Iterator[Progress | None]:
    """A bar on standard error if that is a terminal. It starts no thread: layers are unpacked in forked children."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:>10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
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


@click.command()
@click.option("-i", "--input", "path", default="-", metavar="FILE", help="Archive or OCI layout directory; - is stdin.")
@_quiet
@_max_layer_size
@click.pass_context
def load(context: click.Context, path: str, quiet: bool, max_layer_size: int) -> None:
    """Load images from a docker archive, an OCI archive or an OCI layout directory."""
    from pycontainer.image.load import load as load_images

    store = _store(context)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_progress_bar(quiet))
        if os.path.isdir(path):
            lines = load_images(store, path, progress=progress, max_layer_size=max_layer_size)
        else:
            source, total = stack.enter_context(_open_input(path))
            lines = load_images(store, source, progress=progress, max_layer_size=max_layer_size, total=total)
    for line in lines:
        click.echo(line)


@click.command("import")
@click.argument("file")
@click.argument("name")
@click.option(
    "-c", "--change", "changes", multiple=True, help="Apply a Dockerfile instruction, such as 'CMD [\"sh\"]'."
)
@click.option("-m", "--message", default="", help="Comment for the image's history.")
@_quiet
@_max_layer_size
@click.pass_context
def import_(
    context: click.Context,
    file: str,
    name: str,
    changes: tuple[str, ...],
    message: str,
    quiet: bool,
    max_layer_size: int,
) -> None:
    """Make an image called NAME of one layer, the root file system in the tarball FILE (- is stdin)."""
    from pycontainer.image.importer import import_tarball

    store = _store(context)
    with _open_input(file) as (source, total), _progress_bar(quiet) as progress:
        image_id = import_tarball(
            store,
            source,
            name,
            changes=changes,
            message=message,
            progress=progress,
            max_layer_size=max_layer_size,
            total=total,
        )
    click.echo(image_id)


@click.command()
@click.argument("repository", required=False)
@click.option("-q", "--quiet", is_flag=True, help="Only image IDs.")
@click.option("-a", "--all", "_all", is_flag=True, help="Accepted for Docker's sake: no image is ever hidden.")
@click.option("--no-trunc", is_flag=True, help="Whole image IDs.")
@click.pass_context
def images(context: click.Context, repository: str | None, quiet: bool, _all: bool, no_trunc: bool) -> None:
    """List images, newest first."""
    rows = []
    for image in _store(context).images():
        image_id = image.id if no_trunc else image.id.removeprefix("sha256:")[:12]
        for name in _matching_names(image, repository):
            familiar, _, tag = name.rpartition(":")
            rows.append((familiar, tag, image_id, _age(image.created), human_size(image.size)))
    if quiet:
        for image_id in dict.fromkeys(row[2] for row in rows):
            click.echo(image_id)
        return
    print_table(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows)


def _matching_names(image: Image, wanted: str | None) -> list[str]:
    """The image's names in the repository, or of the reference, `wanted`."""
    from pycontainer.image import reference

    if wanted is None:
        return image.names or ["<none>:<none>"]
    pattern = reference.parse(wanted, tagged=False)
    parsed = [reference.parse(name) for name in image.names]
    return [name.familiar for name in parsed if name.name == pattern.name and pattern.tag in ("", name.tag)]


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Take the name even of an image that a container uses.")
@click.pass_context
def rmi(context: click.Context, names: tuple[str, ...], force: bool) -> int:
    """Remove images by name or ID."""
    from pycontainer.engine.containers import using_image

    store = _store(context)

    def remove(name: str) -> None:
        for line in store.remove(name, force, lambda image_id: using_image(store.connection, image_id)):
            click.echo(line)

    return for_each(names, remove)


@click.command()
@click.argument("source", metavar="IMAGE")
@click.argument("target", metavar="NAME")
@click.pass_context
def tag(context: click.Context, source: str, target: str) -> None:
    """Give an image one more name."""
    store = _store(context)
    store.tag(store.resolve(source).id, target)


@click.group()
def image() -> None:
    """Work with images."""


@image.command()
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.pass_context
def inspect(context: click.Context, names: tuple[str, ...]) -> None:
    """Show what is known about images, as JSON in Docker's form."""
    store = _store(context)
    click.echo(json.dumps([describe(store.resolve(name)) for name in names], indent=4))


def describe(image: Image) -> dict[str, Any]:
    """`image` as `docker image inspect` shows it."""
    document = image.config
    settings = document.get("config") or {}
    history = document.get("history") or [{}]
    return {
        "Id": image.id,
        "RepoTags": image.names,
        "RepoDigests": [],
        "Parent": "",
        "Comment": history[-1].get("comment", ""),
        "Created": image.created,
        "Author": document.get("author") or "",
        "Config": {
            "User": settings.get("User") or "",
            "ExposedPorts": settings.get("ExposedPorts"),
            "Env": settings.get("Env"),
            "Cmd": settings.get("Cmd"),
            "Volumes": settings.get("Volumes"),
            "WorkingDir": settings.get("WorkingDir") or "",
            "Entrypoint": settings.get("Entrypoint"),
            "Labels": settings.get("Labels"),
            "StopSignal": settings.get("StopSignal") or "",
        },
        "Architecture": document.get("architecture") or "",
        "Variant": document.get("variant") or "",
        "Os": document.get("os") or "linux",
        "Size": image.size,
        "GraphDriver": {"Name": "overlay", "Data": {"LowerDir": ":".join(reversed(image.layers))}},
        "RootFS": {"Type": "layers", "Layers": document["rootfs"]["diff_ids"]},
        "Descriptor": {"digest": image.digest},
    }


def _age(created: str) -> str:
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return "N/A"
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return human_age(time.time() - moment.timestamp())


for _command, _names in (
    (images, ("ls", "list")),
    (rmi, ("rm", "remove")),
    (load, ("load",)),
    (import_, ("import",)),
    (tag, ("tag",)),
):
    for _name in _names:
        image.add_command(_command, _name)

COMMANDS: list[click.Command] = [load, import_, images, rmi, tag, image]
