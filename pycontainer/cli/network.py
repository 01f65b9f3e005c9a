"""`network ls` and `inspect`."""

from __future__ import annotations

from pycontainer.cli.main import notice
from pycontainer.engine import networks
from pycontainer.engine.repair import open_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.settings import Settings

_COLUMNS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv6": "IPV6",
    "IPv4": "IPV4",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def ls(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network ls`: by name. Raises UsageError."""
    from pycontainer.cli.filters import NETWORK, Filters, network_filter
    from pycontainer.cli.listing import Listing

    listing = Listing(values, _COLUMNS, ["ID", "Name", "Driver", "Scope"])
    wanted = network_filter(settings, Filters(values.get("filter") or [], NETWORK))
    open_engine(settings, notice)
    listing.print([_row(settings, name, listing.no_trunc) for name in sorted(networks.DRIVERS) if wanted(name)])
    return 0


def _row(settings: Settings, name: str, no_trunc: bool) -> Row:
    network_id = networks.identify(settings, name)
    return {
        "ID": network_id if no_trunc else network_id[:12],
        "Name": name,
        "Driver": networks.DRIVERS[name],
        "Scope": "local",
        "IPv4": "true",
        "IPv6": "false",
        "Internal": "false",
        "Labels": "",
        "Label": lambda label: "",
        # They were always there.
        "CreatedAt": networks.NO_TIME,
    }


def inspect(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network inspect`. Raises UsageError."""
    from pycontainer.cli.inspect import show

    connection = open_engine(settings, notice)
    return show(values, operands, lambda name: networks.describe(settings, connection, name))
