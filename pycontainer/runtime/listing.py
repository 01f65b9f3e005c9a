"""`list`: the containers of a root, as runc lists them."""

from __future__ import annotations

import os
import time

from pycontainer import json_text
from pycontainer.errors import NotFound, UsageError
from pycontainer.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.runtime.state import Json, State


def show(root: str, *, quiet: bool, form: str) -> str:
    """What `list` prints: ids, a table, or JSON. Raises UsageError."""
    if form not in ("table", "json"):
        raise UsageError("list", f"--format {form}", "no such format", "table or json")
    found = []
    for container_id in state.list_ids(root):
        try:
            found.append(state.load(root, container_id))
        except NotFound:
            # It was deleted a moment ago.
            continue
    if quiet:
        return "".join(f"{container.container_id}\n" for container in found)
    entries = [_describe(container) for container in found]
    if form == "json":
        return f"{json_text.dumps(entries)}\n"
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [
        (str(each["id"]), str(each["pid"]), str(each["status"]), str(each["bundle"]), str(each["created"]), "root")
        for each in entries
    ]
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(len(rows[0]))]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def _describe(container: State) -> Json:
    """The state as the specification has it, and what runc adds: when it was made (RFC 3339), and by whom."""
    try:
        seconds = os.stat(f"{container.directory}/state.json").st_mtime
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except FileNotFoundError:
        created = ""
    return {**container.to_json(), "created": created, "owner": "root"}
