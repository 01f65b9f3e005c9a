"""The process that is the name server of one network: while somebody is in it, at the gateway's address.

    a start in the network ── asks the launcher ──▶ serves ── fork ──▶ stands by, has its sockets, waits for its end
                                                      │ killed           │
                                                      ▼                  ▼
                                                    (gone)             serves ── fork ──▶ stands by

The launcher forks it, which has no connection to the database: SQLite's do not outlive a fork. A lock says that it is
there, which both have by inheritance. What it answers stands in the database, which it reads whenever that has changed:
so a name is known as soon as the container starts, and gone with its end.
"""

from __future__ import annotations

import os
import socket
import time

from pycontainer.engine import name_server_lock
from pycontainer.engine.ask import ask
from pycontainer.engine.database import open_database
from pycontainer.errors import HostError
from pycontainer.kernel import privilege, process
from pycontainer.kernel.operation import Operation
from pycontainer.monitor import messages
from pycontainer.network import files, lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pycontainer.engine.settings import Settings
    from pycontainer.kernel.operation import Journal
    from pycontainer.monitor.messages import Message
    from pycontainer.network.resolver import Names

PROCESS_NAME = "pyc-dns"
_SPARE_NAME = "pyc-dns-spare"
_PORT = 53
_TICK = 1.0  # seconds
# How often a port is tried that the last process of the same gateway is about to give up, and how long apart.
_ATTEMPTS, _REST = 30, 0.1


def ensure(settings: Settings, journal: Journal, network_id: str, gateway: str, member: str) -> None:
    """Have a network's name server at its gateway's address; when this returns, it answers.

    After the lease is committed that it is needed for, because it ends when there is none. `member` is the container.

    Raises HostError, StepFailed, OSError.
    """
    lock = name_server_lock.take(settings.state, network_id)
    if lock is None:
        return
    try:
        journal.perform(StartNameServer(settings, network_id, gateway, member, lock))
    finally:
        os.close(lock)


class StartNameServer(Operation):
    group = "network"
    step = "start the name server"
    reason = "addresses change with every start, and names stay: it looks them up at the moment that it is asked"

    def __init__(self, settings: Settings, network_id: str, gateway: str, member: str, lock: int) -> None:
        self.path = f"{gateway} for {member}"
        self._settings = settings
        self._network_id = network_id
        self._gateway = gateway
        self._member = member
        self._lock = lock

    def shell(self) -> str:
        return f"dnsmasq --bind-interfaces --listen-address={self._gateway} --host-record={self._member},…"

    def execute(self) -> None:
        request = {"do": "name server", "network": self._network_id, "gateway": self._gateway}
        connection = ask(self._settings, request, [self._lock])
        try:
            answer, _ = messages.receive(connection)
        finally:
            connection.close()
        if answer is None or answer["say"] != "ready":
            error = messages.unpack_error(answer) if answer else None
            cause = (error.strerror or "" if isinstance(error, OSError) else str(error)) if error else "it has ended"
            hint = "end what listens there, or have it listen at other addresses (dnsmasq: bind-interfaces)"
            raise HostError(self.step, f"{self._gateway}:{_PORT}", cause.lower(), hint)


def serve(settings: Settings, connection: _socket.socket, request: Message, lock: int) -> None:
    """Be the name server that `ensure` has asked for, until nobody is in the network. Raises OSError, HostError."""
    # Before it says that it is there, because nothing is to be loaded later.
    from pycontainer.network import resolver  # noqa: F401

    os.setsid()
    sockets = _listen(request["gateway"])
    # From here on it reads what containers send. Its files are root's, and that is all that it needs of root.
    privilege.set_no_new_privileges()
    privilege.capset(0, 0, 0)
    messages.send(connection, {"say": "ready"})
    connection.close()
    os.chdir("/")
    _serve(settings, request["network"], lock, sockets)


def _listen(address: str) -> tuple[socket.socket, socket.socket]:
    """UDP's and TCP's. Raises OSError."""
    for attempt in range(_ATTEMPTS):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            udp.bind((address, _PORT))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((address, _PORT))
            tcp.listen(128)
            return udp, tcp
        except OSError:
            udp.close()
            tcp.close()
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_REST)
    raise AssertionError


def _serve(settings: Settings, network_id: str, lock: int, sockets: tuple[socket.socket, socket.socket]) -> None:
    """Serve, with another process that stands by, until nobody is in the network."""
    from pycontainer.network.resolver import Resolver

    while True:
        farewell, spare = _fork_spare()
        process.set_name(PROCESS_NAME)
        zone = Zone(settings, network_id)

        def goes_on(zone: Zone = zone, spare: int = spare) -> bool:
            return zone.is_used() and os.waitpid(spare, os.WNOHANG)[0] == 0

        # Anew each time, because what it polls with would be shared with the one that stands by.
        Resolver([sockets[0]], [sockets[1]], zone.names, zone.upstreams).serve(goes_on, _TICK)
        if not zone.is_used() and _is_over(zone, lock):
            os.write(farewell, b"\0")
            return
        zone.close()
        os.close(farewell)


