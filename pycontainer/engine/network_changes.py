"""Making and removing networks."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time

from pycontainer.engine import containers, events, networks, ports
from pycontainer.engine.prune import Pruned
from pycontainer.errors import Conflict, PycontainerError, UsageError
from pycontainer.kernel.operation import Journal
from pycontainer.network import attach, bridge, lease, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from pycontainer.engine.settings import Settings

_STEP = "create network"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_BRIDGE_PREFIX = "pyc-"  # of a link's name, which has 15 characters
_MTU = "com.docker.network.driver.mtu"
_LINK = "com.docker.network.bridge.name"
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
_OPTIONS = (_MTU, _LINK, _MASQUERADE)
# 68 is the least that IPv4 allows, 65535 the longest packet.
_LEAST_MTU, _MOST_MTU = 68, 65535
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")
# A subnet has its own address, one for the gateway, the broadcast address, and one for a container.
_LONGEST_PREFIX = 30
# Each container has the same number in both subnets, and the IPv4 one has 24 bits at most for it.
_LONGEST_PREFIX6 = 104


def create(
    settings: Settings, connection: sqlite3.Connection, journal: Journal, name: str, values: dict[str, Any]
) -> tuple[str, list[str]]:
    """Make a network with its bridge; its id, and lines for the user.

    values  the options: subnet, gateway, ip_range, internal, label, opt

    Raises UsageError, Conflict, HostError, StepFailed; then there is none.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            _STEP, repr(name), "not a name", "letters, digits, '_', '.' and '-', the first a letter or digit"
        )
    network_id = secrets.token_hex(32)
    options = _pairs("--opt", values.get("opt") or [])
    subnet, gateway, ip_range = _place(values)
    subnet6 = _subnet6(values)
    traits = lease.Traits(
        internal=bool(values.get("internal")),
        masquerade=_boolean(_MASQUERADE, options.get(_MASQUERADE, "true")),
        mtu=_mtu(options.get(_MTU, "0")),
        ip_range=ip_range,
        subnet6=subnet6,
        labels=_pairs("--label", values.get("label") or []),
        options=options,
    )
    for key in options:
        if key not in _OPTIONS:
            raise UsageError(
                "--opt", repr(key), "no such option of the bridge driver", f"there are {', '.join(_OPTIONS)}"
            )
    interface = options.get(_LINK) or _BRIDGE_PREFIX + network_id[: 15 - len(_BRIDGE_PREFIX)]
    if not names.is_link_name(interface):
        raise UsageError("--opt", interface, "not a name for a link", "1 to 15 letters, digits, '-', '.', '_'")
    wish = lease.StoredNetwork(name, interface, subnet, gateway, network_id, time.time(), traits)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if name in networks.DRIVERS or name == "default" or lease.find(connection, name):
            raise Conflict(_STEP, name, f"network with name {name} already exists")
        if attach.is_there(journal, interface):
            raise Conflict(_STEP, interface, "a link of that name is there already", "ip link show lists them")
        # Its row first and in a transaction of its own, so that somebody knows of a bridge whose maker was killed.
        bridge.reserve(journal, connection, wish)
    try:
        return network_id, _make(settings, connection, journal, network_id, name)
    except BaseException:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            stored = lease.find(connection, name)
            if stored and stored.id == network_id and not lease.lease_count(connection, name):
                table = names.table_name(settings.bridge)
                bridge.remove(journal, connection, stored, table, ports.publications(connection))
        raise


def _make(
    settings: Settings, connection: sqlite3.Connection, journal: Journal, network_id: str, name: str
) -> list[str]:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        stored = lease.find(connection, name)
        if stored is None or stored.id != network_id:
            raise Conflict(_STEP, name, "it was removed while it was being made")
        table = names.table_name(settings.bridge)
        notices = bridge.make(journal, connection, stored, table, ports.publications(connection))
        events.record(connection, "network", "create", network_id, {"name": name, "type": "bridge"})
    return notices


def remove(settings: Settings, connection: sqlite3.Connection, journal: Journal, name_or_id: str) -> None:
    """Remove a network that nobody is in. Raises NotFound, Conflict, HostError, StepFailed."""
    network = networks.find(settings, connection, name_or_id)
    if not network.is_own:
        raise Conflict("remove network", network.name, f"{network.name} is a pre-defined network and cannot be removed")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Again, for somebody else may have been faster.
        stored = lease.find(connection, network.name)
        if stored is None or stored.id != network.id:
            return
        if holders := [each.container_id for each in lease.leases_in(connection, network.name)]:
            inside = ", ".join(_name(connection, each) for each in holders)
            hint = "stop them, or `pycontainer network disconnect`"
            raise Conflict("remove network", network.name, f"it has containers: {inside}", hint)
        bridge.remove(journal, connection, stored, names.table_name(settings.bridge), ports.publications(connection))
        events.record(connection, "network", "destroy", network.id, {"name": network.name, "type": "bridge"})


