"""What the host's own packet filter does to what containers send, as its rules tell.

A packet is followed through the rules that `nft -j list ruleset` prints, libnftables-json(5), those of iptables-nft and
ip6tables-nft among them. What a match means for the packet is true, false, or not to be told from here (an address, a
limit, a set by name). Whatever cannot be told is taken in the firewall's favour: only what surely drops is reported.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# An object of nft's JSON.
_Json = dict[str, Any]

_DROPS = ("drop", "reject")


class Packet(NamedTuple):
    """family    ip or ip6
    hook         forward, or input: then it is a question by UDP to port 53
    incoming     the link by which it comes; "" for one that no rule can name
    outgoing     the one by which it goes
    established  it is an answer, and not the first of its connection
    """

    family: str
    hook: str
    incoming: str
    outgoing: str = ""
    established: bool = False


class Place(NamedTuple):
    """A base chain."""

    family: str
    table: str
    chain: str


def dropping_chains(ruleset: list[_Json], packet: Packet) -> list[Place]:
    """The base chains that surely drop it, by a rule or by their policy."""
    return [
        Place(chain["family"], chain["table"], chain["name"])
        for chain in (entry["chain"] for entry in ruleset if "chain" in entry)
        if chain.get("hook") == packet.hook
        and chain["family"] in (packet.family, "inet")
        and (_Table(ruleset, chain["family"], chain["table"]).follow(packet, chain["name"]) or chain.get("policy"))
        in _DROPS
    ]


class _Table:
    def __init__(self, ruleset: list[_Json], family: str, name: str) -> None:
        self.chains: dict[str, list[list[_Json]]] = {}
        for rule in (entry["rule"] for entry in ruleset if "rule" in entry):
            if (rule["family"], rule["table"]) == (family, name):
                self.chains.setdefault(rule["chain"], []).append(rule["expr"])

    def follow(self, packet: Packet, chain: str) -> str:
        """accept, drop or reject; "" where the chain leaves it to whoever called it."""
        unsure = False
        for rule in self.chains.get(chain, []):
            holds = [_holds(packet, statement) for statement in rule]
            named = any(_names(packet, statement) for statement in rule)
            verdict, target = _verdict(packet, rule)
            sure = all(value is True for value in holds)
            if not sure and not (named and verdict in ("accept", "jump", "goto")):
                # It may have left the chain here, so what the rest drops is not sure either.
                unsure = unsure or (verdict == "return" and False not in holds)
                continue
            if verdict in ("jump", "goto"):
                inside = self.follow(packet, target)
                if inside == "accept" or (inside and sure and not unsure):
                    return inside
                if verdict == "goto" and sure:
                    return ""
            elif verdict == "return":
                return ""
            elif verdict == "accept" or (verdict and not unsure):
                return verdict
        return ""


def _verdict(packet: Packet, rule: list[_Json]) -> tuple[str, str]:
    """What a rule ends in, "" for nothing that ends anything, and the chain that it leads to."""
    for statement in rule:
        (kind, content), *_ = statement.items()
        if kind == "vmap" and isinstance(content["data"], dict):
            for key, value in content["data"].get("set", []):
                if _compare(packet, content["key"], "==", key) is True:
                    return _verdict(packet, [value])
        if kind == "xt" and content and content.get("name") in ("REJECT", "DROP", "ACCEPT"):
            return content["name"].lower(), ""
        if kind in ("accept", "return", *_DROPS):
            return kind, ""
        if kind in ("jump", "goto"):
            return kind, content["target"]
    return "", ""


def _holds(packet: Packet, statement: _Json) -> bool | None:
    """Whether the packet passes a statement of a rule; None where that cannot be told."""
    (kind, content), *_ = statement.items()
    if kind == "match":
        return _compare(packet, content["left"], content["op"], content["right"])
    if kind == "xt":
        # One of iptables' own, of which nft knows the name and no more.
        name, is_match = (content or {}).get("name"), (content or {}).get("type") == "match"
        if is_match and name in ("conntrack", "state"):
            return True if packet.established else None
        return True if not is_match or name == "comment" else None
    return None if kind == "limit" else True


def _names(packet: Packet, statement: _Json) -> bool:
    """Whether it is about our link: somebody has thought of us, and an exception is not to be argued with."""
    match = statement.get("match", {})
    key = match.get("left", {}).get("meta", {}).get("key", "") if isinstance(match.get("left"), dict) else ""
    return key in ("iif", "iifname", "oif", "oifname") and match["op"] == "==" and _holds(packet, statement) is True


def _compare(packet: Packet, left: Any, operator: str, right: Any) -> bool | None:
    if operator not in ("==", "!=", "in") or not isinstance(left, dict):
        return None
    options = right.get("set", [right]) if isinstance(right, dict) else right if isinstance(right, list) else [right]
    found = _found(packet, left, options)
    return None if found is None else found == (operator != "!=")


def _found(packet: Packet, left: _Json, options: list[Any]) -> bool | None:
    """Whether a field of the packet's is one of the options."""
    if any(isinstance(option, dict) or str(option).startswith("@") for option in options):
        return None
    (kind, content), *_ = left.items()
    key = content.get("key", "") if isinstance(content, dict) else ""
    if kind == "meta" and key in ("iif", "iifname", "oif", "oifname"):
        link = packet.incoming if key.startswith("iif") else packet.outgoing
        return any(_is_link(link, str(option)) for option in options)
    if kind == "meta" and key == "nfproto":
        return ("ipv4" if packet.family == "ip" else "ipv6") in options
    if kind == "ct" and key == "state":
        return ("established" if packet.established else "new") in options
    if kind == "ct" and key == "status" and options == ["dnat"]:
        return False
    if packet.hook == "input" and kind == "meta" and key == "l4proto":
        return "udp" in options
    if packet.hook == "input" and kind == "payload" and content.get("field") == "dport":
        return content["protocol"] in ("udp", "th") and 53 in options
    return None


def _is_link(link: str, pattern: str) -> bool:
    return link.startswith(pattern[:-1]) if pattern.endswith("*") and link else link == pattern
