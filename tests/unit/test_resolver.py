"""The name server of a network, asked over real sockets; the host's name server is a thread of the test."""

from __future__ import annotations

import contextlib
import pathlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSQuestion, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontainer.network import forwarder, resolver
from pycontainer.network.resolver import Names, Resolver

REPLICAS = [f"10.0.1.{number}" for number in range(1, 101)]
NAMES = Names(
    {
        "web": ["10.0.0.2"],
        "api": ["10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::2"],
        "six": ["fd00::0002"],
        "many": REPLICAS,
        "web.front": ["10.0.0.2"],
    },
    {"10.0.0.2": "web.front", "fd00:0::2": "six", "10.0.0.9": "a..b"},
)
OURS, OTHER = "127.0.0.1", "127.0.0.2"
PATIENCE = 10  # seconds of the tests' own sockets


class Upstream:
    """A name server at OTHER: `rules` says what it answers to which name; what it was asked is in `asked`."""

    def __init__(self, address: str = OTHER, port: int = 0) -> None:
        self.tcp = socket.create_server((address, port))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, self.port))
        self.asked: list[tuple[str, str, int, int]] = []
        self.rules: dict[str, Callable[[DNSRecord], list[bytes]]] = {}
        self.threads = [threading.Thread(target=function) for function in (self.serve_udp, self.serve_tcp)]
        for thread in self.threads:
            thread.start()

    def answers(self, data: bytes, protocol: str, port: int) -> list[bytes]:
        query = DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".")
        self.asked.append((protocol, name, query.header.id, port))
        return self.rules.get(name.lower(), lambda query: [answer(query, "192.0.2.1")])(query)

    def serve_udp(self) -> None:
        while True:
            data, client = self.udp.recvfrom(65535)
            if not data:
                return
            for each in self.answers(data, "udp", client[1]):
                self.udp.sendto(each, client)

    def serve_tcp(self) -> None:
        while True:
            try:
                client, address = self.tcp.accept()
            except OSError:
                return
            with client, client.makefile("rb") as stream:
                if length := stream.read(2):
                    for each in self.answers(stream.read(struct.unpack("!H", length)[0]), "tcp", address[1]):
                        # In pieces, as they may arrive.
                        client.sendall(struct.pack("!H", len(each)))
                        client.sendall(each)

    def close(self) -> None:
        self.udp.sendto(b"", self.udp.getsockname())
        self.tcp.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.udp.close()
        self.tcp.close()


def answer(query: DNSRecord, *addresses: str, rcode: int = 0) -> bytes:
    reply = query.reply(aa=0)
    reply.header.rcode = rcode
    for address in addresses:
        reply.add_answer(RR(query.q.qname, QTYPE.A, ttl=60, rdata=A(address)))
    return bytes(reply.pack())


