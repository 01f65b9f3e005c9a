"""`pull`, and what `run` and `create` do where an image is missing."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from pycontainer.cli.explained import Explained
from pycontainer.cli.load import max_layer_size, progress_bar
from pycontainer.cli.main import notice
from pycontainer.engine.repair import open_engine
from pycontainer.errors import UsageError, printable
from pycontainer.image import policy, reference
from pycontainer.image.manifest import host_architecture
from pycontainer.image.registry import pull as registry
from pycontainer.image.registry.config import images_directory
from pycontainer.image.store import Store
from pycontainer.kernel.operation import Journal

if TYPE_CHECKING:
    from pycontainer.engine.settings import Settings
    from pycontainer.image.reference import Reference


def pull(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer pull`. Raises PycontainerError, OSError."""
    every = "all_tags" in values
    name = registry.parse(operands[0], all_tags=every)
    platform = _platform(values)
    explained = Explained(values)
    store = Store(settings.root, open_engine(settings, notice))
    names = [name._replace(tag=tag) for tag in registry.tags(name, notice)] if every else [name]
    if not every and ":" not in operands[0].rpartition("/")[2] and "@" not in operands[0] and "quiet" not in values:
        sys.stdout.write(f"Using default tag: {reference.DEFAULT_TAG}\n")
    with explained as journal:
        for each in names:
            _pull(store, each, values, platform, journal, quiet="quiet" in values)
    return 0


def _pull(
    store: Store,
    name: Reference,
    values: dict[str, Any],
    platform: tuple[str, str] | None,
    journal: Journal,
    *,
    quiet: bool,
) -> None:
    # A file holds one for this machine, or is taken for that; and it has no signature.
    fits = platform in (None, ("linux", host_architecture())) and not (values.get("verify") or policy.find(name))
    if fits and _add_from_directory(store, name, values, journal, quiet=quiet):
        return
    if not quiet:
        sys.stdout.write(f"{name.tag or name.digest}: Pulling from {name.path}\n")
        sys.stdout.flush()
    with progress_bar(values) as progress:
        pulled = registry.pull(
            store,
            name,
            platform=platform,
            progress=progress,
            notify=notice,
            max_layer_size=max_layer_size(values.get("max_layer_size")),
            keys=values.get("verify") or [],
            journal=journal,
        )
    journal.flush()
    if quiet:
        sys.stdout.write(f"{name.name}@{pulled.digest}\n")
        return
    word = "Downloaded newer image for" if pulled.is_new else "Image is up to date for"
    sys.stdout.write(f"Digest: {pulled.digest}\nStatus: {word} {name.familiar}\n{name}\n")


def _add_from_directory(
    store: Store, name: Reference, values: dict[str, Any], journal: Journal, *, quiet: bool
) -> bool:
    """Whether there is a file for it, which then nobody need be asked for. Raises PycontainerError."""
    from pycontainer.image import directory

    found = directory.find(images_directory(store.root), name)
    if found is None:
        return False
    if not quiet:
        sys.stdout.write(printable(f"{name.tag}: Loading from {found.path}") + "\n")
        sys.stdout.flush()
    with progress_bar(values) as progress:
        limit = max_layer_size(values.get("max_layer_size"))
        directory.add(store, found, name, progress=progress, max_layer_size=limit, journal=journal)
    journal.flush()
    image = store.resolve(str(name))
    sys.stdout.write(
        f"{name.name}@{image.digest}\n"
        if quiet
        else f"Digest: {image.digest}\nStatus: Loaded {name.familiar}\n{name}\n"
    )
    return True


def before_run(settings: Settings, values: dict[str, Any], image: str, *, missing: bool) -> None:
    """Pull what a container is to be made of; what there is to say goes to standard error, for output is the program's.

    missing  whether it is not there; otherwise a newer one is looked for

    Raises PycontainerError, OSError.
    """
    name = registry.parse(image)
    platform = _platform(values)
    if missing:
        notice(f"no image {name.familiar} here: pulling it")
    store = Store(settings.root, open_engine(settings, notice))
    with contextlib.redirect_stdout(sys.stderr):
        # Of `run` and `create` only what makes the container is explained.
        _pull(store, name, values, platform, Journal(), quiet="quiet" in values)


def _platform(values: dict[str, Any]) -> tuple[str, str] | None:
    """--platform as (os, architecture). Raises UsageError."""
    text = values.get("platform")
    if text is None:
        return None
    parts = text.lower().split("/")
    if len(parts) == 1 and parts[0] != "linux":
        parts = ["linux", *parts]
    if parts[0] != "linux" or len(parts) not in (2, 3) or not all(parts):
        raise UsageError(
            "--platform", repr(text), "not a platform that runs here", "such as linux/amd64 or linux/arm64"
        )
    return parts[0], parts[1]
