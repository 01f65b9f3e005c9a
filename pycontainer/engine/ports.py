"""Published ports of a container: what was asked for, what the database keeps of it, how Docker shows it.

The database's `ports` are there from before anything is published until after it is taken back, so that whoever finds
a killed container knows that there is something: a JSON array of [protocol, port, host address, host port], the last
two "" and 0 for a port that is exposed and not published.
"""

from __future__ import annotations

from pycontainer import json_text
from pycontainer.engine.config.ports import Port, parse_expose
from pycontainer.errors import UsageError
from pycontainer.network import lease
from pycontainer.network.publication import ANY, ANY6, Binding, Publication, Wanted, is_ipv6, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal
    from pycontainer.network.ports import Reserved

Json = dict[str, "Any"]

DISCARDED = "published ports are discarded when using host network mode"


def exposed_ports(asked: ContainerConfig, image: Json) -> list[Port]:
    """What image and options expose or publish, sorted; `image` is its OCI `config` object."""
    ports = {
        *asked.network.ports.exposed,
        *((wanted.port, wanted.protocol) for wanted in asked.network.ports.published),
    }
    for text in image.get("ExposedPorts") or {}:
        try:
            ports.update(parse_expose(text))
        except UsageError:
            continue  # an image may say what it likes
    return sorted(ports)


def reserve(journal: Journal, connection: sqlite3.Connection, container: Container, image: Json) -> Reserved:
    """Take the host's ports for a container that starts, and record them. Raises PortTaken, StepFailed.

    What is reserved must be published next, and `release` is how it ends. `image` is its OCI `config` object.
    """
    from pycontainer.engine import containers
    from pycontainer.network import ports

    asked = container.config
    exposed = exposed_ports(asked, image)
    wanted = list(asked.network.ports.published)
    published = {(each.port, each.protocol) for each in wanted}
    if asked.network.ports.publish_all:
        wanted += [Wanted(protocol, port) for port, protocol in exposed if (port, protocol) not in published]
    try:
        reserved = ports.reserve(journal, wanted)
    except ports.PortTaken as error:
        holder = _holder(connection, error.binding)
        raise ports.PortTaken(error.binding, f"container {holder}") if holder else error from None
    bound = {(binding.port, binding.protocol) for binding in reserved.bindings}
    rows: list[list[str | int]] = [
        [binding.protocol, binding.port, binding.host_address, binding.host_port] for binding in reserved.bindings
    ]
    rows += [[protocol, port, "", 0] for port, protocol in exposed if (port, protocol) not in bound]
    if rows:
        containers.set_ports(connection, container.id, rows)
    return reserved


def release(settings: Settings, connection: sqlite3.Connection, container_id: str) -> None:
    """Take back what a container has published that does not run any more. Before its lease goes. Raises StepFailed."""
    row = connection.execute("SELECT ports FROM containers WHERE id=?", (container_id,)).fetchone()
    if row is None or not row[0]:
        return
    from pycontainer.engine import containers
    from pycontainer.kernel.operation import Journal
    from pycontainer.network import ports

    if _bindings(json_text.loads(row[0])):
        for leased in lease.leases_of(connection, container_id):
            ports.unpublish(Journal(), settings.bridge, addresses(connection, leased))
    containers.set_ports(connection, container_id, [])


def addresses(connection: sqlite3.Connection, leased: lease.Lease) -> list[str]:
    """What a container has in one network: its IPv4 address, and the IPv6 one if there is one."""
    stored = lease.find(connection, leased.network)
    address6 = stored.address6(leased.address) if stored is not None else ""
    return [leased.address, address6] if address6 else [leased.address]


def publications(connection: sqlite3.Connection) -> list[Publication]:
    """What the containers publish, all of them: what the maps of the bridge should hold."""
    from pycontainer.network.ports import led_to

    networks = {each.name: each for each in lease.find_all(connection)}
    rows = connection.execute(
        "SELECT ports, address, network FROM containers JOIN leases ON container_id = id WHERE ports != '' AND way_out"
    ).fetchall()
    return [
        publication
        for text, address, network in rows
        for publication in led_to(_bindings(json_text.loads(text)), address, networks[network].address6(address))
    ]


