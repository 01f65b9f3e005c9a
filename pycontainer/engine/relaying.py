"""The process that relays a container's published ports of IPv6: there only while somebody uses one.

    monitor ── waits for a first client at the sockets that keep the ports ──▶ fork ──▶ relay
       ▲                                                                                  │
       └────────────────────── nobody for a minute, or killed ────────────────────────────┘

As inetd(8) does it with `wait`. A thousand ports are no process, and what the kernel translates never comes here.
"""

from __future__ import annotations

import _socket
import os
import select

from pycontainer.engine import containers, ports
from pycontainer.engine.database import Error, open_database
from pycontainer.errors import NotFound
from pycontainer.kernel import privilege, process, signals
from pycontainer.kernel.event_loop import READ, EventLoop
from pycontainer.monitor import errand
from pycontainer.network import lease
from pycontainer.network.publication import is_ipv6

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from pycontainer.engine.settings import Settings
    from pycontainer.network.publication import Binding

PROCESS_NAME = "pyc-relay"
_PATIENCE = 500  # milliseconds
_REST = 1.0  # seconds until another one is tried, where it could not be made or was killed


class Relaying:
    """Has the relay of one container made when it is needed."""

    def __init__(self, settings: Settings, container_id: str, loop: EventLoop, reserved: Sequence[int]) -> None:
        """reserved: descriptors of the sockets that keep its ports, which stay the caller's. Raises OSError."""
        self._settings = settings
        self._id = container_id
        self._loop = loop
        self._sockets = [each for each in reserved if _is_ipv6(each)]
        self._pid, self._pidfd = 0, -1
        # One descriptor for the loop, however many ports there are.
        self._waiting = select.epoll()
        for each in self._sockets:
            self._waiting.register(each, select.EPOLLIN)
        self._wait()

    def _wait(self) -> None:
        if self._sockets:
            self._loop.watch(self._waiting.fileno(), READ, self._begin)

    def _begin(self) -> None:
        self._loop.forget(self._waiting.fileno())
        try:
            self._pid = errand.begin(self._relay)
        except OSError:
            self._loop.after(_REST, self._wait)
            return
        self._pidfd = os.pidfd_open(self._pid)
        self._loop.watch(self._pidfd, READ, self._take_end)

    def _take_end(self) -> None:
        if self._reap() == 0:
            self._wait()
        else:
            self._loop.after(_REST, self._wait)

    def _reap(self) -> int:
        self._loop.forget(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        self._pid, self._pidfd = 0, -1
        return status

    def close(self) -> None:
        """End the relay: nothing of it has the sockets any more. May be called twice."""
        self._loop.forget(self._waiting.fileno())
        self._sockets = []
        if self._pid:
            os.kill(self._pid, signals.SIGKILL)
            self._reap()

    def _relay(self) -> int:
        """Be the relay, in a process of its own."""
        process.set_name(PROCESS_NAME)
        _close_all_but(self._sockets)
        # Before anything comes in from outside, because nothing is to be loaded later.
        import socket

        from pycontainer.network import relay

        connection = open_database(self._settings.root)
        # Its files are root's, and that is all that it needs of root.
        privilege.set_no_new_privileges()
        privilege.capset(0, 0, 0)
        os.chdir("/")

        ways = _Ways(connection, self._id)
        relay.serve([socket.socket(fileno=each) for each in self._sockets], ways.targets, ways.admits)
        return 0


class _Ways:
    """Where a container's ports lead to, as the database says, which is read again whenever it has changed."""

    def __init__(self, connection: sqlite3.Connection, container_id: str) -> None:
        self._connection = connection
        self._id = container_id
        self._version = -1
        self._bindings: list[Binding] = []
        self._addresses: list[str] = []
        self._internal: list[lease.StoredNetwork] = []
        # Nobody's data is to wait for a command that keeps it locked.
        connection.execute(f"PRAGMA busy_timeout={_PATIENCE}")

    def targets(self, protocol: str, host_address: str, host_port: int) -> list[tuple[str, int]]:
        """The container's addresses and port that a port of the host's leads to, the best first."""
        self._refresh()
        wanted = (protocol, host_address, host_port)
        return [
            (address, binding.port)
            for binding in self._bindings
            if (binding.protocol, binding.host_address, binding.host_port) == wanted
            for address in self._addresses
        ]

    def admits(self, client: str, link: int) -> bool:
        """Whether it is nobody in an internal network, which nothing gets out of: what is relayed is not forwarded."""
        self._refresh()
        if self._version < 0:
            return False
        return not any(_is_in(network, client.removeprefix("::ffff:"), link) for network in self._internal)

    def _refresh(self) -> None:
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._read()
                self._version = version
        except (OSError, Error):
            # Then it is as it was.
            pass

    def _read(self) -> None:
        connection = self._connection
        try:
            bindings = ports.bound(containers.get(connection, self._id))
        except NotFound:
            bindings = []
        ways = [each for each in lease.leases_of(connection, self._id) if each.way_out]
        addresses = [address for way in ways for address in reversed(ports.addresses(connection, way))]
        self._internal = [each for each in lease.find_all(connection) if each.traits.internal]
        self._bindings, self._addresses = bindings, addresses


def _is_in(network: lease.StoredNetwork, client: str, link: int) -> bool:
    """Whether a container of the network's may have sent it. link: the one that it came by, 0 for unknown."""
    if client in (network.gateway, network.gateway6):
        return False
    try:
        if link and _socket.if_indextoname(link) == network.interface:
            return True
    except OSError:
        pass  # a link that has just gone
    subnet = network.traits.subnet6 if is_ipv6(client) else network.subnet
    return bool(subnet) and lease.is_within(subnet, client)


def _is_ipv6(descriptor: int) -> bool:
    probe = _socket.socket(fileno=descriptor)
    try:
        return probe.family == _socket.AF_INET6
    finally:
        probe.detach()


def _close_all_but(kept: list[int]) -> None:
    """Of what the monitor has open: a stream of the container's that stays open here has no end there."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # the one of the list itself
