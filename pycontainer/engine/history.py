"""`history`: what an image was made by, and how large each step has made it."""

from __future__ import annotations

from pycontainer.engine.moment import parse_moment
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.image.store import Image, Store


class Step:
    """One entry of an image's history.

    id       that of the image for its newest step, "" for all others: nobody has an image of them
    created  seconds since the epoch, 0 where the image does not say it
    size     bytes of its layer, unpacked; 0 where it made none, which is what `has_layer` says
    """

    __slots__ = ("comment", "created", "created_by", "has_layer", "id", "size")

    def __init__(self, entry: dict[str, Any], size: int, *, has_layer: bool = True) -> None:
        self.id = ""
        self.created = _moment(entry.get("created"))
        self.created_by = _text(entry.get("created_by"))
        self.comment = _text(entry.get("comment"))
        self.size = size
        self.has_layer = has_layer


def history(store: Store, image: Image) -> list[Step]:
    """All steps, newest first. Raises ImageError.

    Others have written it, and config.md of the image-spec leaves it optional: layers that no entry is about follow as
    steps that say nothing but their size, so that the sizes always add up to the image's.
    """
    steps = []
    layers = list(image.layers)
    for entry in image.config.get("history") or []:
        layer = "" if entry.get("empty_layer") is True or not layers else layers.pop(0)
        steps.append(Step(entry, store.layer_size(layer) if layer else 0, has_layer=bool(layer)))
    steps.extend(Step({}, store.layer_size(layer)) for layer in layers)
    if steps:
        steps[-1].id = image.id
    return steps[::-1]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: object) -> float:
    try:
        return parse_moment("created", value) if isinstance(value, str) and value else 0.0
    except UsageError:
        return 0.0
