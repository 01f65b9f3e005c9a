"""`network create`, `ls`, `inspect`, `rm`, `connect` and `disconnect`."""

from __future__ import annotations

import sys

from pycontainer.cli.explained import Explained
from pycontainer.cli.main import for_each, notice
from pycontainer.engine import networks
from pycontainer.engine.repair import open_engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.cli.listing import Row
    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal

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


def create(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network create`: prints the id. Raises PycontainerError."""
    from pycontainer.engine import network_changes
    from pycontainer.errors import UsageError

    if (driver := values.get("driver") or "bridge") != "bridge":
        raise UsageError("--driver", repr(driver), "no such driver", "bridge is the only one")
    explained = Explained(values)
    connection = open_engine(settings, notice)
    with explained as journal:
        network_id, notices = network_changes.create(settings, connection, journal, operands[0], values)
    for text in notices:
        notice(text)
    print(network_id)
    return 0


def rm(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network rm`: prints each name."""
    from pycontainer.engine import network_changes
    from pycontainer.errors import NotFound

    explained = Explained(values)
    connection = open_engine(settings, notice)

    def remove(name: str, journal: Journal) -> None:
        try:
            network_changes.remove(settings, connection, journal, name)
        except NotFound:
            if values.get("force"):
                return
            raise
        print(name)

    return explained.for_each(operands, remove)


def connect(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network connect NETWORK CONTAINER`. Raises PycontainerError."""
    from pycontainer.engine import connections
    from pycontainer.engine.config.attachments import Attachment

    network, container = operands
    wish = Attachment(network)
    for alias in values.get("alias") or []:
        wish.take("--alias", "alias", alias)
    for key in ("ip", "ip6"):
        if address := values.get(key):
            wish.take(f"--{key}", key, address)
    if mac := values.get("mac_address"):
        wish.take("--mac-address", "mac-address", mac)
    explained = Explained(values)
    connection = open_engine(settings, notice)
    with explained as journal:
        connections.connect(settings, connection, journal, wish, container, notice)
    return 0


def disconnect(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network disconnect NETWORK CONTAINER`. Raises PycontainerError."""
    from pycontainer.engine import connections

    explained = Explained(values)
    connection = open_engine(settings, notice)
    with explained as journal:
        # What "force" asks for is always so.
        connections.disconnect(settings, connection, journal, *operands)
    return 0


def ls(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network ls`: by name. Raises UsageError."""
    from pycontainer.cli.filters import NETWORK, Filters, network_filter
    from pycontainer.cli.listing import Listing

    listing = Listing(values, _COLUMNS, ["ID", "Name", "Driver", "Scope"])
    filters = Filters(values.get("filter") or [], NETWORK)
    connection = open_engine(settings, notice)
    wanted = network_filter(connection, filters)
    known = networks.list_all(settings, connection)
    listing.print([_row(network, listing.no_trunc) for network in known if wanted(network)])
    return 0


def _row(network: networks.Network, no_trunc: bool) -> Row:
    from pycontainer.monitor.clock import rfc3339

    traits = network.traits
    created = network.stored.created if network.stored else 0
    return {
        "ID": network.id if no_trunc else network.id[:12],
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "IPv4": "true",
        "IPv6": str(bool(traits.subnet6)).lower(),
        "Internal": str(traits.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(traits.labels.items())),
        "Label": lambda label: traits.labels.get(label, ""),
        # Of those that were always there it is not known.
        "CreatedAt": rfc3339(created) if created else networks.NO_TIME,
    }


def inspect(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network inspect`. Raises UsageError."""
    if "picture" in values:
        return _draw(settings, values, operands)
    from pycontainer.cli.inspect import show

    connection = open_engine(settings, notice)
    return show(values, operands, lambda name: networks.describe(settings, connection, name))


def _draw(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    from pycontainer.cli.network_picture import draw
    from pycontainer.engine import topology
    from pycontainer.errors import UsageError

    if values.get("format"):
        raise UsageError("network inspect", "--picture", "it goes with no --format", "a picture has a form of its own")
    connection = open_engine(settings, notice)
    bridges: list[topology.Bridge] = []
    status = for_each(operands, lambda name: bridges.append(topology.describe(settings, connection, name)))
    if bridges:
        sys.stdout.write(draw(topology.host_links(connection), bridges))
    return status


def prune(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer network prune`. Raises UsageError."""
    from pycontainer.cli import prune
    from pycontainer.cli.filters import prune_filter

    wanted = prune_filter(values.get("filter") or [])
    if not prune.confirmed(values, "WARNING! This will remove all custom networks not used by at least one container."):
        return 0
    pruned = prune.networks(settings, open_engine(settings, notice), wanted)
    if pruned.lines:
        print("Deleted Networks:\n" + "".join(f"{name}\n" for name in pruned.lines))
    for failure in pruned.failures:
        notice(failure)
    return 1 if pruned.failures else 0
