"""`volume create`, `ls`, `inspect`, `rm` and `prune`."""

from __future__ import annotations

import sys

from pycontainer.cli.main import notice
from pycontainer.engine import volume_data, volumes
from pycontainer.engine.mounts import volume_name
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.kernel.operation import Journal


def create(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer volume create`: print the name; one that exists is no failure."""
    driver = values.get("driver", volumes.DRIVER)
    if driver != volumes.DRIVER:
        raise UsageError("--driver", repr(driver), "no such volume driver", f"{volumes.DRIVER} is the only one")
    if values.get("opt"):
        hint = "for a directory of the host's use run -v /path:/path, for a file system in memory run --tmpfs"
        raise UsageError("--opt", repr(values["opt"][0]), "the driver takes no options", hint)
    labels = dict(_pair(text) for text in values.get("label") or [])
    name = volume_name("volume create", operands[0]) if operands else ""
    # Here, because who only looks at volumes performs nothing.
    from pycontainer.cli.explained import Explained
    from pycontainer.engine import volume_operations

    explained = Explained(values)
    connection = open_engine(settings, notice)
    with explained as journal:
        name = volume_operations.create(settings, connection, name, labels, journal)
    sys.stdout.write(f"{name}\n")
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise UsageError("--label", repr(text), "names no label", "--label KEY=VALUE")
    return key, value


_COLUMNS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Status": "STATUS",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
}
_UNKNOWN = "N/A"


def ls(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer volume ls`: by name. Raises UsageError."""
    from pycontainer.cli.filters import VOLUME, Filters, volume_filter
    from pycontainer.cli.listing import Listing

    listing = Listing(values, _COLUMNS, ["Driver", "Name"], quiet="Name")
    filters = Filters(values.get("filter") or [], VOLUME)
    connection = open_engine(settings, notice)
    wanted = volume_filter(connection, filters)
    listing.print([_row(settings, volume) for volume in volumes.list_all(connection) if wanted(volume)])
    return 0


def _row(settings: Settings, volume: volumes.Volume) -> Row:
    return {
        "Driver": volumes.DRIVER,
        "Name": volume.name,
        "Scope": "local",
        "Mountpoint": volume_data.data(settings.root, volume.name),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
        "Label": lambda name: volume.labels.get(name, ""),
        # As docker has them for a volume of one machine; the sizes are in `system df`.
        "Links": _UNKNOWN,
        "Size": _UNKNOWN,
        "Status": _UNKNOWN,
        "Availability": _UNKNOWN,
        "Group": _UNKNOWN,
    }


def rm(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer volume rm`: print the names of those that are gone."""
    from pycontainer.cli.explained import Explained
    from pycontainer.engine import volume_operations

    explained = Explained(values)
    connection = open_engine(settings, notice)

    def remove(name: str, journal: Journal) -> None:
        try:
            volume_operations.remove(settings, connection, name, journal)
        except NotFound:
            if not values.get("force"):
                raise
        sys.stdout.write(f"{name}\n")

    return explained.for_each(operands, remove)


def inspect(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer volume inspect`. Raises UsageError."""
    from pycontainer.cli.inspect import show

    connection = open_engine(settings, notice)
    return show(values, operands, lambda name: volumes.describe(settings, volumes.find(connection, name)))


def prune(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer volume prune`. Raises UsageError."""
    from pycontainer.cli.filters import VOLUME_PRUNE, prune_filter
    from pycontainer.cli.prune import confirmed, report
    from pycontainer.engine.prune import prune_volumes

    wanted = prune_filter(values.get("filter") or [], VOLUME_PRUNE)
    named = "all" in values
    which = "all" if named else "anonymous"
    if not confirmed(values, f"WARNING! This will remove {which} local volumes not used by at least one container."):
        return 0
    connection = open_engine(settings, notice)
    pruned = prune_volumes(settings, connection, lambda volume: wanted(volume.created, volume.labels), named=named)
    return report({"Volumes": pruned})
