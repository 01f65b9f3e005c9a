"""What comes to a published port by IPv6 and is not translated by the kernel, carried on by a process.

    ::1:8080 ──▶ the socket that keeps the port ──▶ this process ──▶ 10.99.0.2:80
    host                                                             container

The kernel translates no address of what the host sends to ::1, for that would have to leave it by another link; and it
translates no IPv6 into IPv4, for a container whose network has none. The container sees the bridge's address then, and
not the client's. There is such a process only while somebody uses such a port: see engine/relaying.py.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from pycontainer.network.publication import is_ipv6

Targets = Callable[[str, str, int], list[tuple[str, int]]]

_IDLE = 60.0  # seconds without anybody, after which `serve` returns
_TICK = 5.0  # seconds
_CONNECT = 5.0  # seconds
_PIECE = 1 << 16  # bytes
_FLOWS = 1024  # clients of UDP at a time; who has been silent for longest has to make room
_SILENCE = 90.0  # seconds until a client of UDP is forgotten
_AT_ONCE = 64  # datagrams of one port before the others have their turn
_DATAGRAM = 1 << 16


def serve(sockets: list[socket.socket], targets: Targets) -> None:
    """Relay what comes to sockets that are bound, and those of TCP listening, until nobody has for a minute.

    targets  of protocol, host address and port: the container's addresses and port, the best first
    """
    # Two descriptors for each connection.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_Relay(targets).serve(sockets))


class _Relay:
    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._connections = 0
        self._last = time.monotonic()

    async def serve(self, sockets: list[socket.socket]) -> None:
        for each in sockets:
            each.setblocking(False)
        listeners = [each for each in sockets if each.type == socket.SOCK_STREAM]
        ports = [_Datagrams(each, self._targets) for each in sockets if each.type == socket.SOCK_DGRAM]
        while True:
            # Copies, because a server closes what it has.
            servers = [await asyncio.start_server(self._accept(each), sock=each.dup()) for each in listeners]
            while not self._is_idle(ports):
                await asyncio.sleep(_TICK)
            for server in servers:
                server.close()
            # Who has been accepted at the last moment; all others find the next such process.
            await asyncio.sleep(0.1)
            if self._is_idle(ports):
                return

    def _is_idle(self, ports: list[_Datagrams]) -> bool:
        for port in ports:
            port.forget_silent()
        last = max([self._last, *(port.last for port in ports)])
        return not self._connections and time.monotonic() - last >= _IDLE

    def _accept(
        self, listener: socket.socket
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        address, port = listener.getsockname()[:2]

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections += 1
            try:
                await self._carry(address, port, reader, writer)
            finally:
                writer.close()
                self._connections -= 1
                self._last = time.monotonic()

        return accept

    async def _carry(self, address: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await self._connect(address, port)
        if theirs is None:
            # As if nobody listened.
            _break_off(writer)
            return
        await asyncio.gather(_pump(reader, theirs[1]), _pump(theirs[0], writer))
        theirs[1].close()

    async def _connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for target in self._targets("tcp", address, port):
            try:
                async with asyncio.timeout(_CONNECT):
                    return await asyncio.open_connection(*target, limit=_PIECE)
            except OSError:
                continue  # a server of the container's may listen to one family only
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry what comes on, to its end, which says nothing about the other direction; a broken one breaks both."""
    try:
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        _break_off(writer)


def _break_off(writer: asyncio.StreamWriter) -> None:
    """Have the other side see a reset, and not an end. Once more is no failure."""
    transport_socket = writer.get_extra_info("socket")
    if transport_socket is not None and transport_socket.fileno() >= 0:
        transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class _Datagrams:
    """One port of UDP. Each client has a socket of its own towards the container, by which an answer finds it.

    last  when anything came, of time.monotonic()
    """

    def __init__(self, port: socket.socket, targets: Targets) -> None:
        self.last = 0.0
        self._port = port
        self._place: tuple[str, int] = port.getsockname()[:2]
        self._targets = targets
        # By the client's address, and which of the host's it has sent to.
        self._flows: OrderedDict[tuple[object, bytes], _Flow] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(port, self._take)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, client = self._port.recvmsg(_DATAGRAM, socket.CMSG_SPACE(20))
            except BlockingIOError:
                return
            except OSError:
                continue  # somebody has refused what was sent to him
            self.last = time.monotonic()
            asked = next((value for _, kind, value in ancillary if kind == socket.IPV6_PKTINFO), b"")
            flow = self._flow(client, asked)
            if flow is not None:
                flow.send(data)

    def _flow(self, client: object, asked: bytes) -> _Flow | None:
        key = (client, asked)
        flow = self._flows.get(key)
        if flow is None:
            targets = self._targets("udp", *self._place)
            if not targets:
                return None
            if len(self._flows) >= _FLOWS:
                self._flows.popitem(last=False)[1].close()
            try:
                flow = _Flow(self._loop, targets[0], self._port, client, asked)
            except OSError:
                return None
            self._flows[key] = flow
        self._flows.move_to_end(key)
        return flow

    def forget_silent(self) -> None:
        now = time.monotonic()
        for key, flow in list(self._flows.items()):
            if now - flow.last > _SILENCE:
                self._flows.pop(key).close()
            else:
                # Of one that still talks it is as if something came.
                self.last = max(self.last, flow.last)


class _Flow:
    """One client of a port of UDP."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: tuple[str, int],
        port: socket.socket,
        client: object,
        asked: bytes,
    ) -> None:
        """Raises OSError."""
        self.last = time.monotonic()
        self._loop, self._port, self._client = loop, port, client
        # So that the answer comes from the address that the client has asked.
        self._ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, asked)] if asked else []
        family = socket.AF_INET6 if is_ipv6(target[0]) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        loop.add_reader(self._socket, self._answer)

    def send(self, data: bytes) -> None:
        self.last = time.monotonic()
        try:
            self._socket.send(data)
        except OSError:
            pass  # as the network does with what it cannot carry

    def _answer(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = self._socket.recv(_DATAGRAM)
            except OSError:
                return
            self.last = time.monotonic()
            try:
                self._port.sendmsg([data], self._ancillary, 0, self._client)  # type: ignore[arg-type]
            except OSError:
                pass

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
