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
from pycontainer.engine.database import open_database
from pycontainer.errors import NotFound
from pycontainer.kernel import privilege, process, signals
from pycontainer.kernel.event_loop import READ, EventLoop
from pycontainer.monitor import errand
from pycontainer.network import lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainer.engine.settings import Settings

PROCESS_NAME = "pyc-relay"
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
            self._pid, channel = errand.start(lambda: ({}, []), lambda _: self._relay())
        except OSError:
            self._loop.after(_REST, self._wait)
            return
        channel.close()
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

        def targets(protocol: str, host_address: str, host_port: int) -> list[tuple[str, int]]:
            try:
                container = containers.get(connection, self._id)
            except NotFound:
                return []
            ways = [each for each in lease.leases_of(connection, self._id) if each.way_out]
            return [
                (address, binding.port)
                for binding in ports.bound(container)
                if (binding.protocol, binding.host_address, binding.host_port) == (protocol, host_address, host_port)
                for way in ways
                for address in reversed(ports.addresses(connection, way))
            ]

        relay.serve([socket.socket(fileno=each) for each in self._sockets], targets)
        return 0


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
