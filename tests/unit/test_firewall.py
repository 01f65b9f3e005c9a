"""What the host's packet filter means for us, read from its rules as nft prints them."""

from __future__ import annotations

from typing import Any

import pytest

from pycontainer.kernel.operation import Journal
from pycontainer.network import rules
from pycontainer.network.firewall import Packet, Place, dropping_chains
from pycontainer.network.lease import StoredNetwork, Traits

SENT = Packet("ip", "forward", "pyc0")
ANSWER = Packet("ip", "forward", "", "pyc0", established=True)
QUESTION = Packet("ip", "input", "pyc0")

ACCEPT, DROP, RETURN = {"accept": None}, {"drop": None}, {"return": None}
REJECT = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
CONNTRACK = {"xt": {"type": "match", "name": "conntrack"}}
PORT_22 = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}}
PORT_53 = {
    "match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": {"set": [53, 80]}}
}
SOURCE = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.0.2.1"}}
KNOWN = {"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": {"set": ["established", "related"]}}}


def comes(link: Any, op: str = "==", key: str = "iifname") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": link}}


def goes(link: Any) -> dict[str, Any]:
    return comes(link, key="oifname")


def jump(target: str, how: str = "jump") -> dict[str, Any]:
    return {how: {"target": target}}


def chain(name: str, table: str = "filter", family: str = "ip", **base: str) -> dict[str, Any]:
    return {"chain": {"family": family, "table": table, "name": name, **base}}


def rule(*statements: dict[str, Any], at: str = "FORWARD", table: str = "filter", family: str = "ip") -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": at, "expr": list(statements)}}


DROPPING = chain("FORWARD", hook="forward", policy="drop")
ACCEPTING = chain("FORWARD", hook="forward", policy="accept")
FOUND = [Place("ip", "filter", "FORWARD")]


