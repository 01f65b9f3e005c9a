"""The choice of a subnet, names, and the rules of our own."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv4Interface, IPv4Network

import pytest

from pycontainer.errors import Conflict, HostError, UsageError
from pycontainer.kernel.operation import Journal
from pycontainer.network import attach, names, ruleset
from pycontainer.network.bridge import POOLS, Survey, choose_subnet, plan_subnet
from pycontainer.network.lease import StoredNetwork, Traits
from pycontainer.network.publication import Binding, Publication

STORED = StoredNetwork("bridge", "pyc0", "10.99.0.0/20", "10.99.0.1")


def networks(*texts: str) -> list[IPv4Network]:
    return [IPv4Network(text) for text in texts]


def survey(*taken: str, own: str = "") -> Survey:
    return Survey(networks(*taken), IPv4Interface(own) if own else None, 1500)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ((), "10.99.0.0/20"),
        (("192.168.0.0/16", "172.17.0.0/16"), "10.99.0.0/20"),
        (("10.99.3.7/32",), "10.99.16.0/20"),
        (("10.99.0.0/19",), "10.99.32.0/20"),
        (("10.96.0.0/11",), "10.199.0.0/20"),
        (("10.0.0.0/8",), "172.30.0.0/20"),
        (("10.0.0.0/8", "172.16.0.0/12"), "192.168.192.0/20"),
    ],
)
def test_choose_a_subnet_beside_what_the_host_has(taken: tuple[str, ...], expected: str) -> None:
    assert str(choose_subnet(networks(*taken))) == expected


def test_no_subnet_left() -> None:
    with pytest.raises(HostError, match="choose a subnet"):
        choose_subnet(networks(*POOLS))


def test_a_new_network_takes_over_the_address_of_a_bridge_that_is_there() -> None:
    found = survey("10.99.0.0/20", own="10.50.0.1/24")
    assert str(plan_subnet(None, True, False, found)) == "10.50.0.0/24"
    assert str(plan_subnet(None, True, False, survey("10.99.0.0/20"))) == "10.99.16.0/20"


def test_the_stored_subnet_is_kept_while_it_fits() -> None:
    assert str(plan_subnet(STORED, False, True, survey("10.98.0.0/16"))) == "10.99.0.0/20"
    assert str(plan_subnet(STORED, True, True, survey("10.99.0.0/16"))) == "10.99.0.0/20"


def test_a_stored_subnet_that_collides_moves_only_without_leases() -> None:
    assert str(plan_subnet(STORED, False, False, survey("10.99.0.0/16"))) == "10.199.0.0/20"
    with pytest.raises(Conflict, match=r"the host now uses 10\.99\.0\.0/16, which overlaps"):
        plan_subnet(STORED, False, True, survey("10.99.0.0/16"))


@pytest.mark.parametrize("interface", ["", "a" * 16, "a b", "a/b", "a;b", 'a"', "é", "-"])
def test_names_that_are_no_links(interface: str) -> None:
    with pytest.raises(UsageError, match="not a name for a link"):
        attach.ensure(Journal(), sqlite3.connect(":memory:"), ["bridge"], interface)


def test_names_follow_from_bridge_and_container() -> None:
    assert names.table_name("pyc0") == "pycontainer"
    assert names.table_name("pyct1") == "pycontainer_pyct1"
    assert names.link_name("0123456789abcdef" * 4) == "pyc0123456789ab"
    assert len(names.link_name("f" * 64)) == 15
    others = {names.link_name(container, network) for container in ("a" * 64, "b" * 64) for network in ("one", "two")}
    assert len(others) == 4 and all(len(name) == 15 and name.startswith("pyc") for name in others)


def test_program_touches_only_its_own_table() -> None:
    publication = Publication(Binding("tcp", 80, "0.0.0.0", 8080), "10.99.0.2")
    lines = ruleset.program("pycontainer", [STORED], [publication]).splitlines()
    assert lines[:2] == ["add table ip pycontainer", "delete table ip pycontainer"]
    assert lines[-1] == "add element ip pycontainer published { tcp . 8080 : 10.99.0.2 . 80 }"
    assert all(line.split()[2:4] == ["ip", "pycontainer"] for line in lines)


INTERNAL = StoredNetwork("in", "pyc-in", "10.99.16.0/20", "10.99.16.1", "i" * 64, 1.0, Traits(internal=True))


@pytest.mark.parametrize("networks", [[], [STORED], [STORED, INTERNAL]])
def test_the_number_of_rules_is_known(networks: list[StoredNetwork]) -> None:
    text = ruleset.program("t", networks, [])
    assert sum(line.startswith("add rule ") for line in text.splitlines()) == ruleset.count(networks)


def test_other_rules_say_so() -> None:
    """An installation keeps its table as long as the comment is the same."""
    assert ruleset.comment([STORED]) == ruleset.comment([StoredNetwork("bridge", "pyc0", "10.99.0.0/20", "10.99.0.1")])
    others = [[], [INTERNAL], [STORED, INTERNAL], [StoredNetwork("bridge", "pyc0", "10.99.0.0/21", "10.99.0.1")]]
    assert len({ruleset.comment(each) for each in [[STORED], *others]}) == 5
    assert f'comment "{ruleset.comment([STORED])}"' in ruleset.program("pycontainer", [STORED], [])


def test_nothing_gets_out_of_an_internal_network() -> None:
    lines = ruleset.program("t", [STORED, INTERNAL], []).splitlines()
    assert 'add rule ip t forward iifname "pyc-in" oifname != "pyc-in" drop' in lines
    assert 'add rule ip t forward oifname "pyc-in" iifname != "pyc-in" drop' in lines
    assert not any("10.99.16.0/20 oifname" in line and "masquerade" in line for line in lines)
    assert not any(' forward iifname "pyc0"' in line for line in lines)


SIX = StoredNetwork("six", "pyc-6", "10.99.32.0/20", "10.99.32.1", "s" * 64, 2.0, Traits(subnet6="fd12:3456:789a::/64"))


def test_the_ipv6_address_has_the_number_of_the_other_one() -> None:
    assert SIX.gateway6 == "fd12:3456:789a::1"
    assert SIX.address6("10.99.33.4") == "fd12:3456:789a::104"
    assert STORED.gateway6 == STORED.address6("10.99.0.2") == ""


def test_rules_of_ipv6_are_there_where_a_network_has_it() -> None:
    assert not any(
        "ip6 " in line for line in ruleset.program("t", [STORED, INTERNAL], []).splitlines() if "icmp" not in line
    )
    lines = ruleset.program("t", [STORED, SIX], []).splitlines()
    assert ruleset.count6([STORED, SIX]) == 8 and ruleset.count6([STORED]) == 0
    assert lines.index("add table ip6 t") < lines.index("delete table ip6 t")
    assert 'add rule ip6 t guard iifname != { "lo", "pyc-6" } ip6 daddr fd12:3456:789a::/64 drop' in lines
    assert 'add rule ip6 t postrouting ip6 saddr fd12:3456:789a::/64 oifname != "pyc-6" masquerade' in lines
    assert ruleset.comment([STORED, SIX]) != ruleset.comment([STORED])
    led = Publication(Binding("tcp", 80, "::", 8080), "fd12:3456:789a::2")
    element = "add element ip6 t published { tcp . 8080 : fd12:3456:789a::2 . 80 }"
    assert element in ruleset.program("t", [STORED, SIX], [led]).splitlines()
    inside = StoredNetwork(
        "six", "pyc-6", "10.99.32.0/20", "10.99.32.1", "s" * 64, 2.0, Traits(internal=True, subnet6="fd00::/64")
    )
    rules = [line for line in ruleset.program("t", [inside], []).splitlines() if line.startswith("add rule ip6 ")]
    assert sum(" forward " in line for line in rules) == 2 and not any(
        "masquerade" in line and "ct status dnat" not in line for line in rules
    )