def _name(connection: sqlite3.Connection, container_id: str) -> str:
    row = connection.execute("SELECT name FROM containers WHERE id = ?", (container_id,)).fetchone()
    return str(row[0]) if row else container_id[:12]


def prune(
    settings: Settings,
    connection: sqlite3.Connection,
    wanted: Callable[[networks.Network], bool],
) -> Pruned:
    """Remove those that no container has, also none that does not run."""
    pruned = Pruned()
    used = {name for each in containers.list_all(connection) for name in networks.of(each)}
    for network in networks.list_all(settings, connection):
        if not network.is_own or not wanted(network) or used & {network.name, network.id}:
            continue
        try:
            remove(settings, connection, Journal(), network.id)
            pruned.lines.append(network.name)
        except Conflict:
            # Somebody has begun to use it.
            continue
        except PycontainerError as error:
            pruned.failures.append(str(error))
    return pruned


def _place(values: dict[str, Any]) -> tuple[str, str, str]:
    """--subnet, --gateway and --ip-range of IPv4, "" for what is not said. Raises UsageError."""
    texts = [text for text in values.get("subnet") or [] if ":" not in text]
    if len(texts) > 1:
        raise UsageError("--subnet", ", ".join(texts), "a network has one IPv4 subnet")
    subnet = _network("--subnet", texts[0] if texts else "")
    ip_range = _network("--ip-range", values.get("ip_range") or "")
    gateway = values.get("gateway") or ""
    if subnet is None:
        for flag, value in (("--gateway", gateway), ("--ip-range", ip_range)):
            if value:
                raise UsageError(flag, str(value), "without --subnet", "it has to lie in the subnet")
        return "", "", ""
    if subnet.prefixlen > _LONGEST_PREFIX:
        raise UsageError("--subnet", str(subnet), "too small", f"/{_LONGEST_PREFIX} has room for one container")
    if subnet.is_loopback or subnet.is_multicast or subnet.is_link_local or subnet.prefixlen < 8:
        raise UsageError("--subnet", str(subnet), "not for containers", "such as 10.20.0.0/16 or 192.168.77.0/24")
    if ip_range is not None and not ip_range.subnet_of(subnet):
        raise UsageError("--ip-range", str(ip_range), f"it does not lie in {subnet}")
    try:
        inside = not gateway or lease.contains(str(subnet), gateway)
    except ValueError:
        inside = False
    if not inside:
        raise UsageError("--gateway", repr(gateway), f"it is no address of {subnet}")
    return str(subnet), gateway, str(ip_range or "")


def _subnet6(values: dict[str, Any]) -> str:
    """That of IPv6, "" for none: what --subnet says, or for --ipv6 a unique local one, RFC 4193. Raises UsageError."""
    texts = [text for text in values.get("subnet") or [] if ":" in text]
    if not texts:
        return str(ipaddress.IPv6Network((0xFD << 120 | secrets.randbits(40) << 80, 64))) if values.get("ipv6") else ""
    if len(texts) > 1:
        raise UsageError("--subnet", ", ".join(texts), "a network has one IPv6 subnet")
    try:
        subnet = ipaddress.IPv6Network(texts[0], strict=False)
    except ValueError as error:
        raise UsageError("--subnet", repr(texts[0]), "not a subnet", "such as fd12:3456:789a::/64") from error
    if subnet.prefixlen > _LONGEST_PREFIX6 or subnet.is_multicast or subnet.is_link_local or subnet.is_loopback:
        raise UsageError(
            "--subnet",
            texts[0],
            "not for containers",
            f"one of at most /{_LONGEST_PREFIX6}, such as fd12:3456:789a::/64",
        )
    return str(subnet)


def _network(flag: str, text: str) -> ipaddress.IPv4Network | None:
    if not text:
        return None
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError as error:
        raise UsageError(flag, repr(text), "not a subnet", "such as 10.20.0.0/16") from error


def _pairs(flag: str, texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise UsageError(flag, repr(text), "not KEY=VALUE")
        found[key] = value
    return found


def _boolean(key: str, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise UsageError("--opt", f"{key}={text}", "neither true nor false")
    return text.lower() in _TRUE


def _mtu(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else -1
    if number and not _LEAST_MTU <= number <= _MOST_MTU:
        raise UsageError("--opt", f"{_MTU}={text}", "not an MTU", f"from {_LEAST_MTU} to {_MOST_MTU} bytes")
    return number