def stale(connection: sqlite3.Connection, interface: str) -> list[Publication]:
    """What the bridge's maps hold and no container publishes. Raises StepFailed."""
    from pycontainer.kernel.operation import Journal
    from pycontainer.network import ports

    # In this order, because a container is recorded before it publishes.
    found = ports.find_published(Journal(), interface)
    known = set(map(str, publications(connection)))
    return [publication for publication in found if str(publication) not in known]


def remove_stale(interface: str, found: list[Publication]) -> None:
    """Take back what `stale` has found. Raises StepFailed."""
    from pycontainer.kernel.operation import Journal
    from pycontainer.network import ports

    names = set(map(str, found))
    ports.withdraw(Journal(), interface, lambda publication: str(publication) in names)


def _holder(connection: sqlite3.Connection, wanted: Binding) -> str:
    """The name of the container that publishes what is wanted, "" for none."""
    for name, text in connection.execute("SELECT name, ports FROM containers WHERE ports != ''"):
        if any(wanted.clashes(binding) for binding in _bindings(json_text.loads(text))):
            return str(name)
    return ""


def _bindings(rows: list[Any]) -> list[Binding]:
    return [Binding(*row) for row in rows if row[3]]


def bound(container: Container) -> list[Binding]:
    """What is published of a container, sorted by its own ports."""
    found = _bindings(container.ports)
    return sorted(found, key=lambda each: (each.port, each.protocol, each.host_address, each.host_port))


def drawn(container: Container) -> list[str]:
    """As a picture shows them: `127.0.0.1:8080 -> 80/tcp`, and one `*:8080 -> 80/tcp` for all addresses."""
    found = bound(container)
    everywhere = [
        {(each.protocol, each.host_port, each.port) for each in found if each.host_address == address}
        for address in (ANY, ANY6)
    ]
    lines: dict[str, None] = {}
    for each in found:
        key = (each.protocol, each.host_port, each.port)
        is_everywhere = each.host_address in (ANY, ANY6) and all(key in one for one in everywhere)
        where = f"*:{each.host_port}" if is_everywhere else place(each.host_address, each.host_port)
        lines[f"{where} -> {each.port}/{each.protocol}"] = None
    return list(lines)


def published(container: Container) -> Json:
    """NetworkSettings.Ports of the Engine API: of a container that does not run it is empty."""
    found: Json = {f"{port}/{protocol}": None for protocol, port, _, _ in container.ports}
    for binding in bound(container):
        name = f"{binding.port}/{binding.protocol}"
        found[name] = [*(found[name] or []), {"HostIp": binding.host_address, "HostPort": str(binding.host_port)}]
    return found


def exposed(asked: ContainerConfig, image: Json) -> Json:
    """Config.ExposedPorts of the Engine API."""
    return {f"{port}/{protocol}": {} for port, protocol in exposed_ports(asked, image)}


def bindings(asked: ContainerConfig) -> Json:
    """HostConfig.PortBindings of the Engine API: what was asked for, with "" for any address and for any port."""
    found: Json = {}
    for wanted in asked.network.ports.published:
        port = f"{wanted.first}-{wanted.last}" if wanted.first != wanted.last else str(wanted.first or "")
        shown = {"HostIp": wanted.host_address, "HostPort": port}
        found.setdefault(f"{wanted.port}/{wanted.protocol}", []).append(shown)
    return found


def summary(container: Container) -> str:
    """As `ps` shows them: `0.0.0.0:8080->80/tcp, 443/tcp`; ports that keep their numbers as ranges."""
    texts: list[str] = []
    runs: list[tuple[str, str, int, int]] = []  # host address, protocol, first and last port
    for port, protocol, address, host_port in sorted((row[1], row[0], row[2], row[3]) for row in container.ports):
        if host_port not in (0, port):
            texts.append(f"{place(address, host_port)}->{port}/{protocol}")
            continue
        at = next((i for i, run in enumerate(runs) if run[:2] == (address, protocol) and run[3] == port - 1), None)
        if at is None:
            runs.append((address, protocol, port, port))
        else:
            runs[at] = (*runs[at][:3], port)
    return ", ".join([*map(_run, runs), *texts])


def _run(run: tuple[str, str, int, int]) -> str:
    address, protocol, first, last = run
    numbers = str(first) if first == last else f"{first}-{last}"
    where = f"[{address}]" if is_ipv6(address) else address
    return f"{where}:{numbers}->{numbers}/{protocol}" if address else f"{numbers}/{protocol}"