def _is_over(zone: Zone, lock: int) -> bool:
    """Give up the lock, unless somebody has come meanwhile who believes that it is held."""
    name_server_lock.give_up(lock)
    # Who has come may have begun another one.
    return not zone.is_used() or not name_server_lock.retake(lock)


def _fork_spare() -> tuple[int, int]:
    """Fork a process that stands by: a pipe to say farewell by, and its pid. The one that takes over returns too."""
    while True:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid:
            os.close(reader)
            return writer, pid
        os.close(writer)
        process.set_name(_SPARE_NAME)
        # A byte is the farewell of one that is not needed any more; the end without one is its death.
        if os.read(reader, 1):
            os._exit(0)
        os.close(reader)


class Zone:
    """What the containers of a network can reach by name, each in all the networks that it is in itself."""

    def __init__(self, settings: Settings, network_id: str) -> None:
        """Raises HostError."""
        self._id = network_id
        self._connection = open_database(settings.root)
        self._version = -1
        self._clients: set[str] = set()
        self._names: dict[str, Names] = {}
        self._servers: dict[str, list[str] | None] = {}

    def close(self) -> None:
        self._connection.close()

    def is_used(self) -> bool:
        """Whether the network is there and somebody is in it."""
        return bool(
            self._connection.execute(
                "SELECT 1 FROM leases JOIN networks ON name = network WHERE id = ? LIMIT 1", (self._id,)
            ).fetchone()
        )

    def names(self, client: str) -> Names:
        """What who asks from that address can reach; whoever is no container of the network, those that are."""
        self._refresh()
        client = self._known(client)
        if client not in self._names:
            self._names[client] = self._read_names(client)
        return self._names[client]

    def upstreams(self, client: str) -> list[str]:
        """The name servers that --dns names, or else the host's; none in networks without a way out."""
        self._refresh()
        client = self._known(client)
        if client not in self._servers:
            self._servers[client] = self._read_servers(client)
        chosen = self._servers[client]
        return _host_servers() if chosen is None else chosen

    def _refresh(self) -> None:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._names.clear()
            self._servers.clear()
            rows = self._connection.execute(
                "SELECT address FROM leases JOIN networks ON name = network WHERE id = ?", (self._id,)
            )
            self._clients = {address for (address,) in rows}

    def _known(self, client: str) -> str:
        """The address of a container, and "" for any other: who sends can forge them all, and each is remembered."""
        return client if client in self._clients else ""

    def _read_names(self, client: str) -> Names:
        from pycontainer.network.resolver import Names

        addresses: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        rows = self._connection.execute(
            """SELECT l.network, l.address, l.aliases, c.name, c.id, json_extract(c.config, '$.values.hostname')
            FROM leases l JOIN containers c ON c.id = l.container_id JOIN networks n ON n.name = l.network
            WHERE n.id != '' AND c.status IN ('starting', 'running', 'paused') AND (n.id = ?1 OR l.network IN (
                SELECT theirs.network FROM leases theirs JOIN leases mine ON mine.container_id = theirs.container_id
                    JOIN networks own ON own.name = mine.network WHERE own.id = ?1 AND mine.address = ?2))
            ORDER BY n.id != ?1, l.rowid""",
            (self._id, client),
        )
        networks = {network.name: network for network in lease.find_all(self._connection)}
        for network, address, aliases, name, container_id, hostname in rows:
            found = [address, networks[network].address6(address)]
            own = {name, *aliases.split(), container_id[:12], hostname or name}
            for each in {word.lower() for word in own}:
                for text in (each, f"{each}.{network.lower()}"):
                    addresses.setdefault(text, []).extend(filter(None, found))
            names.update((each, f"{name}.{network}") for each in found if each)
        return Names(addresses, names)

    def _read_servers(self, client: str) -> list[str] | None:
        row = self._connection.execute(
            """SELECT json_extract(c.config, '$.values.dns'),
                (SELECT min(coalesce(json_extract(nullif(n.traits, ''), '$.internal'), 0)) FROM leases o
                    JOIN networks n ON n.name = o.network WHERE o.container_id = c.id)
            FROM leases l JOIN containers c ON c.id = l.container_id JOIN networks own ON own.name = l.network
            WHERE own.id = ? AND l.address = ?""",
            (self._id, client),
        ).fetchone()
        if row is None:
            return []
        servers, internal = row
        if internal:
            return []
        from pycontainer import json_text

        return list(json_text.loads(servers)) or None if servers else None


def _host_servers() -> list[str]:
    try:
        with open(files.RESOLV_CONF, encoding="utf-8", errors="surrogateescape") as file:
            return files.nameservers(file.read())
    except OSError:
        return []
