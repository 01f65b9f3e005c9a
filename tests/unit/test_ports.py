"""-p, -P and --expose: what is accepted, what is stored, how it is shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pycontainer.engine import ports
from pycontainer.engine.config import ports as options
from pycontainer.errors import UsageError
from pycontainer.network.ports import led_to
from pycontainer.network.publication import Binding, Publication, Wanted, by_map

ANY, EVERYWHERE = "0.0.0.0", ""


def words(wanted: list[Wanted]) -> list[tuple[object, ...]]:
    return [(each.protocol, each.port, each.host_address, each.first, each.last) for each in wanted]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [("tcp", 80, EVERYWHERE, 0, 0)]),
        ("80/udp", [("udp", 80, EVERYWHERE, 0, 0)]),
        ("8080:80", [("tcp", 80, EVERYWHERE, 8080, 8080)]),
        ("8080:80/TCP", [("tcp", 80, EVERYWHERE, 8080, 8080)]),
        (":80", [("tcp", 80, EVERYWHERE, 0, 0)]),
        ("0:80", [("tcp", 80, EVERYWHERE, 0, 0)]),
        ("127.0.0.1:8080:80/sctp", [("sctp", 80, "127.0.0.1", 8080, 8080)]),
        ("127.0.0.1::80", [("tcp", 80, "127.0.0.1", 0, 0)]),
        ("0.0.0.0:1:65535", [("tcp", 65535, ANY, 1, 1)]),
        ("80-81", [("tcp", 80, EVERYWHERE, 0, 0), ("tcp", 81, EVERYWHERE, 0, 0)]),
        ("8080-8081:80-81/udp", [("udp", 80, EVERYWHERE, 8080, 8080), ("udp", 81, EVERYWHERE, 8081, 8081)]),
        ("8000-8010:80", [("tcp", 80, EVERYWHERE, 8000, 8010)]),
        ("[::1]:8080:80", [("tcp", 80, "::1", 8080, 8080)]),
        ("[::1]::80/udp", [("udp", 80, "::1", 0, 0)]),
        ("[::]:80:80", [("tcp", 80, "::", 80, 80)]),
        ("[2001:DB8:0::1]:80-81:90-91", [("tcp", 90, "2001:db8::1", 80, 80), ("tcp", 91, "2001:db8::1", 81, 81)]),
        ("127.0.0.1:80-81:90-91", [("tcp", 90, "127.0.0.1", 80, 80), ("tcp", 91, "127.0.0.1", 81, 81)]),
    ],
)
def test_publish(text: str, expected: list[tuple[object, ...]]) -> None:
    assert words(options.parse_publish(text)) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "'' is not a port"),
        ("8080:", "'' is not a port"),
        ("x", "'x' is not a port"),
        ("-1:80", "'-1' is not a port"),
        ("80:0", "'0' is not a port"),
        ("65536", "'65536' is not a port"),
        ("80:1e3", "'1e3' is not a port"),
        ("٨٠", "is not a port"),
        ("81-80", "'81-80' is not a port"),
        ("80-", "'80-' is not a port"),
        ("127.0.0.1:80", "'127.0.0.1' is not a port"),
        ("80-82:80-81", "the two ranges are not of one length"),
        ("80:80-81", "the two ranges are not of one length"),
        ("80/icmp", "unknown protocol 'icmp'"),
        ("80/", "unknown protocol ''"),
        ("80/tcp/udp", "unknown protocol 'tcp/udp'"),
        ("localhost:80:80", "'localhost' is not an address"),
        ("1.2.3:80:80", "'1.2.3' is not an address"),
        ("::1:80:80", "not an address and two ports"),
        ("[::1]:80", "not an address and two ports"),
        ("[::1]80:80", "not an address and two ports"),
        ("[::1]:80:80:80", "not an address and two ports"),
        ("[::1:80:80", "not an address and two ports"),
        ("[127.0.0.1]:80:80", "'[127.0.0.1]' is not an address"),
        ("[fe80::1%eth0]:80:80", "'[fe80::1%eth0]' is not an address"),
        ("[]:80:80", "'[]' is not an address"),
        ("[::ffff:127.0.0.1]:80:80", "'[::ffff:127.0.0.1]' is not an address"),
        ("[::1]:80:80/sctp", "SCTP is published on IPv4 addresses only"),
    ],
)
def test_publish_refused(text: str, cause: str) -> None:
    with pytest.raises(UsageError, match="--publish") as caught:
        options.parse_publish(text)
    assert cause in caught.value.cause
    assert "-p 8080:80" in caught.value.hint or "tcp, udp or sctp" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [("80", [(80, "tcp")]), ("53/udp", [(53, "udp")]), ("8-9/TCP", [(8, "tcp"), (9, "tcp")])],
)
def test_expose(text: str, expected: list[tuple[int, str]]) -> None:
    assert options.parse_expose(text) == expected


@pytest.mark.parametrize("text", ["", "0", "80:80", "80/x", "9-8", "70000"])
def test_expose_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--expose"):
        options.parse_expose(text)


@pytest.mark.parametrize("text", ["80-81", "x"])
def test_one_port_only_where_one_is_asked_for(text: str) -> None:
    with pytest.raises(UsageError):
        options.parse_private(text)


@pytest.mark.parametrize(
    "published",
    [
        ["80:80", "80:81"],
        ["80:80", "127.0.0.1:80:80"],
        ["127.0.0.1:80:80", "80:80"],
        ["79-81:79-81", "80:1"],
        ["127.0.0.1:80:80", "127.0.0.1:80:81"],
        ["[::1]:80:80", "80:80"],
        ["[::]:80:80", "[::1]:80:80"],
        ["80:80", "[::2]:80:80"],
    ],
)
def test_the_same_port_of_the_hosts_twice(published: list[str]) -> None:
    with pytest.raises(UsageError, match="80/tcp: the same port of the host's is published twice"):
        options.PortOptions({"publish": published})


@pytest.mark.parametrize(
    "published",
    [["80:80", "80:80/udp"], ["127.0.0.1:80:80", "127.0.0.2:80:80"], ["80", "80"], ["8-9:80", "8-9:81"],
     ["0.0.0.0:80:80", "[::]:80:80"], ["[::1]:80:80", "127.0.0.1:80:80"]],
)  # fmt: skip
def test_ports_that_do_not_meet(published: list[str]) -> None:
    assert options.PortOptions({"publish": published})


def test_nothing_is_to_be_published() -> None:
    assert not options.PortOptions({})
    assert not options.PortOptions({"expose": ["80"]})
    assert options.PortOptions({"publish_all": True})


def asked(**values: Any) -> Any:
    return SimpleNamespace(network=SimpleNamespace(ports=options.PortOptions(values)))


def test_what_is_exposed_comes_from_image_and_options() -> None:
    image = {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "nonsense": {}, "443": {}}}
    config = asked(publish=["8080:81"], expose=["80", "7/sctp"])
    assert list(ports.exposed(config, image)) == ["7/sctp", "53/udp", "80/tcp", "81/tcp", "443/tcp"]
    assert ports.exposed(asked(), {}) == {}
    assert ports.exposed(asked(), {"ExposedPorts": None}) == {}


def test_what_was_asked_for_in_dockers_shape() -> None:
    config = asked(publish=["8080:80", "127.0.0.1:81:80", "53/udp", "90-91:9"])
    assert ports.bindings(config) == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "81"}],
        "53/udp": [{"HostIp": "", "HostPort": ""}],
        "9/tcp": [{"HostIp": "", "HostPort": "90-91"}],
    }


def container(*rows: list[Any]) -> Any:
    return SimpleNamespace(ports=list(rows))


def test_what_is_published_in_dockers_shape() -> None:
    running = container(["tcp", 443, "", 0], ["tcp", 80, ANY, 8080], ["tcp", 80, "127.0.0.1", 81], ["udp", 53, ANY, 53])
    assert ports.published(running) == {
        "443/tcp": None,
        "80/tcp": [{"HostIp": ANY, "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "81"}],
        "53/udp": [{"HostIp": ANY, "HostPort": "53"}],
    }
    assert ports.published(container()) == {}
    assert [str(each) for each in ports.bound(running)] == [
        "0.0.0.0:53->53/udp",
        "0.0.0.0:8080->80/tcp",
        "127.0.0.1:81->80/tcp",
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], ""),
        ([["tcp", 80, ANY, 8080]], "0.0.0.0:8080->80/tcp"),
        ([["tcp", 80, "", 0]], "80/tcp"),
        ([["tcp", 80, ANY, 80], ["tcp", 81, ANY, 81], ["tcp", 82, ANY, 82]], "0.0.0.0:80-82->80-82/tcp"),
        ([["tcp", 80, "", 0], ["tcp", 81, "", 0], ["udp", 82, "", 0]], "80-81/tcp, 82/udp"),
        ([["tcp", 80, ANY, 80], ["tcp", 82, ANY, 82]], "0.0.0.0:80->80/tcp, 0.0.0.0:82->82/tcp"),
        ([["tcp", 81, ANY, 8081], ["tcp", 80, ANY, 8080]], "0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp"),
        (
            [["tcp", 80, ANY, 80], ["udp", 80, ANY, 80], ["tcp", 81, ANY, 81], ["udp", 81, ANY, 81]],
            "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:80-81->80-81/udp",
        ),
        (
            [["tcp", 80, ANY, 8080], ["tcp", 80, "::", 8080], ["tcp", 81, "::1", 81]],
            "[::1]:81->81/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        ),
    ],
)
def test_summary(rows: list[list[Any]], expected: str) -> None:
    assert ports.summary(container(*rows)) == expected


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (("tcp", ANY, 80), ("tcp", ANY, 80), True),
        (("tcp", ANY, 80), ("tcp", "127.0.0.1", 80), True),
        (("tcp", "127.0.0.1", 80), ("tcp", "127.0.0.2", 80), False),
        (("tcp", ANY, 80), ("udp", ANY, 80), False),
        (("tcp", ANY, 80), ("tcp", ANY, 81), False),
        (("tcp", ANY, 80), ("tcp", "::", 80), False),
        (("tcp", "::1", 80), ("tcp", "::", 80), True),
        (("tcp", "::1", 80), ("tcp", ANY, 80), False),
    ],
)
def test_bindings_that_clash(first: tuple[str, str, int], second: tuple[str, str, int], clash: bool) -> None:
    one, other = (Binding(protocol, 1, address, port) for protocol, address, port in (first, second))
    assert one.clashes(other) is clash
    assert other.clashes(one) is clash


@pytest.mark.parametrize(
    ("binding", "key", "value", "text"),
    [
        # As `nft --debug=netlink` prints them, in the machine's byte order.
        (Binding("tcp", 80, ANY, 8080), "06000000 1f900000", "0a630002 00500000", "tcp . 8080 : 10.99.0.2 . 80"),
        (
            Binding("udp", 5353, "127.0.0.1", 53),
            "7f000001 11000000 00350000",
            "0a630002 14e90000",
            "127.0.0.1 . udp . 53 : 10.99.0.2 . 5353",
        ),
        (Binding("sctp", 1, ANY, 65535), "84000000 ffff0000", "0a630002 00010000", "sctp . 65535 : 10.99.0.2 . 1"),
    ],
)
def test_elements(binding: Binding, key: str, value: str, text: str) -> None:
    publication = Publication(binding, "10.99.0.2")
    assert publication.key() == bytes.fromhex(key)
    assert publication.value() == bytes.fromhex(value)
    assert str(publication) == text
    assert str(Publication.parse(publication.key(), publication.value())) == text


@pytest.mark.parametrize(
    ("binding", "key", "text"),
    [
        (Binding("tcp", 80, "::", 8080), "06000000 1f900000", "tcp . 8080 : fd00::2 . 80"),
        (
            Binding("udp", 80, "2001:db8::1", 53),
            "20010db8 00000000 00000000 00000001 11000000 00350000",
            "2001:db8::1 . udp . 53 : fd00::2 . 80",
        ),
    ],
)
def test_elements_of_ipv6(binding: Binding, key: str, text: str) -> None:
    publication = Publication(binding, "fd00::2")
    assert publication.key() == bytes.fromhex(key)
    assert publication.value() == bytes.fromhex("fd000000 00000000 00000000 00000002 00500000")
    assert str(publication) == text
    again = Publication.parse(publication.key(), publication.value())
    assert (str(again), str(again.binding), again.map) == (text, str(binding), publication.map)


def test_only_what_the_kernel_translates_is_in_a_map() -> None:
    bindings = [Binding("tcp", 80, address, 8080) for address in (ANY, "::", "::1", "127.0.0.1", "2001:db8::1")]
    assert [each.address for each in led_to(bindings, "10.99.0.2", "")] == ["10.99.0.2", "10.99.0.2"]
    found = [(each.binding.host_address, each.address) for each in led_to(bindings, "10.99.0.2", "fd00::2")]
    assert found == [
        (ANY, "10.99.0.2"), ("::", "fd00::2"), ("127.0.0.1", "10.99.0.2"), ("2001:db8::1", "fd00::2"),
    ]  # fmt: skip


def test_one_line_of_a_picture_for_all_addresses() -> None:
    rows = [["tcp", 80, ANY, 8080], ["tcp", 80, "::", 8080], ["udp", 53, ANY, 53], ["tcp", 81, "::1", 81]]
    assert ports.drawn(container(*rows)) == ["0.0.0.0:53 -> 53/udp", "*:8080 -> 80/tcp", "[::1]:81 -> 81/tcp"]


def test_a_message_holds_only_so_many_elements() -> None:
    many = [Publication(Binding("tcp", port, ANY, port), "10.99.0.2") for port in range(1, 601)]
    local = Publication(Binding("tcp", 1, "127.0.0.1", 1), "10.99.0.2")
    six = Publication(Binding("tcp", 1, "::", 1), "fd00::2")
    pieces = by_map([local, six, *many])
    assert [(family, name, len(members)) for family, name, members in pieces] == [
        ("ip", "published", 256),
        ("ip", "published", 256),
        ("ip", "published", 88),
        ("ip", "published_at", 1),
        ("ip6", "published", 1),
    ]