class Served:
    """A Resolver in a thread, at OURS."""

    def __init__(self, upstreams: list[str], port: int) -> None:
        self.upstreams = upstreams
        self.tcp = socket.create_server((OURS, 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((OURS, self.port))
        self.goes_on = True
        self.failure: BaseException | None = None
        self.times_forwarded = 0
        self.resolver = Resolver([self.udp], [self.tcp], lambda _: NAMES, self.find_upstreams, port)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        try:
            self.resolver.serve(lambda: self.goes_on, 0.05)
        except BaseException as error:
            self.failure = error

    def find_upstreams(self, _: str) -> list[str]:
        self.times_forwarded += 1
        return self.upstreams

    def close(self) -> None:
        self.goes_on = False
        self.thread.join()
        self.udp.close()
        self.tcp.close()
        assert self.failure is None

    def ask(self, query: DNSRecord, tcp: bool = False) -> DNSRecord:
        """With the library's own client, which knows nothing of ours."""
        return DNSRecord.parse(query.send(OURS, self.port, tcp=tcp, timeout=PATIENCE))

    def exchange(self, data: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(data, (OURS, self.port))
            return client.recv(65535)

    def connect(self) -> socket.socket:
        return socket.create_connection((OURS, self.port), timeout=PATIENCE)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(upstream: Upstream) -> Iterator[Served]:
    made = Served([OTHER], upstream.port)
    yield made
    made.close()


@pytest.fixture
def alone() -> Iterator[Served]:
    """Without any other name server."""
    made = Served([], 53)
    yield made
    made.close()


def question(name: str, kind: str = "A", size: int = 0) -> DNSRecord:
    query = DNSRecord.question(name, kind)
    if size:
        query.add_ar(EDNS0(udp_len=size, flags="do"))
    return query


def texts(reply: DNSRecord) -> list[str]:
    return [str(each.rdata) for each in reply.rr]


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web", "A", ["10.0.0.2"]),
        ("WeB.", "A", ["10.0.0.2"]),
        ("web.front", "A", ["10.0.0.2"]),
        ("web", "AAAA", []),
        ("six", "AAAA", ["fd00::2"]),
        ("six", "A", []),
        ("web", "MX", []),
        ("web", "TYPE4711", []),
        ("2.0.0.10.in-addr.arpa", "PTR", ["web.front."]),
        ("2.0.0.10.IN-ADDR.ARPA", "PTR", ["web.front."]),
        ("2" + ".0" * 27 + ".0.0.d.f.ip6.arpa", "PTR", ["six."]),
        ("2.0.0.10.in-addr.arpa", "A", []),
        # It cannot be written as labels.
        ("9.0.0.10.in-addr.arpa", "PTR", []),
    ],
)
def test_known(served: Served, upstream: Upstream, name: str, kind: str, expected: list[str], tcp: bool) -> None:
    before = len(upstream.asked)
    number = int(kind[4:]) if kind.startswith("TYPE") else getattr(QTYPE, kind)
    query = DNSRecord(q=DNSQuestion(name, number))
    reply = served.ask(query, tcp)
    assert texts(reply) == expected
    assert [reply.header.id, reply.header.qr, reply.header.aa, reply.header.ra] == [query.header.id, 1, 1, 1]
    assert reply.header.rd == query.header.rd
    assert reply.header.rcode == RCODE.NOERROR
    # As it was written, because some clients compare it letter by letter.
    assert str(reply.q.qname) == str(query.q.qname)
    assert {each.ttl for each in reply.rr} <= {0}
    assert len(upstream.asked) == before


def test_known_addresses_take_turns_also_when_the_other_family_is_asked_for_in_between(served: Served) -> None:
    seen = []
    for _ in range(6):
        seen.append(texts(served.ask(question("api"))))
        assert texts(served.ask(question("api", "AAAA"))) == ["fd00::2"]
    assert all(sorted(each) == ["10.0.0.2", "10.0.0.3", "10.0.0.4"] for each in seen)
    firsts = [each[0] for each in seen]
    assert firsts[:3] == firsts[3:]
    assert len(set(firsts)) == 3


@pytest.mark.parametrize(("size", "fits"), [(0, (512 - 22) // 16), (100, 29), (1232, (1232 - 33) // 16), (4096, 100)])
def test_udp_answer_is_as_long_as_the_client_reads(served: Served, size: int, fits: int) -> None:
    data = served.exchange(question("many", size=size).pack())
    reply = DNSRecord.parse(data)
    assert len(data) <= max(size, 512)
    assert len(reply.rr) == fits
    assert reply.header.tc == (fits < 100)
    assert [each.rtype for each in reply.ar] == ([QTYPE.OPT] if size else [])
    if size:
        assert reply.ar[0].edns_do == 1


def test_tcp_answer_is_whole(served: Served) -> None:
    reply = served.ask(question("many"), tcp=True)
    assert sorted(texts(reply)) == sorted(REPLICAS)
    assert reply.header.tc == 0


@pytest.mark.parametrize("tcp", [False, True])
def test_unknown_is_forwarded(served: Served, upstream: Upstream, tcp: bool) -> None:
    before = len(upstream.asked)
    for name in ("www.example.com", "WEB.example", "7.0.0.10.in-addr.arpa", "_dns.resolver.arpa"):
        query = question(name, size=1232)
        reply = served.ask(query, tcp)
        assert texts(reply) == ["192.0.2.1"]
        assert reply.header.id == query.header.id
        assert [reply.header.aa, reply.rr[0].ttl] == [0, 60]
    asked = upstream.asked[before:]
    protocol = "tcp" if tcp else "udp"
    assert [each[:2] for each in asked] == [
        (protocol, name) for name in ("www.example.com", "WEB.example", "7.0.0.10.in-addr.arpa", "_dns.resolver.arpa")
    ]


def test_number_and_port_of_what_is_forwarded_are_new_each_time(served: Served, upstream: Upstream) -> None:
    before = len(upstream.asked)
    query = question("again.example")
    for _ in range(8):
        served.ask(query)
    asked = upstream.asked[before:]
    assert len({number for _, _, number, _ in asked}) > 4
    assert len({port for _, _, _, port in asked}) > 4


def changed(query: DNSRecord, **fields: int) -> DNSRecord:
    copy = DNSRecord.parse(query.pack())
    for name, value in fields.items():
        setattr(copy.header, name, value)
    return copy


@pytest.mark.parametrize(
    "forge",
    [
        lambda query: answer(changed(query, id=query.header.id ^ 1), "192.0.2.66"),
        lambda query: answer(DNSRecord(query.header, q=DNSQuestion("forget.example")), "192.0.2.66"),
        lambda query: answer(DNSRecord(query.header, q=DNSQuestion(query.q.qname, QTYPE.AAAA)), "192.0.2.66"),
        lambda query: bytes(query.pack()),
        lambda query: b"",
        lambda query: answer(query, "192.0.2.66")[:12],
        lambda query: answer(query, "192.0.2.66")[:4] + b"\0\0" + answer(query, "192.0.2.66")[6:],
    ],
)
def test_forged_answer_is_passed_over(served: Served, upstream: Upstream, forge: Callable[[DNSRecord], bytes]) -> None:
    upstream.rules["forged.example"] = lambda query: [forge(query), answer(query, "192.0.2.5")]
    assert texts(served.ask(question("forged.example"))) == ["192.0.2.5"]


def test_server_that_writes_the_name_in_other_letters_is_believed(served: Served, upstream: Upstream) -> None:
    def shout(query: DNSRecord) -> list[bytes]:
        return [answer(DNSRecord(query.header, q=DNSQuestion("LOUD.EXAMPLE")), "192.0.2.5")]

    upstream.rules["loud.example"] = shout
    assert texts(served.ask(question("loud.example"))) == ["192.0.2.5"]


@pytest.mark.parametrize("rcode", [RCODE.NXDOMAIN, RCODE.FORMERR, RCODE.NOTIMP])
def test_what_the_only_server_says_is_passed_on(served: Served, upstream: Upstream, rcode: int) -> None:
    upstream.rules["says.example"] = lambda query: [answer(query, rcode=rcode)]
    assert served.ask(question("says.example")).header.rcode == rcode


def test_formerr_without_the_question_is_passed_on(served: Served, upstream: Upstream) -> None:
    upstream.rules["old.example"] = lambda query: [struct.pack("!6H", query.header.id, 0x8001, 0, 0, 0, 0)]
    data = served.exchange(question("old.example", size=1232).pack())
    assert data[3] & 15 == RCODE.FORMERR


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("first", ["127.0.0.3", "fe80::1%nowhere", "refuses", "fails", "silent"])
def test_next_server_is_asked(monkeypatch: pytest.MonkeyPatch, upstream: Upstream, first: str, tcp: bool) -> None:
    """At the first one nobody listens; or it has no answer."""
    monkeypatch.setattr(forwarder, "_PATIENCE", 0.05)
    bad = None
    if first in ("refuses", "fails", "silent"):
        bad = Upstream("127.0.0.4", upstream.port)
        rcode = {"refuses": RCODE.REFUSED, "fails": RCODE.SERVFAIL}.get(first)
        bad.rules["next.example"] = lambda query: [] if rcode is None else [answer(query, rcode=rcode)]
    served = Served(["127.0.0.4" if bad else first, OTHER], upstream.port)
    try:
        assert texts(served.ask(question("next.example"), tcp)) == ["192.0.2.1"]
        assert bad is None or len(bad.asked) == 1
    finally:
        served.close()
        if bad:
            bad.close()


@pytest.mark.parametrize("tcp", [False, True])
def test_servfail_after_all(monkeypatch: pytest.MonkeyPatch, served: Served, upstream: Upstream, tcp: bool) -> None:
    monkeypatch.setattr(forwarder, "_LAST_PATIENCE", 0.05)
    upstream.rules["silent.example"] = lambda query: []
    query = question("silent.example", size=1232)
    reply = served.ask(query, tcp)
    assert [reply.header.rcode, reply.header.id, reply.header.aa] == [RCODE.SERVFAIL, query.header.id, 0]
    assert reply.q == query.q


def test_one_client_leaves_something_to_others(
    monkeypatch: pytest.MonkeyPatch, served: Served, upstream: Upstream
) -> None:
    monkeypatch.setattr(forwarder, "_MOST_EACH", 2)
    asked = threading.Semaphore(0)
    upstream.rules["silent.example"] = lambda query: asked.release() or []
    answers = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as greedy,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.9", 0))
        for number in range(2):
            greedy.sendto(question("silent.example").pack(), (OURS, served.port))
            assert asked.acquire(timeout=10), number
        greedy.sendto(question("www.example.com").pack(), (OURS, served.port))
        other.sendto(question("www.example.com").pack(), (OURS, served.port))
        for client in (greedy, other):
            client.settimeout(10)
            answers.append(DNSRecord.parse(client.recv(4096)))
    assert [answer.header.rcode for answer in answers] == [RCODE.SERVFAIL, RCODE.NOERROR]


def test_too_many_on_their_way_are_servfail(
    monkeypatch: pytest.MonkeyPatch, served: Served, upstream: Upstream
) -> None:
    monkeypatch.setattr(forwarder, "_MOST", 0)
    assert served.ask(question("busy.example")).header.rcode == RCODE.SERVFAIL
    assert texts(served.ask(question("web"))) == ["10.0.0.2"]


@pytest.mark.parametrize("upstreams", [[], [OURS]])
def test_nobody_else_to_ask(alone: Served, upstreams: list[str]) -> None:
    """Our own address is nobody else."""
    alone.upstreams = upstreams
    alone.resolver._forwarder._port = alone.port
    for tcp in (False, True):
        assert alone.ask(question("www.example.com"), tcp).header.rcode == RCODE.SERVFAIL
        assert alone.times_forwarded == 1 + tcp
        assert texts(alone.ask(question("web"), tcp)) == ["10.0.0.2"]


def header(flags: int = 0x0100, questions: int = 1, additional: int = 0) -> bytes:
    return struct.pack("!6H", 4711, flags, questions, 0, 0, additional)


WEB = b"\x03web\0\0\1\0\1"


def opt(version: int = 0) -> bytes:
    return struct.pack("!BHHIH", 0, QTYPE.OPT, 1232, version << 16, 0)


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (header(), RCODE.FORMERR),
        (header() + WEB[:-1], RCODE.FORMERR),
        (header() + b"\x03we", RCODE.FORMERR),
        (header(questions=0), RCODE.FORMERR),
        (header(questions=2) + WEB + WEB, RCODE.FORMERR),
        # Names that point to themselves, at once and by way of a label; that are too long; of labels too long.
        (header() + b"\xc0\x0c\0\1\0\1", RCODE.FORMERR),
        (header() + b"\xc0\x0d" + b"x" * 13 + b"\xc0\x0c\0\1\0\1", RCODE.FORMERR),
        (header() + b"\x01a" * 128 + b"\0\0\1\0\1", RCODE.FORMERR),
        (header() + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", RCODE.FORMERR),
        (header() + b"\x01\xff\0\0\1\0\1", RCODE.FORMERR),
        (header(additional=1) + WEB, RCODE.FORMERR),
        (header(additional=1) + WEB + opt()[:-1], RCODE.FORMERR),
        (header(additional=2) + WEB + opt() + opt(), RCODE.FORMERR),
        (header(additional=65535) + WEB + opt(), RCODE.FORMERR),
        (header(additional=1) + WEB + opt(1), 16),
        (header(flags=1 << 11) + WEB, RCODE.NOTIMP),
        (header(flags=4 << 11) + WEB, RCODE.NOTIMP),
        (header(flags=5 << 11) + WEB, RCODE.NOTIMP),
        (header() + b"\x03web\0\0\1\0\3", RCODE.NOTIMP),
    ],
)
def test_what_cannot_be_answered_is_refused(served: Served, upstream: Upstream, data: bytes, rcode: int) -> None:
    before = len(upstream.asked)
    reply = DNSRecord.parse(served.exchange(data))
    extended = next((each.edns_rcode for each in reply.ar if each.rtype == QTYPE.OPT), 0)
    assert [reply.header.id, reply.header.qr, reply.header.rcode + 16 * extended] == [4711, 1, rcode]
    assert reply.header.opcode == data[2] >> 3 & 15
    assert len(upstream.asked) == before


@pytest.mark.parametrize("data", [b"", b"x", header()[:-1], header(0x8000) + WEB, header(0x8005, 0)])
def test_what_is_no_query_gets_no_answer(served: Served, data: bytes) -> None:
    """The one answer is that to the query which came after it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect((OURS, served.port))
        client.send(data)
        query = question("web")
        client.send(query.pack())
        assert DNSRecord.parse(client.recv(65535)).header.id == query.header.id
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
    with served.connect() as client:
        client.sendall(struct.pack("!H", len(data)) + data)
        assert client.recv(1) == b""


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_packets_are_answered_or_dropped(alone_for_all: Served, data: st.DataObject) -> None:
    packet = bytearray(question(data.draw(st.sampled_from(["web", "api", "x.y.example"])), size=1232).pack())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(packet) - 1))
        packet[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        packet = packet or bytearray(b"\0")
    got: list[bytes | None] = []
    alone_for_all.resolver._handle("127.0.0.9", bytes(packet), data.draw(st.booleans()), got.append)
    assert len(got) == 1
    if got[0] is None:
        assert len(packet) < 12 or packet[2] & 0x80
    else:
        reply = DNSRecord.parse(got[0])
        assert reply.header.id == int.from_bytes(packet[:2], "big")
        assert reply.header.qr == 1


@pytest.fixture(scope="module")
def alone_for_all() -> Iterator[Served]:
    made = Served([], 53)
    made.goes_on = False
    made.thread.join()
    yield made
    made.close()


def test_noise_does_not_end_it(served: Served) -> None:
    noise = random.Random(4711)
    packet = bytes(question("web", size=1232).pack())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for number in range(300):
            broken = bytearray(packet)
            broken[noise.randrange(len(broken))] = noise.randrange(256)
            client.sendto(broken[: noise.randrange(len(broken) + 1)], (OURS, served.port))
            # Now and then, because the kernel drops what a socket has no room for.
            if number % 20 == 0:
                assert texts(served.ask(question("web"))) == ["10.0.0.2"]


def framed(*queries: DNSRecord) -> bytes:
    return b"".join(struct.pack("!H", len(query.pack())) + query.pack() for query in queries)


def read_reply(client: socket.socket) -> DNSRecord:
    (length,) = struct.unpack("!H", client.recv(2, socket.MSG_WAITALL))
    return DNSRecord.parse(client.recv(length, socket.MSG_WAITALL))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_several_queries_on_one_connection(served: Served, size: int) -> None:
    """However the bytes come, known and unknown names mixed, and when the client sends no more."""
    queries = [question(name) for _ in range(20) for name in ("web", "www.example.com")]
    with served.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = framed(*queries)
        for at in range(0, len(data), size):
            client.sendall(data[at : at + size])
        client.shutdown(socket.SHUT_WR)
        replies = {reply.header.id: texts(reply) for reply in (read_reply(client) for _ in queries)}
        assert client.recv(1) == b""
    assert replies == {
        query.header.id: ["10.0.0.2"] if str(query.q.qname) == "web." else ["192.0.2.1"] for query in queries
    }


def test_who_does_not_read_blocks_nobody(served: Served) -> None:
    with served.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.setblocking(False)
        flood = framed(question("many"))
        with pytest.raises(BlockingIOError):
            for _ in range(1_000_000):
                slow.send(flood)
        assert texts(served.ask(question("web"), tcp=True)) == ["10.0.0.2"]
        assert texts(served.ask(question("web"))) == ["10.0.0.2"]
        # Nor does it fill the memory.
        assert max(len(each._out) for each in list(served.resolver._connections)) < 10_000


def test_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(resolver, "_IDLE", 0.1)
    with served.connect() as client:
        client.sendall(b"\0")
        assert client.recv(1) == b""


def test_connections_beyond_the_most_wait(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(resolver, "_CONNECTIONS", 2)
    first, second, third = (served.connect() for _ in range(3))
    with second, third:
        with first:
            for client in (first, second, third):
                client.sendall(framed(question("web")))
            assert texts(read_reply(first)) == ["10.0.0.2"]
            assert texts(read_reply(second)) == ["10.0.0.2"]
            assert texts(served.ask(question("web"))) == ["10.0.0.2"]
            third.setblocking(False)
            with pytest.raises(BlockingIOError):
                third.recv(1)
            third.settimeout(PATIENCE)
        assert texts(read_reply(third)) == ["10.0.0.2"]


def test_one_client_does_not_get_all_connections(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(resolver, "_CONNECTIONS", 4)
    monkeypatch.setattr(resolver, "_OF_ONE", 3)
    with contextlib.ExitStack() as stack:
        greedy = []
        for _ in range(6):
            greedy.append(stack.enter_context(served.connect()))
            # So that they come in this order.
            greedy[-1].sendall(framed(question("web")))
            assert texts(read_reply(greedy[-1])) == ["10.0.0.2"]
        # The oldest have ended, and there is room for another one.
        assert [client.recv(1) for client in greedy[:3]] == [b""] * 3
        other = socket.create_connection((OURS, served.port), PATIENCE, ("127.0.0.77", 0))
        stack.enter_context(other)
        other.sendall(framed(question("web")))
        assert texts(read_reply(other)) == ["10.0.0.2"]


def test_only_one_module_knows_the_packets() -> None:
    package = pathlib.Path(resolver.__file__).parent.parent
    assert [path.name for path in package.rglob("*.py") if "from dnslib" in path.read_text()] == ["resolver.py"]


def test_it_ends_with_a_tick_and_leaves_the_sockets_open() -> None:
    served = Served([], 53)
    ticks = []
    served.goes_on = False
    served.thread.join()
    served.resolver.serve(lambda: len(ticks) < 3 and not ticks.append(1), 0.001)
    assert len(ticks) == 3
    assert served.udp.fileno() >= 0
    served.close()
