"""The name server of a custom network: what its containers are called, and the host's name servers for all else.

    container ── udp, tcp ──▶ Resolver ── a name or an address of the network ──▶ answered here
                                 └─────── any other ──▶ Forwarder ──▶ the host's name servers

It stands where docker's embedded one stands, and differs where docker's is known to annoy: nothing it says may be
remembered, and a known name is never asked of anybody else, whatever type of record is wanted.
RFC 1035 (messages), 6891 (EDNS), 7766 (TCP), 9619 (one question).
"""

from __future__ import annotations

import errno
import functools
import socket
import time

from dnslib import AAAA, CLASS, EDNS0, OPCODE, PTR, QTYPE, RCODE, RD, RR, A, DNSError, DNSHeader, DNSQuestion, DNSRecord
from dnslib.label import BufferError as Truncated
from dnslib.label import DNSBuffer, DNSLabel

from pycontainer.kernel.event_loop import READ, WRITE, EventLoop
from pycontainer.network.forwarder import PORT, Forwarder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainer.kernel.event_loop import Timer

    Reply = Callable[[bytes | None], None]

# Not to be remembered, because nobody tells a client that a container has gone, or that one more has come.
_TTL = 0
_BADVERS = 16
_HEADER = 12
_PLAIN_SIZE = 512  # bytes of an answer over UDP, for a client that says nothing of more
_OWN_SIZE = 1232  # of a query over UDP: what passes everywhere unfragmented
_LONGEST = 65535
_DATAGRAMS = 64  # at a time, so that TCP has its turn
_MOST_TURNS = 4096
_CONNECTIONS = 64
_OF_ONE = 16  # connections of one client; with another one its oldest ends, so that none can have them all
_IDLE = 10.0  # seconds without a complete query, or with an answer that the client does not read
_MOST_PENDING = 16  # queries of one connection that wait for the host's name servers
_PAUSE = 1.0  # seconds without new connections when there are no files left to open


class Names:
    """What the containers of a network are called, at one moment.

    `addresses` has the IPv4 and IPv6 addresses of each lower-case name, alias or prefix of an id; `names` the name of
    each address.
    """

    __slots__ = ("_addresses", "_names")

    def __init__(self, addresses: dict[str, list[str]], names: dict[str, str]) -> None:
        self._addresses = addresses
        self._names = {_canonical(address): name for address, name in names.items()}

    def addresses_of(self, name: str) -> list[str] | None:
        """The addresses of a lower-case name; None if no container is called so."""
        return self._addresses.get(name)

    def name_of(self, address: str) -> str | None:
        """The name of the container at an address; None if there is none."""
        return self._names.get(address)


