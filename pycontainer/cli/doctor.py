"""`doctor`."""

from __future__ import annotations

import sys

from pycontainer.cli.listing import Listing
from pycontainer.cli.main import notice
from pycontainer.engine import doctor as engine
from pycontainer.engine.repair import open_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.settings import Settings

_COLUMNS = {"Kind": "KIND", "Name": "NAME", "Why": "WHAT IT IS", "State": "STATE"}


def doctor(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer doctor`: 0 when nothing is left. Raises UsageError, OSError, PycontainerError."""
    found = engine.examine(settings, open_engine(settings, notice))
    listing = Listing(values, _COLUMNS, ["Kind", "Name", "Why", "State"])
    left = len(found)
    states = [(finding, "left behind") for finding in found]
    if values.get("fix"):
        states = [(finding, f"not removed: {cause}" if cause else "removed") for finding, cause in engine.fix(found)]
        left = sum(state != "removed" for _, state in states)
    if states or values.get("format"):
        listing.print({"Kind": f.kind, "Name": f.name, "Why": f.why, "State": state} for f, state in states)
    else:
        sys.stdout.write("Nothing is left behind.\n")
    if left and not values.get("fix"):
        notice("pycontainer doctor --fix removes what is listed")
    return 1 if left else 0
