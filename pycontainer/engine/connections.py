"""`network connect` and `disconnect`: of a container that runs at once, of one that does not at its next start."""

from __future__ import annotations

import errno
import os

from pycontainer.engine import containers, events, networks, ports
from pycontainer.engine.config import attachments
from pycontainer.engine.config.attachments import Attachment
from pycontainer.errors import Conflict, NotFound, PycontainerError, StepFailed
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
    from pycontainer.kernel.operation import Journal, Operation

_CONNECT, _DISCONNECT = "connect container", "disconnect container"
_LONGEST = 65536  # bytes of a resolv.conf; the container may have made one of terabytes of it


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
    up: attach.Network | None = None
    if container.is_active:
        mark = f"{settings.state}/ip_forward"
        (up,), notices = attach.ensure(journal, connection, [network.name], settings.bridge, ports.publications, mark)
        for notice in notices:
            notify(notice)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Kept before it is done, so that one that is killed half way can be undone: by `disconnect`.
        config = containers.get(connection, container.id).config
        present = [each.network for each in config.network.attachments]
        if network.name in present:
            cause = f"container {container.name} is connected to network {network.name} already"
            raise Conflict(_CONNECT, network.name, cause)
        leased = _lease(connection, wish, container, up) if up is not None else None
        config.values.update(attachments.to_values([*config.network.attachments, wish]))
        containers.set_config(connection, container.id, config)
    if up is not None and leased is not None:
        try:
            _plug_in(settings, connection, journal, container, up, leased)
        except BaseException:
            _undo(connection, journal, container, leased)
            raise
    with connection:
        connection.execute("BEGIN IMMEDIATE")
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
        _check_can_leave(container, network.name)
        leased = lease.lease_of(connection, network.name, container.id)
        heirs = [each for each in _others(connection, container, network.name) if not _is_internal(connection, each)]
        if leased is not None and leased.way_out and heirs:
            _give_way_out(connection, container, heirs[0].network)
    failure = None
    if leased is not None:
        _unplug(settings, connection, journal, container, leased)
        ways = [each for each in _others(connection, container, network.name) if _leads_out(connection, each)]
        if ways and container.is_active:
            failure = _lead_out(settings, connection, journal, container, ways[0])
    # It is forgotten last, so that one that is killed half way can be done again.
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        container = containers.get(connection, container.id)
        _check_can_leave(container, network.name)
        _forget(connection, container, network.name)
        _note(connection, "disconnect", network, container)
    if leased is not None:
        _tell_name_server(settings, connection, journal, container)
    if failure is not None:
        raise failure


def _others(connection: sqlite3.Connection, container: containers.Container, name: str) -> list[lease.Lease]:
    """Its places in all networks but one."""
    return [each for each in lease.leases_of(connection, container.id) if each.network != name]


def _check_can_leave(container: containers.Container, name: str) -> None:
    network = container.config.network
    rest = [each for each in network.attachments if each.network != name]
    if len(rest) == len(network.attachments):
        raise Conflict(_DISCONNECT, name, f"container {container.name} is not connected to network {name}")
    if not rest and (network.ports or network.rate):
        # They would be nowhere, and the options would be refused when they are read.
        cause = "it is the last network of a container that publishes ports, or whose rate is limited"
        raise Conflict(_DISCONNECT, name, cause, "connect it to another one first")


def _forget(connection: sqlite3.Connection, container: containers.Container, name: str) -> None:
    """That it is in a network, inside the caller's transaction."""
    config = container.config
    config.values.update(attachments.to_values([each for each in config.network.attachments if each.network != name]))
    containers.set_config(connection, container.id, config)
    lease.release(connection, container.id, name)


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


def _lease(
    connection: sqlite3.Connection, wish: Attachment, container: containers.Container, network: attach.Network
) -> lease.Lease:
    """An address in one more network, inside the caller's transaction. Raises NotFound, Conflict."""
    _check_runs(connection, container)
    held = lease.leases_of(connection, container.id)
    taken = {each.link for each in held}
    leased = lease.allocate(
        connection,
        network.name,
        container.id,
        address=wish.address,
        address6=wish.address6,
        mac=wish.mac,
        aliases=wish.aliases,
        link=next(name for number in range(len(held) + 1) if (name := f"eth{number}") not in taken),
        way_out=not network.internal and not any(_leads_out(connection, each) for each in held),
    )
    if leased.way_out:
        # The one that has it among internal networks leads nowhere.
        _give_way_out(connection, container, network.name)
    return leased