class Resolver:
    """Answers what comes to sockets that are bound, and listening if they are TCP's. They stay the caller's.

    `names` is asked at every query, `upstreams`, the name servers for all else, at each that is forwarded; both for the
    address of who asks. Those listen at `port`.
    """

    def __init__(
        self,
        udp: list[socket.socket],
        tcp: list[socket.socket],
        names: Callable[[str], Names],
        upstreams: Callable[[str], list[str]],
        port: int = PORT,
    ) -> None:
        self._udp = udp
        self._tcp = tcp
        self._names = names
        self._upstreams = upstreams
        self._loop = EventLoop()
        self._forwarder = Forwarder(self._loop, port)
        self._connections: dict[_Connection, str] = {}
        self._own = {_canonical(each.getsockname()[0]) for each in (*udp, *tcp)}
        self._turns: dict[tuple[str, int], int] = {}

    def serve(self, tick: Callable[[], bool], seconds: float) -> None:
        """Answer, and call `tick` about every `seconds`, until it returns False."""
        for each in (*self._udp, *self._tcp):
            each.setblocking(False)
        for each in self._udp:
            self._loop.watch(each.fileno(), READ, functools.partial(self._receive, each))
        self._listen()
        try:
            due = time.monotonic() + seconds
            while True:
                self._loop.turn(max(0.0, due - time.monotonic()))
                if time.monotonic() >= due:
                    if not tick():
                        return
                    due = time.monotonic() + seconds
        finally:
            self._forwarder.close()
            for connection in list(self._connections):
                connection.close()
            for each in (*self._udp, *self._tcp):
                self._loop.forget(each.fileno())

    def _receive(self, source: socket.socket) -> None:
        for _ in range(_DATAGRAMS):
            try:
                data, client = source.recvfrom(_LONGEST)
            except OSError:
                return
            self._handle(client[0], data, False, functools.partial(_send, source, client))

    def _listen(self) -> None:
        for each in self._tcp:
            self._loop.watch(each.fileno(), READ, functools.partial(self._accept, each))

    def _stop_listening(self) -> None:
        """Whoever connects now waits in the kernel's queue."""
        for each in self._tcp:
            self._loop.forget(each.fileno())

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, (address, *_) = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # It stays ready, and this loop would turn for nothing.
                self._stop_listening()
                self._loop.after(_PAUSE, self._listen_again)
            return
        own = [connection for connection, whose in self._connections.items() if whose == address]
        if len(own) >= _OF_ONE:
            own[0].close()
        handle = functools.partial(self._handle, address)
        self._connections[_Connection(self._loop, client, handle, self._ended)] = address
        if len(self._connections) >= _CONNECTIONS:
            self._stop_listening()

    def _ended(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)
        self._listen_again()

    def _listen_again(self) -> None:
        if len(self._connections) < _CONNECTIONS:
            self._listen()

    def _handle(self, client: str, data: bytes, over_tcp: bool, reply: Reply) -> None:
        """Call `reply` once, now or later, with the answer; with None for what gets none. `client` is an address."""
        # No number to answer under; or an answer, and two servers could go on answering each other's for ever.
        if len(data) < _HEADER or data[2] & 0x80:
            reply(None)
            return
        query = _Query(data)
        if query.rcode:
            reply(query.answer(query.rcode))
            return
        records = self._find(query, self._names(client))
        if records is not None:
            reply(query.answer(RCODE.NOERROR, records, _LONGEST if over_tcp else query.size))
            return

        def done(answer: bytes | None) -> None:
            reply(query.answer(RCODE.SERVFAIL) if answer is None else answer)

        # Where there are none, as in a network without a way out, done(None) comes at once: SERVFAIL, as docker says.
        # NXDOMAIN would claim that there is no such name, which nobody here knows and which a client may remember.
        self._forwarder.ask(client, data, query.question_bytes, self._others(client), over_tcp, done)

    def _others(self, client: str) -> list[str]:
        """Whom to ask: not ourselves, who would ask again."""
        return [each for each in self._upstreams(client) if _canonical(each) not in self._own]

    def _find(self, query: _Query, names: Names) -> list[RD] | None:
        """What is known of the name that is asked for; nothing of that type is [], an unknown name None."""
        addresses = names.addresses_of(query.name)
        if addresses is not None:
            if query.type == QTYPE.A:
                return [A(each) for each in self._rotate(query, [each for each in addresses if ":" not in each])]
            if query.type == QTYPE.AAAA:
                chosen = self._rotate(query, [each for each in addresses if ":" in each])
                return [AAAA(tuple(socket.inet_pton(socket.AF_INET6, each))) for each in chosen]
            return []
        name = names.name_of(_reversed_address(query.name))
        if name is None:
            return None
        labels = name.encode().split(b".")
        # Some names of containers cannot be written in a message.
        can_be_written = len(name.encode()) <= 253 and all(1 <= len(label) <= 63 for label in labels)
        return [PTR(DNSLabel(labels))] if query.type == QTYPE.PTR and can_be_written else []

    def _rotate(self, query: _Query, addresses: list[str]) -> list[str]:
        """Another address first than last time, of each name and type by itself: clients take the first one."""
        if len(addresses) < 2:
            return addresses
        if len(self._turns) >= _MOST_TURNS:
            self._turns.clear()
        key = (query.name, query.type)
        turn = self._turns.get(key, 0) % len(addresses)
        self._turns[key] = turn + 1
        return addresses[turn:] + addresses[:turn]


