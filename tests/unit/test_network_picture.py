"""network inspect --picture: a value as lines."""

from __future__ import annotations

import re

from pycontainer.cli.network_picture import WIDTH, draw
from pycontainer.engine.topology import Bridge, Cable

LINKS = [("eth1", "198.51.100.7/24"), ("eth0", "192.0.2.10/24")]
INTERFACE = "pyc-0123456789a"


def cable(
    name: str, last: int, aliases: tuple[str, ...] = (), ports: tuple[str, ...] = (), link: str = "eth0"
) -> Cable:
    return Cable(name, f"10.99.16.{last}", f"pyc{last:012x}", link, aliases, ports)


def bridge(*cables: Cable, network: str = "shop", way_out: str = "NAT", state: str = "") -> Bridge:
    return Bridge(network, INTERFACE, "10.99.16.1/20", way_out, state, cables)


def test_a_network() -> None:
    shop = bridge(
        cable("web", 10, ports=("0.0.0.0:8080 -> 80/tcp", "127.0.0.1:8443 -> 443/tcp")),
        cable("db", 2, ("cache", "store"), link="eth1"),
    )
    vault = bridge(cable("safe", 3), network="vault", way_out="internal")
    assert draw(LINKS, [shop, vault]).splitlines() == [
        "host",
        "├─ eth0  192.0.2.10/24",
        "├─ eth1  198.51.100.7/24",
        "│",
        "├─ pyc-0123456789a  10.99.16.1/20  NAT  network shop",
        "│  ├─ 10.99.16.2   pyc000000000002 ═ eth1  db   also cache, also store",
        "│  └─ 10.99.16.10  pyc00000000000a ═ eth0  web  0.0.0.0:8080 -> 80/tcp, 127.0.0.1:8443 -> 443/tcp",
        "│",
        "└─ pyc-0123456789a  10.99.16.1/20  internal: nothing gets out, and nothing in  network vault",
        "   └─ 10.99.16.3  pyc000000000003 ═ eth0  safe",
    ]


def test_ipv6_and_all_addresses_of_the_hosts() -> None:
    web = Cable("web", "10.99.16.2", "pyc000000000002", "eth0", ("www",), ("*:80 -> 80/tcp",), "fd12:3456:789a::2")
    shop = Bridge("shop", INTERFACE, "10.99.16.1/20 fd12:3456:789a::1/64", "NAT", "", (web,))
    assert draw(LINKS[:1], [shop]).splitlines()[3:] == [
        "└─ pyc-0123456789a  10.99.16.1/20 fd12:3456:789a::1/64  NAT  network shop",
        "   └─ 10.99.16.2  pyc000000000002 ═ eth0  web  fd12:3456:789a::2, *:80 -> 80/tcp, also www",
    ]


def test_what_does_not_fit_goes_on_below() -> None:
    ports = tuple(f"192.168.200.100:{port} -> {port}/tcp" for port in range(60000, 60003))
    text = draw([], [bridge(cable("web", 2, ports=ports), cable("db", 3))])
    first, second, third, last = text.splitlines()[3:]
    column = first.index("192.168")
    assert [line[column:] for line in (first, second, third)] == list(ports)
    assert second[:column].strip() == third[:column].strip() == "│" and second[3] == last[3].replace("└", "│") == "│"


def test_nothing_is_wider_and_no_port_is_cut() -> None:
    name, alias, port = "n" * 250, "a" * 250, "255.255.255.255:65535 -> 65535/sctp"
    wide = Cable(name, "255.255.255.254", "pyc000000000002", "eth10", (alias, alias), (port, port))
    text = draw(LINKS, [bridge(wide, wide, network="n" * 250, way_out="internal", state="gone")])
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count(port) == 4 and "nnn…" in text and "aaa…" in text and "gone: the next start" in text


def test_two_hundred_containers_are_two_hundred_lines() -> None:
    ports = {7: ("0.0.0.0:8080 -> 80/tcp",)}
    cables = [
        Cable(f"worker-{number}", f"10.99.{16 + number // 250}.{number % 250 + 2}", f"pyc{number:012x}", "eth0", (),
              ports.get(number, ()))
        for number in reversed(range(200))
    ]  # fmt: skip
    lines = draw(LINKS, [bridge(*cables)]).splitlines()
    assert len(lines) == 5 + 200 and max(map(len, lines)) <= WIDTH
    names = [found[1] for line in lines if (found := re.search(r" (worker-\d+)", line))]
    assert names == [f"worker-{number}" for number in range(200)]
    assert len({line.index("worker") for line in lines[5:]}) == 1


def test_networks_without_a_bridge() -> None:
    none = Bridge("none", "", "", "", "", (Cable("b"), Cable("a")))
    unused = Bridge("bridge", "", "", "", "", ())
    assert draw([], [none, unused]).splitlines() == [
        "host",
        "│",
        "├─ none  no bridge: a loopback each",
        "│  ├─ a",
        "│  └─ b",
        "│",
        "└─ bridge  no bridge: nobody has used it yet",
    ]


def test_a_links_name_cannot_steer_the_terminal() -> None:
    assert "\033" not in draw([("\033[31m", "192.0.2.1/24")], [])
