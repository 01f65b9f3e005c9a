"""Queries that somebody else answers: sent on to the host's name servers, one after the other.

    query ──▶ first server ── 2 s, refused, SERVFAIL ──▶ second ── ... ──▶ last ── 4 s ──▶ nothing
                   └── an answer to this very question ──▶ back, under the number that it was asked with

Each query has a socket of its own, connected, and a number of its own: whoever wants to slip in an answer has to guess
the source port as well as the number (RFC 5452). What is asked over TCP is asked there over TCP.
"""

from __future__ import annotations

import os
import socket

from pycontainer.kernel.event_loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontainer.kernel.event_loop import EventLoop, Timer

PORT = 53
_MOST = 512  # queries on their way, each of which is one open file
_MOST_EACH = 128  # of one client, so that it leaves something to others
_SERVERS = 3  # as many as resolv.conf(5) has
_PATIENCE = 2.0  # seconds, while there is another server to ask
_LAST_PATIENCE = 4.0  # docker's, because a name that nobody has asked for lately takes a name server that long
_NAME = 12  # where the question begins, after the header
_FAILURES = (2, 5)  # SERVFAIL and REFUSED: it has no answer, and the next server may have one
_LONGEST = 65535


class Forwarder:
    """Asks name servers that listen at `port`, in `loop`."""

    def __init__(self, loop: EventLoop, port: int = PORT) -> None:
        self._loop = loop
        self._port = port
        self._exchanges: dict[_Exchange, str] = {}  # with the client of each

    def ask(
        self,
        client: str,
        query: bytes,
        question: bytes,
        servers: list[str],
        over_tcp: bool,
        done: Callable[[bytes | None], None],
    ) -> None:
        """Call `done` once with the first server's answer that is one, or None for none; perhaps before this returns.

        `client` is whoever asks; `question` is how the query's only question is written, name, type and class.
        """
        own = sum(each == client for each in self._exchanges.values())
        if len(self._exchanges) >= _MOST or own >= _MOST_EACH:
            done(None)
            return

        def finish(answer: bytes | None) -> None:
            self._exchanges.pop(exchange, None)
            done(answer)

        exchange = _Exchange(self._loop, query, question, over_tcp, finish)
        self._exchanges[exchange] = client
        exchange.start([(server, self._port) for server in servers[:_SERVERS]])

    def close(self) -> None:
        """Give up what is on its way; its `done` is not called."""
        for exchange in self._exchanges:
            exchange.close()
        self._exchanges.clear()


class _Exchange:
    """One query, and the server that it is at."""

    __slots__ = (
        "_finish",
        "_identifier",
        "_in",
        "_loop",
        "_out",
        "_query",
        "_question",
        "_servers",
        "_socket",
        "_tcp",
        "_timer",
    )

    def __init__(
        self, loop: EventLoop, query: bytes, question: bytes, over_tcp: bool, finish: Callable[[bytes | None], None]
    ) -> None:
        self._loop = loop
        self._query = query
        self._question = question
        self._tcp = over_tcp
        self._finish = finish
        self._servers: list[tuple[str, int]] = []
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._identifier = b""
        self._in = bytearray()
        self._out = b""

    def start(self, servers: list[tuple[str, int]]) -> None:
        """Ask the first of them, then the next."""
        self._servers = servers
        self._next()

    def close(self) -> None:
        """Leave the server that it is at."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _next(self) -> None:
        self.close()
        while self._servers:
            server, port = self._servers.pop(0)
            try:
                self._open(server, port)
            except OSError:
                # No way to it, or not its address at all.
                self.close()
                continue
            self._timer = self._loop.after(_PATIENCE if self._servers else _LAST_PATIENCE, self._next)
            return
        self._finish(None)

    def _open(self, server: str, port: int) -> None:
        kind = socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM
        # Numbers only, so nobody is asked; it knows what the part of fe80::1%eth0 after the percent sign means.
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        family, _, _, _, address = socket.getaddrinfo(server, port, type=kind, flags=numeric)[0]
        self._identifier = os.urandom(2)
        self._in.clear()
        self._out = self._identifier + self._query[2:]
        self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(address)
        except BlockingIOError:
            # TCP, whose handshake takes a while.
            pass
        if self._tcp:
            self._out = len(self._out).to_bytes(2, "big") + self._out
            self._loop.watch(self._socket.fileno(), WRITE, self._send)
        else:
            self._socket.send(self._out)
            self._loop.watch(self._socket.fileno(), READ, self._receive_datagram)

    def _send(self) -> None:
        assert self._socket is not None
        try:
            self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if not self._out:
            self._loop.watch(self._socket.fileno(), READ, self._receive_stream)

    def _receive_datagram(self) -> None:
        assert self._socket is not None
        try:
            answer = self._socket.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            # Nobody listens there.
            self._next()
            return
        # Something else may be forged: the true answer may still come.
        if self._is_answer(answer):
            self._take(answer)

    def _receive_stream(self) -> None:
        assert self._socket is not None
        try:
            part = self._socket.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._in += part
        length = 2 + int.from_bytes(self._in[:2], "big") if len(self._in) >= 2 else _LONGEST + 2
        if len(self._in) >= length:
            answer = bytes(self._in[2:length])
            if self._is_answer(answer):
                self._take(answer)
            else:
                self._next()
        elif not part:
            self._next()

    def _is_answer(self, data: bytes) -> bool:
        """Whether it answers this very question, which it has to repeat; the letters' case is left to the server."""
        if len(data) < _NAME or data[:2] != self._identifier or not data[2] & 0x80:
            return False
        if data[4:6] == b"\0\0":
            # A server that could not read the question does not repeat it.
            return data[3] & 15 not in (0, 3)
        end = _NAME + len(self._question)
        name, kind = data[_NAME : end - 4], data[end - 4 : end]
        # The lengths between the labels are no letters: all are below 64.
        return data[4:6] == b"\0\1" and name.lower() == self._question[:-4].lower() and kind == self._question[-4:]

    def _take(self, answer: bytes) -> None:
        if answer[3] & 15 in _FAILURES:
            self._next()
            return
        self.close()
        self._finish(self._query[:2] + answer[2:])