@pytest.mark.parametrize(
    ("ruleset", "found"),
    [
        ([], []),
        ([DROPPING], FOUND),
        ([ACCEPTING], []),
        ([ACCEPTING, rule(REJECT)], FOUND),
        ([ACCEPTING, rule(COUNTER, {"xt": {"type": "target", "name": "REJECT"}})], FOUND),
        ([ACCEPTING, rule({"xt": {"type": "match", "name": "comment"}}, DROP)], FOUND),
        ([DROPPING, rule({"xt": {"type": "target", "name": "LOG"}})], FOUND),
        ([DROPPING, rule(comes("docker0"), ACCEPT)], FOUND),
        ([DROPPING, rule(comes("pyc0"), ACCEPT)], []),
        ([DROPPING, rule(comes("pyc*"), ACCEPT)], []),
        ([DROPPING, rule(comes("docker0", "!="), ACCEPT)], []),
        ([DROPPING, rule(comes({"set": ["eth0", "pyc0"]}), ACCEPT)], []),
        ([DROPPING, rule(comes("pyc0"), ACCEPT, table="other")], FOUND),
        # What is said about us elsewhere says nothing about what is forwarded.
        ([DROPPING, rule(comes("pyc0"), PORT_53, ACCEPT, at="INPUT")], FOUND),
        # An exception that somebody has made for us is enough.
        ([DROPPING, rule(comes("pyc0"), goes("eth0"), PORT_22, ACCEPT)], []),
        ([ACCEPTING, rule(comes("pyc0"), PORT_22, DROP)], []),
        # libvirt's, for its own link.
        ([ACCEPTING, rule(jump("FWI")), rule(goes("virbr0"), REJECT, at="FWI")], []),
        ([ACCEPTING, rule(jump("FWI")), rule(REJECT, at="FWI")], FOUND),
        ([DROPPING, rule(jump("USER")), rule(comes("pyc0"), ACCEPT, at="USER")], []),
        ([DROPPING, rule(jump("USER")), rule(RETURN, at="USER"), rule(ACCEPT, at="USER")], FOUND),
        # firewalld's: what comes after a goto is not reached.
        ([ACCEPTING, rule(comes("pyc*"), jump("mine", "goto")), rule(REJECT), rule(ACCEPT, at="mine")], []),
        ([ACCEPTING, rule(jump("public", "goto")), rule(REJECT)], []),
        # What cannot be told from here is not reported.
        ([ACCEPTING, rule(SOURCE, DROP)], []),
        ([ACCEPTING, rule(CONNTRACK, DROP)], []),
        ([ACCEPTING, rule(jump("USER")), rule(SOURCE, RETURN, at="USER"), rule(DROP, at="USER")], []),
        ([ACCEPTING, rule({"limit": {"rate": 3, "per": "minute"}}, DROP)], []),
        ([ACCEPTING, rule(comes("@links"), DROP)], []),
        ([ACCEPTING, rule(KNOWN, ACCEPT), rule(DROP)], FOUND),
        ([DROPPING, rule({"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["pyc0", ACCEPT]]}}})], []),
        ([chain("in", hook="input", policy="drop")], []),
        ([chain("f", "fw", "inet", hook="forward", policy="drop")], [Place("inet", "fw", "f")]),
        ([chain("f", "fw", "ip6", hook="forward", policy="drop")], []),
    ],
)
def test_chains_that_drop_what_is_sent(ruleset: list[dict[str, Any]], found: list[Place]) -> None:
    assert dropping_chains(ruleset, SENT) == found


def test_what_drops_the_answers_is_found_too() -> None:
    one_way = [DROPPING, rule(comes("pyc0"), ACCEPT)]
    assert dropping_chains(one_way, SENT) == [] and dropping_chains(one_way, ANSWER) == FOUND
    for match in (KNOWN, CONNTRACK):
        assert dropping_chains([*one_way, rule(match, ACCEPT)], ANSWER) == []


def test_what_drops_questions_for_names_is_found() -> None:
    base = chain("INPUT", hook="input", policy="drop")
    found = [Place("ip", "filter", "INPUT")]
    assert dropping_chains([base], QUESTION) == found
    assert dropping_chains([base, rule(PORT_22, ACCEPT, at="INPUT")], QUESTION) == found
    assert dropping_chains([base, rule(PORT_53, ACCEPT, at="INPUT")], QUESTION) == []


def test_ipv6_is_looked_at_in_its_own_tables() -> None:
    base = chain("f", "fw", "ip6", hook="forward", policy="drop")
    assert dropping_chains([base], SENT._replace(family="ip6")) == [Place("ip6", "fw", "f")]


def lines(monkeypatch: pytest.MonkeyPatch, ruleset: list[dict[str, Any]], **traits: Any) -> list[str]:
    monkeypatch.setattr(rules.ListRules, "execute", lambda _: ruleset)
    network = StoredNetwork("n", "pyc-n", "10.99.0.0/20", "10.99.0.1", "n" * 64, 1.0, Traits(**traits))
    return [line.partition("; to let them: ")[2] for line in rules.firewall_notices(Journal(), network)]


def test_each_firewall_gets_a_line_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    states = "-m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT"
    plain = f"iptables -I FORWARD -i pyc+ -j ACCEPT; iptables -I FORWARD -o pyc+ {states}"
    assert lines(monkeypatch, [DROPPING]) == [plain]
    assert lines(monkeypatch, [DROPPING, chain("DOCKER-USER")]) == [plain.replace("FORWARD", "DOCKER-USER")]
    closed = chain("INPUT", hook="input", policy="drop")
    ufw = ["ufw route allow in on pyc+; ufw route allow out on pyc+", "ufw allow in on pyc+ to any port 53"]
    assert lines(monkeypatch, [DROPPING, closed, chain("ufw-user-input")]) == ufw
    base = {"table": "firewalld", "family": "inet", "policy": "accept"}
    places = {"table": "firewalld", "family": "inet"}
    firewalld = [chain("f", hook="forward", **base), chain("i", hook="input", **base)]
    firewalld += [rule(REJECT, at=at, **places) for at in ("f", "i")]
    once = ["firewall-cmd --permanent --zone=trusted --add-interface=pyc+; firewall-cmd --reload"]
    assert lines(monkeypatch, firewalld) == once
    (own,) = lines(monkeypatch, [chain("f", "fw", "inet", hook="forward", policy="drop")])
    assert own.startswith(
        """nft 'insert rule inet fw f iifname "pyc*" accept; insert rule inet fw f oifname "pyc*" ct"""
    )


def test_only_what_the_network_does_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(monkeypatch, [DROPPING], internal=True) == []
    dropping6 = chain("FORWARD", family="ip6", hook="forward", policy="drop")
    assert lines(monkeypatch, [dropping6]) == []
    # Docker's chain for IPv4 is none for IPv6.
    (line,) = lines(monkeypatch, [dropping6, chain("DOCKER-USER")], subnet6="fd12:3456:789a::/64")
    assert line.startswith("ip6tables -I FORWARD -i pyc+ -j ACCEPT; ")


def test_a_bridge_of_another_name_is_named_whole() -> None:
    line = rules.remedy([DROPPING], FOUND[0], "mybridge")
    assert line.startswith("iptables -I FORWARD -i mybridge -j ACCEPT; ")
