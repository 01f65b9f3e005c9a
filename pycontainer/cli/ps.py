"""`ps`: the containers, as docker lists them."""

from __future__ import annotations

import time

from pycontainer.cli.listing import Listing
from pycontainer.cli.main import notice
from pycontainer.cli.table import human_age, human_duration, human_size, local_time, shorten
from pycontainer.engine import containers, ports
from pycontainer.engine.repair import open_engine
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings

COLUMNS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "CreatedAt": "CREATED AT",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "State": "STATE",
}
_DEFAULT = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
_COMMAND_WIDTH = 20
_MOUNT_WIDTH = 15
# What docker calls running, besides what it shows as the status.
_RUNNING = ("running", "paused", "restarting")


def ps(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer ps`. Raises UsageError, NotFound and Conflict for what a filter names, OSError."""
    sized = "size" in values
    listing = Listing(values, COLUMNS, [*_DEFAULT, "Size"] if sized else _DEFAULT)
    connection = open_engine(settings, notice)
    rows = Rows(settings, connection, listing, sized=sized or listing.names("Size"))
    listing.print([rows.row(container) for container in _chosen(settings, connection, values)])
    return 0


def _chosen(settings: Settings, connection: sqlite3.Connection, values: dict[str, Any]) -> list[Container]:
    """Newest first."""
    limit = 1 if values.get("latest") else _limit(values.get("last", "-1"))
    found = containers.list_all(connection)
    everything = values.get("all") or limit > 0
    if texts := values.get("filter"):
        from pycontainer.cli import filters

        chosen = filters.Filters(texts, filters.CONTAINER)
        everything = everything or "status" in chosen
        wanted = filters.container_filter(settings, connection, chosen)
        found = [container for container in found if wanted(container)]
    if not everything:
        found = [container for container in found if container.status in _RUNNING]
    return found[:limit] if limit > 0 else found


def _limit(text: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise UsageError("--last", repr(text), "not a number", "such as --last 3")
    return int(text)


class Rows:
    """Makes the rows; what is costly to find out only where `listing` will show it, and sizes only where `sized`."""

    def __init__(self, settings: Settings, connection: sqlite3.Connection, listing: Listing, *, sized: bool) -> None:
        self._settings = settings
        self._connection = connection
        self._trunc = not listing.no_trunc
        self._sized = sized
        self._mounts = listing.needs("Mounts") or listing.needs("LocalVolumes")
        self._networks = listing.needs("Networks")
        self._platform = listing.needs("Platform")
        self._now = time.time()
        names = connection.execute(
            "SELECT name, image_id FROM image_names UNION SELECT familiar, image_id FROM image_names"
        )
        self._images: dict[str, str] = dict(names.fetchall())

    def row(self, container: Container) -> Row:
        """Docker's placeholders for one container. Raises OSError, Conflict."""
        mounts = self._find_mounts(container) if self._mounts else []
        return {
            "ID": container.id[:12] if self._trunc else container.id,
            "Image": self._image(container),
            "Command": self._command(container),
            "RunningFor": human_age(self._now - container.created),
            "Status": status_text(container, self._now),
            "Ports": ports.summary(container),
            "Names": container.name,
            "Size": self._size(container) if self._sized else "0B",
            "CreatedAt": local_time(container.created),
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(container.labels.items())),
            "Label": lambda name: container.labels.get(name, ""),
            "LocalVolumes": str(sum(kind == "volume" for kind, _ in mounts)),
            "Mounts": ",".join(shorten(name, _MOUNT_WIDTH) if self._trunc else name for _, name in mounts),
            "Networks": self._find_network(container) if self._networks else "",
            "Platform": self._find_platform(container) if self._platform else "",
            "State": container.shown_status,
        }

    def _image(self, container: Container) -> str:
        """The name that was given, as long as it is the image's; then its id."""
        name = container.image
        if "@" in name or container.image_id in (self._images.get(name), self._images.get(f"{name}:latest")):
            return name
        digits = container.image_id.removeprefix("sha256:")
        return digits[:12] if self._trunc else container.image_id

    def _command(self, container: Container) -> str:
        command = " ".join(container.command)
        if self._trunc:
            command = shorten(command, _COMMAND_WIDTH)
        command = command.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{command}"'

    def _size(self, container: Container) -> str:
        from pycontainer.engine.usage import written

        size = written(self._settings, container)
        row = self._connection.execute("SELECT size FROM images WHERE id=?", (container.image_id,)).fetchone()
        return f"{human_size(size)} (virtual {human_size(size + row[0])})" if row else human_size(size)

    def _find_mounts(self, container: Container) -> list[tuple[str, str]]:
        from pycontainer.engine import volumes

        return [(mount.kind, mount.source) for mount in volumes.of(self._connection, container.id)]

    def _find_network(self, container: Container) -> str:
        from pycontainer.engine import networks

        return ",".join(networks.of(container))

    def _find_platform(self, container: Container) -> str:
        from pycontainer.image.store import Store

        config = Store(self._settings.root, self._connection).get(container.image_id).config
        return f"{config.get('os') or 'linux'}/{config.get('architecture') or ''}"


def status_text(container: Container, now: float) -> str:
    """Docker's STATUS: `Up 5 minutes (healthy)`. `now` in seconds since the epoch."""
    ended = human_age(now - (container.finished or now))
    if container.status == "restarting":
        return f"Restarting ({container.exit_status}) {ended}"
    if container.status == "exited":
        return f"Exited ({container.exit_status}) {ended}"
    if not container.is_active:
        return "Created"
    text = f"Up {human_duration(now - (container.started or now))}"
    if container.status == "paused":
        return f"{text} (Paused)"
    health = container.health.get("Status", "none")
    if health == "none":
        return text
    return f"{text} (health: starting)" if health == "starting" else f"{text} ({health})"
