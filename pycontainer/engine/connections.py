"""`network connect` and `disconnect`: of a container that runs at once, of one that does not at its next start."""

from __future__ import annotations

import os

from pycontainer.engine import containers, events, networks, ports
from pycontainer.engine.config import attachments
from pycontainer.engine.config.attachments import Attachment
from pycontainer.errors import Conflict
from pycontainer.kernel import files as kernel_files
from pycontainer.kernel import record
from pycontainer.kernel.operation import word
from pycontainer.network import attach, files, lease, names
from pycontainer.network import ports as published_ports
from pycontainer.network.operations import (
    AddDefaultRoute,
    AddDefaultRoute6,
    DeleteLink,
    NetworkOperation,
    OpenNamespace,
    OpenSocket,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal

_CONNECT, _DISCONNECT = "connect container", "disconnect container"


def connect(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    wish: Attachment,
    name_or_id: str,
    notify: Callable[[str], None],
) -> None:
    """Put a container into one more network. Raises NotFound, Conflict, HostError, StepFailed; then it is not in it."""
    network = networks.find(settings, connection, wish.network)
    container = containers.find(connection, name_or_id)
    wish.network = network.name
    _refuse_special(_CONNECT, container, network)
    wish.check()
    if container.is_active:
        _plug_in(settings, connection, journal, wish, container, notify)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        container = containers.get(connection, container.id)
        config = container.config
        _check_absent(container, network.name, [each.network for each in config.network.attachments])
        config.values.update(attachments.to_values([*config.network.attachments, wish]))
        containers.set_config(connection, container.id, config)
        _note(connection, "connect", network, container)


def disconnect(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    name: str,
    name_or_id: str,
) -> None:
    """Take a container out of a network. Raises NotFound, Conflict, StepFailed."""
    network = networks.find(settings, connection, name)
    container = containers.find(connection, name_or_id)
    _refuse_special(_DISCONNECT, container, network)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        container = containers.get(connection, container.id)
        config = container.config
        rest = [each for each in config.network.attachments if each.network != network.name]
        if len(rest) == len(config.network.attachments):
            cause = f"container {container.name} is not connected to network {network.name}"
            raise Conflict(_DISCONNECT, network.name, cause)
        if not rest and (config.network.ports or config.network.rate):
            # They would be nowhere, and the options would be refused when they are read.
            cause = "it is the last network of a container that publishes ports, or whose rate is limited"
            raise Conflict(_DISCONNECT, network.name, cause, "connect it to another one first")
        config.values.update(attachments.to_values(rest))
        containers.set_config(connection, container.id, config)
        _note(connection, "disconnect", network, container)
    if lease.lease_of(connection, network.name, container.id) is not None:
        _unplug(settings, connection, journal, network, container)


def _note(
    connection: sqlite3.Connection, action: str, network: networks.Network, container: containers.Container
) -> None:
    attributes = {"container": container.id, "name": network.name, "type": network.driver}
    events.record(connection, "network", action, network.id, attributes)


def _refuse_special(step: str, container: containers.Container, network: networks.Network) -> None:
    if network.driver != "bridge":
        raise Conflict(step, network.name, f"a container is in network {network.name} from its start, or never")
    mode = container.config.network.mode
    if mode == "host" or mode.startswith("container:"):
        cause = f"container {container.name} has no network of its own, but {mode}'s"
        raise Conflict(step, network.name, cause, "make it anew with --network")


def _check_absent(container: containers.Container, name: str, present: list[str]) -> None:
    if name in present:
        raise Conflict(_CONNECT, name, f"container {container.name} is connected to network {name} already")


def _plug_in(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    wish: Attachment,
    container: containers.Container,
    notify: Callable[[str], None],
) -> None:
    mark = f"{settings.state}/ip_forward"
    (network,), notices = attach.ensure(journal, connection, [wish.network], settings.bridge, ports.publications, mark)
    for notice in notices:
        notify(notice)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        held = lease.leases_of(connection, container.id)
        _check_absent(container, wish.network, [each.network for each in held])
        _check_runs(connection, container)
        taken = {each.link for each in held}
        link = next(name for number in range(len(held) + 1) if (name := f"eth{number}") not in taken)
        way_out = not network.internal and not any(_leads_out(connection, each) for each in held)
        leased = lease.allocate(
            connection,
            wish.network,
            container.id,
            address=wish.address,
            mac=wish.mac,
            aliases=wish.aliases,
            link=link,
            way_out=way_out,
        )
    try:
        if network.has_names:
            from pycontainer.engine import name_server

            name_server.ensure(settings, journal, network.id, network.gateway, container.name)
        namespace = journal.perform(OpenNamespace(container.pid))
        try:
            if way_out:
                _forget_way_out(connection, container, leased)
            attach.attach(journal, network, leased, namespace)
            rate = container.config.network.rate
            if rate is not None:
                from pycontainer.network import shaping

                name = names.link_name(container.id, network.name)
                shaping.set_rate(journal, name, link, namespace, shaping.Rate(*rate))
        finally:
            os.close(namespace)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            # It may have ended meanwhile, with all its leases, and this one would be nobody's.
            _check_runs(connection, container)
        if way_out:
            published_ports.publish(journal, network, container.id, leased.address, ports.bound(container))
        _tell_name_server(settings, connection, journal, container)
    except BaseException:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            lease.release(connection, container.id, wish.network)
        raise


def _check_runs(connection: sqlite3.Connection, container: containers.Container) -> None:
    now = containers.get(connection, container.id)
    if not now.is_active or now.pid != container.pid:
        raise Conflict(_CONNECT, container.name, "it has just ended", "pycontainer ps -a shows it")


def _leads_out(connection: sqlite3.Connection, leased: lease.Lease) -> bool:
    stored = lease.find(connection, leased.network)
    return leased.way_out and stored is not None and not stored.traits.internal


def _forget_way_out(connection: sqlite3.Connection, container: containers.Container, leased: lease.Lease) -> None:
    """The one that has it among internal networks leads nowhere."""
    connection.execute(
        "UPDATE leases SET way_out = (network = ?) WHERE container_id = ?", (leased.network, container.id)
    )


def _unplug(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    network: networks.Network,
    container: containers.Container,
) -> None:
    """Take the cable away, then the address: nobody else gets that while it can still be reached."""
    leased = lease.lease_of(connection, network.name, container.id)
    if leased is None:
        return
    bindings = ports.bound(container)
    if leased.way_out and bindings:
        published_ports.unpublish(journal, settings.bridge, leased.address)
    with attach.open_route() as route:
        name = names.link_name(container.id, network.name)
        journal.perform(DeleteLink(route, name, "the container leaves the network"))
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        lease.release(connection, container.id, network.name)
        rest = lease.leases_of(connection, container.id)
        heirs = [each for each in rest if not _is_internal(connection, each)] if leased.way_out else []
        if heirs:
            connection.execute(
                "UPDATE leases SET way_out = 1 WHERE container_id = ? AND network = ?", (container.id, heirs[0].network)
            )
    if heirs and container.is_active:
        (heir,), _ = attach.ensure(journal, connection, [heirs[0].network], settings.bridge, ports.publications)
        namespace = journal.perform(OpenNamespace(container.pid))
        try:
            with journal.perform(OpenSocket(namespace)) as inside:
                journal.perform(AddDefaultRoute(inside, namespace, lease.pack_address(heir.gateway)))
                if heir.gateway6:
                    journal.perform(AddDefaultRoute6(inside, namespace, heir.gateway6))
        finally:
            os.close(namespace)
        published_ports.publish(journal, heir, container.id, heirs[0].address, bindings)
    _tell_name_server(settings, connection, journal, container)


def _is_internal(connection: sqlite3.Connection, leased: lease.Lease) -> bool:
    stored = lease.find(connection, leased.network)
    return stored is None or stored.traits.internal


def _tell_name_server(
    settings: Settings, connection: sqlite3.Connection, journal: Journal, container: containers.Container
) -> None:
    """Have the resolv.conf of a container that runs name the server of a network that it is in."""
    stored = [lease.find(connection, each.network) for each in lease.leases_of(connection, container.id)]
    gateways = [each.gateway for each in stored if each is not None and each.id]
    every = {each.gateway for each in lease.find_all(connection) if each.id}
    path = f"{settings.container_directory(container.id)}/resolv.conf"
    try:
        # Through no link that the container might have made of it.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        before = file.read().decode(errors="surrogateescape")
        after = files.exchange_servers(before, every, gateways[:1])
        if after != before:
            journal.perform(ExchangeServer(path, descriptor, after))


class ExchangeServer(NetworkOperation):
    """Write a resolv.conf anew."""

    step = "exchange the name server"
    reason = "written in place, for this file is mounted in the container: another one of its name would not be"

    def __init__(self, path: str, descriptor: int, text: str) -> None:
        self.path = path
        self._descriptor = descriptor
        self._text = text

    def shell(self) -> str:
        return f"printf %s {word(self._text)} > {word(self.path)}"

    def execute(self) -> None:
        record.name(self._descriptor, self.path)
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        kernel_files.write(self._descriptor, self._text.encode(errors="surrogateescape"))
