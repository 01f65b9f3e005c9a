"""`container prune`, `image prune`, `system prune`; and what `volume prune` asks and prints with."""

from __future__ import annotations

import sys

from pycontainer.cli.filters import image_created, image_labels, prune_filter
from pycontainer.cli.main import notice
from pycontainer.cli.table import human_size
from pycontainer.engine import prune
from pycontainer.engine.repair import open_engine
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from pycontainer.engine.settings import Settings
    from pycontainer.image.store import Image

    Wanted = Callable[[float, dict[str, str]], bool]


def containers(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer container prune`. Raises UsageError."""
    wanted = prune_filter(values.get("filter") or [])
    if not confirmed(values, "WARNING! This will remove all stopped containers."):
        return 0
    connection = open_engine(settings, notice)
    return report({"Containers": _containers(settings, connection, wanted)})


def images(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer image prune`. Raises UsageError."""
    wanted, named = prune_filter(values.get("filter") or []), "all" in values
    which = "all images without at least one container associated to them" if named else "all dangling images"
    left = ", and what interrupted pulls have left"
    blobs = (
        ", and the layers of all others as they arrived, which save, push and commit need" if "blobs" in values else ""
    )
    if not confirmed(values, f"WARNING! This will remove {which}{left}{blobs}."):
        return 0
    connection = open_engine(settings, notice)
    pruned = {"Images": _images(settings, connection, wanted, named)}
    if blobs:
        pruned["Blobs"] = prune.prune_blobs(settings, connection, _of_images(wanted))
    pruned["Downloads"] = prune.prune_downloads(settings, wanted)
    return report(pruned)


def system(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer system prune`: containers first, for they are what volumes and images are used by.

    Raises UsageError.
    """
    filters = values.get("filter") or []
    wanted, named, with_volumes = prune_filter(filters), "all" in values, "volumes" in values
    if with_volumes and any(text.startswith("until") for text in filters):
        raise UsageError("--filter", "until", "not with --volumes", "a volume's age does not say whether it is needed")
    which = [
        "all stopped containers",
        "all networks not used by at least one container",
        *(["all anonymous volumes not used by at least one container"] if with_volumes else []),
        "all images without at least one container associated to them" if named else "all dangling images",
        "what interrupted pulls have left",
    ]
    list_ = "".join(f"\n  - {each}" for each in which)
    if filters:
        list_ += "\n\n  Items to be pruned will be filtered with:" + "".join(f"\n  - {text}" for text in filters)
    if not confirmed(values, f"WARNING! This will remove:{list_}\n"):
        return 0
    connection = open_engine(settings, notice)
    pruned = {"Containers": _containers(settings, connection, wanted)}
    if with_volumes:
        pruned["Volumes"] = prune.prune_volumes(
            settings, connection, lambda volume: wanted(volume.created, volume.labels), named=False
        )
    pruned["Networks"] = networks(settings, connection, wanted)
    pruned["Images"] = _images(settings, connection, wanted, named)
    pruned["Downloads"] = prune.prune_downloads(settings, wanted)
    return report(pruned)


def _containers(settings: Settings, connection: sqlite3.Connection, wanted: Wanted) -> prune.Pruned:
    return prune.prune_containers(settings, connection, lambda container: wanted(container.created, container.labels))


def _images(settings: Settings, connection: sqlite3.Connection, wanted: Wanted, named: bool) -> prune.Pruned:
    return prune.prune_images(settings, connection, _of_images(wanted), named=named)


def _of_images(wanted: Wanted) -> Callable[[Image], bool]:
    return lambda image: wanted(image_created(image), image_labels(image))


def networks(settings: Settings, connection: sqlite3.Connection, wanted: Wanted) -> prune.Pruned:
    """Remove those that users have made and no container has."""
    from pycontainer.engine import network_changes

    return network_changes.prune(
        settings,
        connection,
        lambda network: wanted(network.stored.created if network.stored else 0, network.traits.labels),
    )


def confirmed(values: dict[str, Any], warning: str) -> bool:
    """Whether --force was given, or who is asked says yes; the end of standard input is a no."""
    if "force" in values:
        return True
    sys.stdout.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stdout.write("\n")
    return answer.strip().lower() in ("y", "yes")


def report(pruned: dict[str, prune.Pruned]) -> int:
    """Print what was removed, by kind, and what that freed; 1 when something could not be removed."""
    for kind, each in pruned.items():
        if each.lines:
            sys.stdout.write(f"Deleted {kind}:\n" + "".join(f"{line}\n" for line in each.lines) + "\n")
    freed = sum(each.reclaimed for each in pruned.values())
    sys.stdout.write(f"Total reclaimed space: {human_size(freed)}\n")
    failures = [failure for each in pruned.values() for failure in each.failures]
    for failure in failures:
        notice(failure)
    return 1 if failures else 0
