"""`images`: what is in the store, as docker lists it."""

from __future__ import annotations

import time

from pycontainer.cli.filters import IMAGE, Filters, image_created, image_filter, is_reference
from pycontainer.cli.listing import Listing
from pycontainer.cli.main import notice
from pycontainer.cli.table import human_age, human_size, local_time
from pycontainer.engine.repair import open_engine
from pycontainer.image.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.settings import Settings
    from pycontainer.engine.usage import ImageUsage
    from pycontainer.image.store import Image

COLUMNS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "Digest": "DIGEST",
    "CreatedAt": "CREATED AT",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
_DEFAULT = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
_NONE = "<none>"
_UNKNOWN = "N/A"


def images(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer images`: a line for each name, newest image first. Raises UsageError, NotFound, Conflict."""
    listing = Listing(values, COLUMNS, _DEFAULT)
    filters = Filters([*(values.get("filter") or []), *(f"reference={name}" for name in operands)], IMAGE)
    connection = open_engine(settings, notice)
    wanted = image_filter(settings, connection, filters)
    found = Store(settings.root, connection).images()
    usage = None
    if any(map(listing.needs, ("Containers", "SharedSize", "UniqueSize"))):
        from pycontainer.engine.usage import ImageUsage

        usage = ImageUsage(connection, found)
    listing.print(
        row(image, name, usage, no_trunc=listing.no_trunc)
        for image in found
        if wanted(image)
        for name in image.names or [""]
        if filters.any("reference", lambda pattern, name=name: is_reference(pattern, name))  # type: ignore[misc]
    )
    return 0


def row(image: Image, name: str, usage: ImageUsage | None, *, no_trunc: bool) -> Row:
    """Docker's placeholders for one image under one of its names, "" for none."""
    repository, _, tag = name.rpartition(":")
    created = image_created(image)
    shared = usage.shared[image.id] if usage else 0
    return {
        "Repository": repository or _NONE,
        "Tag": tag or _NONE,
        "ID": image.id if no_trunc else image.id.removeprefix("sha256:")[:12],
        "CreatedSince": human_age(time.time() - created) if created else _UNKNOWN,
        "CreatedAt": local_time(created) if created else _UNKNOWN,
        "Size": human_size(image.size),
        "VirtualSize": human_size(image.size),
        "Digest": image.digest or _NONE,
        "Containers": str(usage.containers.get(image.id, 0)) if usage else _UNKNOWN,
        "SharedSize": human_size(shared) if usage else _UNKNOWN,
        "UniqueSize": human_size(image.size - shared) if usage else _UNKNOWN,
    }
