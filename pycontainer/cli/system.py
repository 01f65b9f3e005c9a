"""`info`, `version` and `system df`: this installation as a whole."""

from __future__ import annotations

import sys

from pycontainer import json_text
from pycontainer.cli.listing import Listing
from pycontainer.cli.main import notice
from pycontainer.cli.table import human_size
from pycontainer.engine import information
from pycontainer.engine.repair import open_engine
from pycontainer.errors import UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.settings import Settings

    Json = dict[str, Any]


def info(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer info`. Raises UsageError, OSError."""
    found = information.info(settings, open_engine(settings, notice))
    if values.get("format"):
        return _print(found, values["format"])
    for title, value in (
        ("Containers", found["Containers"]),
        (" Running", found["ContainersRunning"]),
        (" Paused", found["ContainersPaused"]),
        (" Stopped", found["ContainersStopped"]),
        ("Images", found["Images"]),
        ("Server Version", found["ServerVersion"]),
        ("Storage Driver", found["Driver"]),
        *((f" {name}", value) for name, value in found["DriverStatus"]),
        ("Logging Driver", found["LoggingDriver"]),
        ("Cgroup Version", found["CgroupVersion"] or "none"),
        ("Volume Drivers", " ".join(found["Plugins"]["Volume"])),
        ("Network Drivers", " ".join(found["Plugins"]["Network"])),
        ("Security Options", " ".join(text.removeprefix("name=") for text in found["SecurityOptions"])),
        ("Kernel Version", found["KernelVersion"]),
        ("Operating System", found["OperatingSystem"]),
        ("Architecture", found["Architecture"]),
        ("CPUs", found["NCPU"]),
        ("Total Memory", f"{found['MemTotal'] / 2**30:.4g}GiB"),
        ("Name", found["Name"]),
        ("ID", found["ID"]),
        ("Root Dir", found["DockerRootDir"]),
    ):
        sys.stdout.write(f"{printable(f'{title}: {value}')}\n")
    for warning in found["Warnings"]:
        notice(f"warning: {warning}")
    return 0


def version(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer version`. Raises UsageError."""
    found = information.version()
    if values.get("format"):
        return _print(found, values["format"])
    server = found["Server"]
    sys.stdout.write(f"pycontainer: {server['Version']}\n")
    sys.stdout.write(f" OS/Arch: {server['Os']}/{server['Arch']}\n Kernel: {server['KernelVersion']}\n")
    for component in server["Components"]:
        sys.stdout.write(f" {component['Name']}: {component['Version'] or 'not installed'}\n")
    return 0


def _print(found: Json, text: str) -> int:
    if text == "json":
        line = json_text.dumps(found)
    else:
        from pycontainer.cli.template import Template

        line = Template(text).render(found)
    sys.stdout.write(f"{line}\n")
    return 0


_COLUMNS = {
    "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
}  # fmt: skip


def df(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer system df`: layers that images share count once. Raises UsageError, OSError."""
    verbose = "verbose" in values
    if verbose and values.get("format"):
        raise UsageError("--format", "", "not with --verbose", "leave one of the two away")
    listing = Listing(values, _COLUMNS, list(_COLUMNS))
    connection = open_engine(settings, notice)
    if verbose:
        _print_all(settings, connection)
    else:
        rows = (_images, _blobs, _containers, _volumes)
        listing.print([row(settings, connection) for row in rows])
    return 0


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> Row:
    share = f" ({100 * reclaimable // size}%)" if size else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": f"{human_size(reclaimable)}{share}",
    }


def _images(settings: Settings, connection: sqlite3.Connection) -> Row:
    from pycontainer.engine.usage import ImageUsage
    from pycontainer.image.store import Store

    images = Store(settings.root, connection).images()
    usage = ImageUsage(connection, images)
    active = sum(image.id in usage.containers for image in images)
    return _row("Images", len(images), active, usage.total, usage.reclaimable)


def _blobs(settings: Settings, connection: sqlite3.Connection) -> Row:
    """What `image prune --blobs` gives back, and manifests and configs, which stay."""
    from pycontainer.engine.usage import BlobUsage
    from pycontainer.image.store import Store

    usage = BlobUsage(connection, Store(settings.root, connection).blobs)
    return _row("Image Blobs", usage.total, usage.staying, usage.size, usage.reclaimable)


def _containers(settings: Settings, connection: sqlite3.Connection) -> Row:
    from pycontainer.engine import containers
    from pycontainer.engine.prune import IDLE
    from pycontainer.engine.usage import written

    sizes = [(each.status in IDLE, written(settings, each)) for each in containers.list_all(connection)]
    return _row(
        "Containers",
        len(sizes),
        sum(not idle for idle, _ in sizes),
        sum(size for _, size in sizes),
        sum(size for idle, size in sizes if idle),
    )


def _volumes(settings: Settings, connection: sqlite3.Connection) -> Row:
    from pycontainer.engine import volumes

    sizes = [
        (bool(volumes.users(connection, volume.name)), volumes.size(settings, volume.name))
        for volume in volumes.list_all(connection)
    ]
    return _row(
        "Local Volumes",
        len(sizes),
        sum(used for used, _ in sizes),
        sum(size for _, size in sizes),
        sum(size for used, size in sizes if not used),
    )


def _print_all(settings: Settings, connection: sqlite3.Connection) -> None:
    """A table for each kind, a line for each object."""
    from pycontainer.cli import images, ps
    from pycontainer.engine import containers, volumes
    from pycontainer.engine.usage import ImageUsage
    from pycontainer.image.store import Store

    found = Store(settings.root, connection).images()
    usage = ImageUsage(connection, found)
    columns = ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"]
    sys.stdout.write("Images space usage:\n\n")
    Listing({}, images.COLUMNS, columns).print(
        images.row(image, name, usage, no_trunc=False) for image in found for name in image.names or [""]
    )
    blobs = _blobs(settings, connection)
    sys.stdout.write(
        f"\nImage Blobs space usage:\n\n{blobs['Size']}, of which {blobs['Reclaimable']} are reclaimable\n"
    )
    columns = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"]
    listing = Listing({}, ps.COLUMNS, columns)
    rows = ps.Rows(settings, connection, listing, sized=True)
    sys.stdout.write("\nContainers space usage:\n\n")
    listing.print([rows.row(container) for container in containers.list_all(connection)])
    sys.stdout.write("\nLocal Volumes space usage:\n\n")
    Listing({}, {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}, ["Name", "Links", "Size"]).print(
        {
            "Name": volume.name,
            "Links": str(len(volumes.users(connection, volume.name))),
            "Size": human_size(volumes.size(settings, volume.name)),
        }
        for volume in volumes.list_all(connection)
    )
