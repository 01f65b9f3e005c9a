"""`inspect` and `image inspect`; and what all the others that inspect print what they found with."""

from __future__ import annotations

import sys

from pycontainer import json_text
from pycontainer.cli.main import for_each, notice
from pycontainer.engine.repair import open_engine
from pycontainer.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from pycontainer.engine.settings import Settings

    Json = dict[str, Any]
    Finder = Callable[[str], Json]


def inspect(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer inspect`: of each name what is found first, container, image, network, volume. Raises UsageError."""
    kind = values.get("type", "")
    connection = open_engine(settings, notice)
    finders = _finders(settings, connection, sized="size" in values)
    if kind and kind not in finders:
        raise UsageError("--type", repr(kind), "no such type", f"there are {', '.join(finders)}")

    def find_any(name: str) -> Json:
        for finder in finders.values():
            try:
                return finder(name)
            # UsageError, because what is no image's name may be another's.
            except (NotFound, UsageError):
                continue
        hint = "pycontainer ps -a, images, network ls and volume ls list what there is"
        raise NotFound("inspect", name, "no such object", hint)

    return show(values, operands, finders[kind] if kind else find_any)


def image(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer image inspect`. Raises UsageError."""
    return show(values, operands, _finders(settings, open_engine(settings, notice))["image"])


def _finders(settings: Settings, connection: sqlite3.Connection, *, sized: bool = False) -> dict[str, Finder]:
    """Kind -> what describes the object of that name, and raises NotFound, Conflict or UsageError.

    sized  of a container also, in bytes, what it has written, and that with its image
    """

    def find_container(name: str) -> Json:
        from pycontainer.engine import containers
        from pycontainer.engine.inspect import describe

        container = containers.find(connection, name)
        found = describe(settings, connection, container)
        if not sized:
            return found
        from pycontainer.engine.usage import written
        from pycontainer.image.store import Store

        size = written(settings, container)
        whole = size + Store(settings.root, connection).get(container.image_id).size
        return {**found, "SizeRw": size, "SizeRootFs": whole}

    def find_image(name: str) -> Json:
        from pycontainer.engine.inspect_image import describe
        from pycontainer.image.store import Store

        return describe(Store(settings.root, connection).resolve(name))

    def find_network(name: str) -> Json:
        from pycontainer.engine.networks import describe

        return describe(settings, connection, name)

    def find_volume(name: str) -> Json:
        from pycontainer.engine import volumes

        return volumes.describe(settings, volumes.find(connection, name))

    return {"container": find_container, "image": find_image, "network": find_network, "volume": find_volume}


def show(values: dict[str, Any], names: list[str], find: Finder) -> int:
    """Print what `find` says of each name, as one JSON array or a line each by --format; 1 when one was not found.

    Raises UsageError.
    """
    text = values.get("format") or ""
    if text in ("", "json"):
        line = json_text.dumps
    else:
        from pycontainer.cli.template import Template

        line = Template(text).render
    found: list[Json] = []
    status = for_each(names, lambda name: found.append(find(name)))
    if text:
        sys.stdout.write("".join(f"{line(each)}\n" for each in found))
    else:
        sys.stdout.write(f"{json_text.pretty(found)}\n")
    return status
