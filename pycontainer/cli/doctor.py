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
    connection = open_engine(settings, notice)
    for line in engine.notices(connection):
        notice(line)
    found = engine.examine(settings, connection)
    listing = Listing(values, _COLUMNS, ["Kind", "Name", "Why", "State"])
    left = len(found)
    states = [(finding, finding.states[0]) for finding in found]
    if values.get("fix"):
        fixed = list(engine.fix(found))
        states = [(each, f"not {each.states[1]}: {cause}" if cause else each.states[1]) for each, cause in fixed]
        left = sum(bool(cause) for _, cause in fixed)
    if states or values.get("format"):
        listing.print({"Kind": f.kind, "Name": f.name, "Why": f.why, "State": state} for f, state in states)
    else:
        sys.stdout.write("Nothing is left behind.\n")
    if left and not values.get("fix"):
        notice("pycontainer doctor --fix puts that in order")
    return 1 if left else 0
