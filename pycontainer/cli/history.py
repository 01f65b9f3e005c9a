"""`history`: an image's steps, as docker lists them."""

from __future__ import annotations

import time

from pycontainer.cli.listing import Listing
from pycontainer.cli.main import notice
from pycontainer.cli.table import human_age, human_size, shorten
from pycontainer.engine.history import history as steps_of
from pycontainer.engine.repair import open_engine
from pycontainer.image.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.history import Step
    from pycontainer.engine.settings import Settings

COLUMNS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_MISSING = "<missing>"
_WIDTH = 45  # columns of CREATED BY, as docker has it
# Older than containers are: what a tool writes that wants the same image each time. Docker tells no age of it.
_EPOCH = 946684800


def history(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer history`. Raises NotFound, Conflict, UsageError, ImageError."""
    human = bool(values.get("human", True))
    created = "CreatedSince" if human else "CreatedAt"
    listing = Listing(values, COLUMNS, ["ID", created, "CreatedBy", "Size", "Comment"])
    store = Store(settings.root, open_engine(settings, notice))
    steps = steps_of(store, store.resolve(operands[0]))
    listing.print(row(step, human=human, no_trunc=listing.no_trunc) for step in steps)
    return 0


def row(step: Step, *, human: bool, no_trunc: bool) -> Row:
    """Docker's placeholders for one step."""
    at = _rfc3339(step.created)
    age = human_age(time.time() - step.created) if step.created > _EPOCH else ""
    by = step.created_by.replace("\t", " ")
    image_id = step.id if no_trunc else step.id.removeprefix("sha256:")[:12]
    return {
        "ID": image_id or _MISSING,
        "CreatedSince": age if human else at,
        "CreatedAt": at,
        "CreatedBy": by if no_trunc else shorten(by, _WIDTH),
        "Size": human_size(step.size) if human else str(step.size),
        "Comment": step.comment,
    }


def _rfc3339(seconds: float) -> str:
    """In local time with its offset, as Go writes it; Z for UTC."""
    local = time.localtime(seconds)
    text = f"{local.tm_year:04}" + time.strftime("-%m-%dT%H:%M:%S", local)
    offset = time.strftime("%z", local)
    return f"{text}Z" if offset == "+0000" else f"{text}{offset[:3]}:{offset[3:]}"