def _plug_in(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    container: containers.Container,
    network: attach.Network,
    leased: lease.Lease,
) -> None:
    if network.has_names:
        from pycontainer.engine import name_server

        name_server.ensure(settings, journal, network.id, network.gateway, container.name)
    namespace = journal.perform(OpenNamespace(container.pid))
    try:
        attach.attach(journal, network, leased, namespace)
        rate = container.config.network.rate
        if rate is not None:
            from pycontainer.network import shaping

            name = names.link_name(container.id, network.name)
            shaping.set_rate(journal, name, leased.link, namespace, shaping.Rate(*rate))
    finally:
        os.close(namespace)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # It may have ended meanwhile, with all its leases.
        _check_runs(connection, container)
    if leased.way_out:
        published_ports.publish(journal, network, container.id, leased.address, ports.bound(container))
    _tell_name_server(settings, connection, journal, container)


def plug_in_anew(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    container: containers.Container,
    leased: lease.Lease,
) -> None:
    """Give a container that runs the cable that belongs to its lease, in place of what there is of it.

    Raises Conflict, HostError, StepFailed.
    """
    (network,), _ = attach.ensure(journal, connection, [leased.network], settings.bridge, ports.publications)
    _delete_cable(journal, leased, "it is not up, and made anew")
    _plug_in(settings, connection, journal, container, network, leased)


def _undo(
    connection: sqlite3.Connection, journal: Journal, container: containers.Container, leased: lease.Lease
) -> None:
    """Take away what a connection that has failed has made. Raises StepFailed."""
    _delete_cable(journal, leased, "the container could not be connected")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            _forget(connection, containers.get(connection, container.id), leased.network)
        except NotFound:
            # It was removed meanwhile, with all that it had.
            pass


def _check_runs(connection: sqlite3.Connection, container: containers.Container) -> None:
    now = containers.get(connection, container.id)
    if not now.is_active or now.pid != container.pid:
        raise Conflict(_CONNECT, container.name, "it has just ended", "pycontainer ps -a shows it")


def _leads_out(connection: sqlite3.Connection, leased: lease.Lease) -> bool:
    stored = lease.find(connection, leased.network)
    return leased.way_out and stored is not None and not stored.traits.internal


def _give_way_out(connection: sqlite3.Connection, container: containers.Container, network: str) -> None:
    """Have its default route, and its published ports, in that network."""
    connection.execute("UPDATE leases SET way_out = (network = ?) WHERE container_id = ?", (network, container.id))


def _unplug(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    container: containers.Container,
    leased: lease.Lease,
) -> None:
    """Take the cable away, before the address: nobody else gets that while it can still be reached."""
    if ports.bound(container):
        published_ports.unpublish(journal, settings.bridge, ports.addresses(connection, leased))
    _delete_cable(journal, leased, "the container leaves the network")


def _delete_cable(journal: Journal, leased: lease.Lease, reason: str) -> None:
    with attach.open_route() as route:
        journal.perform(DeleteLink(route, names.link_name(leased.container_id, leased.network), reason))


def _lead_out(
    settings: Settings,
    connection: sqlite3.Connection,
    journal: Journal,
    container: containers.Container,
    way: lease.Lease,
) -> PycontainerError | None:
    """Have the default route and the published ports of a container that runs at `way`; what kept it from that."""
    try:
        (network,), _ = attach.ensure(journal, connection, [way.network], settings.bridge, ports.publications)
        namespace = journal.perform(OpenNamespace(container.pid))
        try:
            with journal.perform(OpenSocket(namespace)) as inside:
                routes: list[Operation] = [AddDefaultRoute(inside, namespace, lease.pack_address(network.gateway))]
                if network.gateway6:
                    routes.append(AddDefaultRoute6(inside, namespace, network.gateway6))
                for route in routes:
                    _add_unless_there(journal, route)
        finally:
            os.close(namespace)
        published_ports.publish(journal, network, container.id, way.address, ports.bound(container))
    except PycontainerError as error:
        # Returned, because what a container has done to its links must not keep it in a network.
        return error
    return None


def _add_unless_there(journal: Journal, route: Operation) -> None:
    try:
        journal.perform(route)
    except StepFailed as error:
        # It has one already: of its own, or of a `disconnect` that was killed.
        if error.errno != errno.EEXIST:
            raise


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
        written = file.read(_LONGEST + 1)
        if len(written) > _LONGEST:
            return
        before = written.decode(errors="surrogateescape")
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
