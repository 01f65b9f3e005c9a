"""`layers`: what each layer does, and which one a path comes from."""

from __future__ import annotations

from pycontainer.cli.listing import Listing
from pycontainer.cli.main import notice
from pycontainer.cli.table import human_size, shorten
from pycontainer.engine import layers
from pycontainer.engine.repair import open_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.layers import Counts, Found, Layer
    from pycontainer.engine.settings import Settings

_WIDTH = 45  # columns of CREATED BY
_LAYERS = {
    "Layer": "LAYER",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Adds": "ADDS",
    "Changes": "CHANGES",
    "Removes": "REMOVES",
    "Path": "PATH",
}
_PATHS = {
    "Layer": "LAYER",
    "CreatedBy": "CREATED BY",
    "Does": "DOES",
    "At": "PATH",
    "Detail": "WHAT IS THERE",
    "Seen": "SEEN",
}


def show(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer layers`; exit status 1 where no container sees the path. Raises NotFound, UsageError, ImageError."""
    name, *paths = operands
    connection = open_engine(settings, notice)
    found = layers.find(settings, connection, name)
    if not paths:
        listing = Listing(values, _LAYERS, ["Layer", "CreatedBy", "Size", "Adds", "Changes", "Removes"])
        counted = zip(found, layers.count(settings, found), strict=True)
        listing.print([_layer(layer, counts, listing) for layer, counts in counted][::-1])
        return 0
    listing = Listing(values, _PATHS, list(_PATHS))
    traced = layers.trace(found, paths[0])
    listing.print([_path(each, traced, listing) for each in traced])
    return 0 if any(each.visible for each in traced) else 1


def _common(layer: Layer, listing: Listing) -> Row:
    by = layer.created_by.replace("\t", " ")
    return {"Layer": str(layer.number), "CreatedBy": by if listing.no_trunc else shorten(by, _WIDTH)}


def _layer(layer: Layer, counts: Counts, listing: Listing) -> Row:
    return {
        **_common(layer, listing),
        "Size": human_size(counts.size),
        "Adds": str(counts.added),
        "Changes": str(counts.changed),
        "Removes": str(counts.removed),
        "Path": layer.path,
    }


def _path(each: Found, traced: list[Found], listing: Listing) -> Row:
    # The nearest above that lets nothing through.
    above = [other for other in traced[: traced.index(each)] if not other.merges]
    if each.visible:
        seen = "yes"
    elif above:
        seen = f"no, because of layer {above[-1].layer.number}"
    else:
        seen = "no"
    return {**_common(each.layer, listing), "Does": each.what, "At": each.at, "Detail": each.detail, "Seen": seen}