class _Query:
    """A query of at least a header. `rcode` is 0, or why it cannot be answered; then the rest may be missing.

    `size` is how long the answer may be over UDP.
    """

    __slots__ = ("_edns", "_flags", "_header", "_question", "name", "question_bytes", "rcode", "size", "type")

    def __init__(self, data: bytes) -> None:
        buffer = DNSBuffer(data)
        self._header = DNSHeader.parse(buffer)
        self._question: Any = None
        self._edns = False
        self._flags = ""
        self.name = ""
        self.type = 0
        self.question_bytes = b""
        self.size = _PLAIN_SIZE
        try:
            self.rcode: int = self._read_question(buffer) or self._read_edns(buffer)
        except (DNSError, Truncated, RecursionError):
            # The last one for a name that points to itself by way of another one.
            self.rcode = RCODE.FORMERR

    def _read_question(self, buffer: DNSBuffer) -> Any:
        """Read it; returns the rcode. Raises DNSError, Truncated, RecursionError."""
        if self._header.opcode != OPCODE.QUERY:
            return RCODE.NOTIMP
        if self._header.q != 1:
            return RCODE.FORMERR
        question = DNSQuestion.parse(buffer)
        labels = question.qname.label
        self.question_bytes = bytes(buffer.data[_HEADER : buffer.offset])
        length = sum(1 + len(label) for label in labels) + 1
        # Also what points elsewhere, which the first name of a message has no reason to.
        if length > 255 or length + 4 != len(self.question_bytes) or any(len(label) > 63 for label in labels):
            return RCODE.FORMERR
        self._question = question
        self.type = question.qtype
        # A dot within a label would make it look like two.
        if not any(b"." in label for label in labels):
            self.name = b".".join(labels).lower().decode()
        return RCODE.NOERROR

    def _read_edns(self, buffer: DNSBuffer) -> Any:
        """Read the other records, of which an OPT record says something; returns the rcode. Raises Truncated."""
        version = 0
        for number in range(self._header.a + self._header.auth + self._header.ar):
            _skip_name(buffer)
            kind, size, flags, length = buffer.unpack("!HHIH")
            buffer.get(length)
            if kind == QTYPE.OPT and number >= self._header.a + self._header.auth:
                if self._edns:
                    return RCODE.FORMERR
                self._edns = True
                self._flags = "do" if flags & 0x8000 else ""
                self.size = max(size, _PLAIN_SIZE)
                version = flags >> 16 & 0xFF
        if version:
            return _BADVERS
        return RCODE.NOERROR if self._question.qclass == CLASS.IN else RCODE.NOTIMP

    def answer(self, rcode: int, records: list[RD] | None = None, size: int = _LONGEST) -> bytes:
        """The bytes of an answer; with `records`, even if there are none, it is one that we have authority for.

        As many of the records as there is room for in `size` bytes.
        """
        asked, header = self._header, DNSHeader(self._header.id, 0, qr=1, ra=1)
        header.opcode, header.rd, header.cd, header.rcode = asked.opcode, asked.rd, asked.cd, rcode & 15
        header.aa = records is not None
        packed = self._pack(header, records or [])
        if records and len(packed) > size:
            header.tc = 1
            rest = len(self._pack(header, []))
            # All are of one length, because the name that they begin with points to that of the question.
            each = (len(packed) - rest) // len(records)
            packed = self._pack(header, records[: (size - rest) // each])
        return packed

    def _pack(self, header: DNSHeader, records: list[RD]) -> bytes:
        message = DNSRecord(header)
        if self._question is not None:
            message.add_question(self._question)
            for data in records:
                message.add_answer(RR(self._question.qname, self.type, ttl=_TTL, rdata=data))
        if self._edns:
            # The bits of the rcode that the header has no room for.
            message.add_ar(EDNS0(udp_len=_OWN_SIZE, flags=self._flags, ext_rcode=self.rcode >> 4))
        return bytes(message.pack())


class _Connection:
    """A client's TCP connection: each message after its length, several queries one after the other.

    Answers go back as they are ready. While one waits for its reader, nothing more is read.
    """

    __slots__ = ("_ended", "_handle", "_in", "_is_over", "_loop", "_out", "_pending", "_socket", "_timer")

    def __init__(
        self,
        loop: EventLoop,
        client: socket.socket,
        handle: Callable[[bytes, bool, Reply], None],
        ended: Callable[[_Connection], None],
    ) -> None:
        self._loop = loop
        self._socket = client
        self._handle = handle
        self._ended = ended
        self._in = bytearray()
        self._out = bytearray()
        self._pending = 0
        self._is_over = False
        client.setblocking(False)
        self._timer: Timer = loop.after(_IDLE, self.close)
        self._watch()

    def close(self) -> None:
        """End it. May be called twice."""
        if self._socket.fileno() >= 0:
            self._timer.cancel()
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._ended(self)

    def _watch(self) -> None:
        if self._out:
            self._loop.watch(self._socket.fileno(), WRITE, self._write)
        elif self._is_over and not self._pending:
            self.close()
        elif self._is_over or self._pending >= _MOST_PENDING:
            self._loop.forget(self._socket.fileno())
        else:
            self._loop.watch(self._socket.fileno(), READ, self._read)

    def _read(self) -> None:
        try:
            part = self._socket.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._in += part
        # It may still read what it has asked for.
        self._is_over = not part
        self._proceed()

    def _write(self) -> None:
        try:
            del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._out:
            self._proceed()

    def _proceed(self) -> None:
        """Handle the complete queries that are here."""
        while not self._out and self._pending < _MOST_PENDING and self._socket.fileno() >= 0:
            end = 2 + int.from_bytes(self._in[:2], "big")
            if len(self._in) < end:
                break
            data = bytes(self._in[2:end])
            del self._in[:end]
            self._pending += 1
            self._timer.cancel()
            self._timer = self._loop.after(_IDLE, self.close)
            self._handle(data, True, self._reply)
        if self._socket.fileno() >= 0:
            self._watch()

    def _reply(self, answer: bytes | None) -> None:
        if self._socket.fileno() < 0:
            return
        self._pending -= 1
        if answer is None:
            # What is no query is followed by no more queries.
            self.close()
            return
        self._out += len(answer).to_bytes(2, "big") + answer
        self._watch()


def _skip_name(buffer: DNSBuffer) -> None:
    """Past a name, without following it to where it points. Raises Truncated."""
    while length := buffer.unpack("!B")[0]:
        if length >= 0xC0:
            buffer.get(1)
            return
        buffer.get(length)


def _send(source: socket.socket, client: Any, answer: bytes | None) -> None:
    if answer is not None:
        try:
            source.sendto(answer, client)
        except OSError:
            # The client has gone, or does not read: UDP may lose what it carries.
            pass


def _canonical(address: str) -> str:
    """An address as inet_ntop(3) writes it; anything else as it is."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, address))
    except OSError:
        return address


def _reversed_address(name: str) -> str:
    """The address of 4.3.2.1.in-addr.arpa, or of the 32 digits before ip6.arpa; "" for any other name."""
    labels = name.split(".")[::-1]
    if labels[:2] == ["arpa", "in-addr"] and len(labels) == 6:
        address = ".".join(labels[2:])
    elif labels[:2] == ["arpa", "ip6"] and len(labels) == 34 and all(len(label) == 1 for label in labels[2:]):
        digits = "".join(labels[2:])
        address = ":".join(digits[at : at + 4] for at in range(0, 32, 4))
    else:
        return ""
    return _canonical(address)
