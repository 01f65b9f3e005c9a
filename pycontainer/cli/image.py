"""`rmi` and `tag`."""

from __future__ import annotations

import sys

from pycontainer.cli.main import for_each, notice
from pycontainer.engine.containers import using_image
from pycontainer.engine.repair import open_engine
from pycontainer.image.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.settings import Settings


def rmi(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer rmi`: print what was taken away, names, images and layers."""
    store = Store(settings.root, open_engine(settings, notice))

    def remove(name: str) -> None:
        lines = store.remove(name, bool(values.get("force")), lambda image_id: using_image(store.connection, image_id))
        sys.stdout.write("".join(f"{line}\n" for line in lines))

    return for_each(operands, remove)


def tag(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer tag`. Raises NotFound, Conflict, UsageError."""
    store = Store(settings.root, open_engine(settings, notice))
    store.tag(store.resolve(operands[0]).id, operands[1])
    return 0
