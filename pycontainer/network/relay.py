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
import sys
import time
from collections import OrderedDict
from collections.abc import Callable

from pycontainer.network.publication import is_ipv6

Targets = Callable[[str, str, int], list[tuple[str, int]]]
Admits = Callable[[str, int], bool]

_IDLE = 60.0  # seconds without anybody, after which `serve` returns
_TICK = 5.0  # seconds
_CONNECT = 5.0  # seconds
_PIECE = 1 << 16  # bytes
_FLOWS = 1024  # clients of a port of UDP at a time; who has been silent for longest has to make room
_SILENCE = 90.0  # seconds until a client of UDP is forgotten
_AT_ONCE = 64  # connections or datagrams of one port before the others have their turn
_DATAGRAM = 1 << 16
_SPARE = 32  # descriptors for all that is no client
_REST = 1.0  # seconds until the next attempt, where the machine has no descriptors left


def serve(sockets: list[socket.socket], targets: Targets, admits: Admits) -> None:
    """Relay what comes to sockets that are bound, and those of TCP listening, until nobody has for a minute.

    targets  of protocol, host address and port: the container's addresses and port, the best first
    admits   whether a client may come in, by its address and the index of the link that it came by, 0 for unknown
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_Relay(targets, admits, max(8, most - _SPARE - len(sockets))).serve(sockets))


class _Relay:
    def __init__(self, targets: Targets, admits: Admits, descriptors: int) -> None:
        self._targets = targets
        self._admits = admits
        # A quarter is for UDP, so that neither has all. Each connection has two; no more are accepted than there
        # are descriptors for, because others wait better in the kernel.
        self._flows = descriptors // 4
        self._most = descriptors * 3 // 8
        self._listeners: list[socket.socket] = []
        self._carried: set[asyncio.Task[None]] = set()
        self._last = time.monotonic()

    async def serve(self, sockets: list[socket.socket]) -> None:
        for each in sockets:
            each.setblocking(False)
        self._listeners = [each for each in sockets if each.type == socket.SOCK_STREAM]
        datagrams = [each for each in sockets if each.type == socket.SOCK_DGRAM]
        flows = min(_FLOWS, self._flows // max(1, len(datagrams)))
        ports = [_Datagrams(each, self._targets, self._admits, flows) for each in datagrams]
        self._listen()
        # Whoever comes after the last look waits in the kernel for the next such process.
        while not self._is_idle(ports):
            await asyncio.sleep(_TICK)

    def _is_idle(self, ports: list[_Datagrams]) -> bool:
        for port in ports:
            port.forget_silent()
        last = max([self._last, *(port.last for port in ports)])
        return not self._carried and time.monotonic() - last >= _IDLE

    def _listen(self) -> None:
        if len(self._carried) < self._most:
            for each in self._listeners:
                asyncio.get_running_loop().add_reader(each, self._take, each)

    def _pause(self) -> None:
        for each in self._listeners:
            asyncio.get_running_loop().remove_reader(each)

    def _take(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if len(self._carried) >= self._most:
                self._pause()
                return
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it has gone again
            except OSError:
                self._pause()
                asyncio.get_running_loop().call_later(_REST, self._listen)
                return
            task = asyncio.create_task(self._carry(client, *listener.getsockname()[:2]))
            self._carried.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        was_full = len(self._carried) >= self._most
        self._carried.discard(task)
        self._last = time.monotonic()
        if was_full:
            self._listen()

    async def _carry(self, client: socket.socket, address: str, port: int) -> None:
        client.setblocking(False)
        # One whose machine is switched off would stay for ever.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            peer = client.getpeername()
            reader, writer = await asyncio.open_connection(sock=client, limit=_PIECE)
        except OSError:
            client.close()
            return
        theirs = await self._connect(address, port) if self._admits(peer[0], peer[3]) else None
        if theirs is None:
            # As if nobody listened.
            _break_off(writer)
            return
        await asyncio.gather(_pump(reader, theirs[1]), _pump(theirs[0], writer))
        # Until all has left, because what this process has not sent yet is lost with it.
        await asyncio.gather(_close(writer), _close(theirs[1]))

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


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass  # it was broken off


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

    def __init__(self, port: socket.socket, targets: Targets, admits: Admits, most: int) -> None:
        """most: how many clients at a time."""
        self.last = 0.0
        self._port = port
        self._place: tuple[str, int] = port.getsockname()[:2]
        self._targets = targets
        self._admits = admits
        self._most = max(1, most)
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

    def _flow(self, client: tuple[str, int, int, int], asked: bytes) -> _Flow | None:
        key = (client, asked)
        flow = self._flows.get(key)
        # Each time, because a container may be in another network meanwhile, and its address another's.
        target = next(iter(self._targets("udp", *self._place)), None)
        if flow is not None and flow.target != target:
            self._flows.pop(key).close()
            flow = None
        if target is None:
            return None
        if flow is None:
            link = int.from_bytes(asked[16:], sys.byteorder) if asked else client[3]
            if not self._admits(client[0], link):
                return None
            if len(self._flows) >= self._most:
                self._flows.popitem(last=False)[1].close()
            try:
                flow = _Flow(self._loop, target, self._port, client, asked)
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
    """One client of a port of UDP, and where it is led to."""

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
        self.target = target
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
