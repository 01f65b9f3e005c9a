"""The packet filter rules of all networks together, as nft(8) reads them: one table of our own.

A verdict in one table cannot undo another's drop: every base chain of a hook sees the packet. So the user's own tables
filter what is forwarded here as they do everything else: docs/networks.md.
"""

from __future__ import annotations

# Not hashlib, because that loads OpenSSL.
import _blake2

from pycontainer.network.publication import MAPS, MAPS6, PROTOCOLS, VALUE, VALUE6, Publication, by_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.network.lease import StoredNetwork

# Raised with every change of what `program` writes for the same networks.
_VERSION = 4


def comment(networks: list[StoredNetwork]) -> str:
    """What the nft table says of itself. A table that says anything else is made anew."""
    text = "\n".join([*_rules("", networks), *_rules6("", networks)])
    digest = _blake2.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"pycontainer, rules {_VERSION} {digest}"


def count(networks: list[StoredNetwork]) -> int:
    """How many rules there are in the table of these networks."""
    return sum(line.startswith("add rule ") for line in _rules("", networks))


def count6(networks: list[StoredNetwork]) -> int:
    """As `count`, of the table of family ip6; 0 where there is to be none."""
    return sum(line.startswith("add rule ") for line in _rules6("", networks))


def program(table: str, networks: list[StoredNetwork], published: list[Publication]) -> str:
    """What `nft -f -` reads: applied whole or not at all, as often as one likes. The table is made anew.

    guard    before anything else sees a packet: 127.0.0.0/8 means this host and nobody behind a bridge, and nobody
             outside a network gets to a container's own address, past what is published
    publish  the look into the maps of published ports, the more particular key first; for what is addressed to this
             host, by others (prerouting; 127.0.0.0/8 is never theirs) and by itself (output)
    forward  nothing gets out of an internal network, and nothing in
    """
    lines = [
        f"add table ip {table}",
        f"delete table ip {table}",
        f'add table ip {table} {{ comment "{comment(networks)}"; }}',
        *(f"add map ip {table} {name} {{ type {key} : {VALUE}; }}" for name, key in MAPS.items()),
        *_rules(table, networks),
    ]
    families = ["ip"]
    if rules6 := _rules6(table, networks):
        families.append("ip6")
        lines += [
            *drop6(table),
            f"add table ip6 {table}",
            *(f"add map ip6 {table} {name} {{ type {key} : {VALUE6}; }}" for name, key in MAPS6.items()),
            *rules6,
        ]
    for family, name, members in by_map(published):
        if family in families:
            lines.append(f"add element {family} {table} {name} {{ {', '.join(map(str, members))} }}")
    return "".join(f"{line}\n" for line in lines)


def _rules(table: str, networks: list[StoredNetwork]) -> list[str]:
    chain, rule = f"add chain ip {table}", f"add rule ip {table}"
    lines = [f"{chain} guard {{ type filter hook prerouting priority raw; policy accept; }}"]
    for network in networks:
        bridge = f'"{network.interface}"'
        lines += [
            f"{rule} guard iifname {bridge} ip saddr 127.0.0.0/8 drop",
            f"{rule} guard iifname {bridge} ip daddr 127.0.0.0/8 drop",
            f'{rule} guard iifname != {{ "lo", {bridge} }} ip daddr {network.subnet} drop',
        ]
    lines += [
        f"{chain} publish",
        *(f"{rule} publish {text}" for text in _look_up("ip")),
        f"{chain} prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}",
        f"{rule} prerouting ip daddr != 127.0.0.0/8 fib daddr type local jump publish",
        # By number, because nft knows the name dstnat for prerouting only.
        f"{chain} output {{ type nat hook output priority -100; policy accept; }}",
        f"{rule} output fib daddr type local jump publish",
        f"{chain} forward {{ type filter hook forward priority filter; policy accept; }}",
        f"{chain} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
    ]
    ours = ", ".join(["127.0.0.0/8", *(network.subnet for network in networks)])
    for network in networks:
        bridge = f'"{network.interface}"'
        if network.traits.internal:
            lines += [
                f"{rule} forward iifname {bridge} oifname != {bridge} drop",
                f"{rule} forward oifname {bridge} iifname != {bridge} drop",
            ]
        elif network.traits.masquerade:
            lines.append(f"{rule} postrouting ip saddr {network.subnet} oifname != {bridge} masquerade")
        # What a container or 127.0.0.1 sends through a published port has to come back by the way that it went.
        lines.append(f"{rule} postrouting oifname {bridge} ct status dnat ip saddr {{ {ours} }} masquerade")
    return lines


def drop6(table: str) -> list[str]:
    """Lines by which there is no table of family ip6, whether there was one or not."""
    return [f"add table ip6 {table}", f"delete table ip6 {table}"]


def _rules6(table: str, networks: list[StoredNetwork]) -> list[str]:
    """The same for IPv6; none where no network has it.

    ::1 never leaves the host, nor comes from outside: the kernel sees to that, and translates nothing of it (relay.py).
    """
    networks = [network for network in networks if network.traits.subnet6]
    if not networks:
        return []
    chain, rule = f"add chain ip6 {table}", f"add rule ip6 {table}"
    lines = [
        f"{chain} guard {{ type filter hook prerouting priority raw; policy accept; }}",
        f"{chain} publish",
        *(f"{rule} publish {text}" for text in _look_up("ip6")),
        f"{chain} prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}",
        # What is sent to such an address has such a one itself, which leads no further than the link: it is relayed.
        f"{rule} prerouting ip6 daddr != fe80::/10 fib daddr type local jump publish",
        f"{chain} output {{ type nat hook output priority -100; policy accept; }}",
        f"{rule} output ip6 daddr != {{ ::1, fe80::/10 }} fib daddr type local jump publish",
        f"{chain} forward {{ type filter hook forward priority filter; policy accept; }}",
        f"{chain} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
    ]
    ours = ", ".join(network.traits.subnet6 for network in networks)
    for network in networks:
        bridge, subnet = f'"{network.interface}"', network.traits.subnet6
        lines.append(f'{rule} guard iifname != {{ "lo", {bridge} }} ip6 daddr {subnet} drop')
        # Whoever claims to be a router in there is none: CVE-2020-13401.
        lines.append(f"{rule} guard iifname {bridge} icmpv6 type {{ nd-router-advert, nd-redirect }} drop")
        if network.traits.internal:
            lines += [
                f"{rule} forward iifname {bridge} oifname != {bridge} drop",
                f"{rule} forward oifname {bridge} iifname != {bridge} drop",
            ]
        elif network.traits.masquerade:
            lines.append(f"{rule} postrouting ip6 saddr {subnet} oifname != {bridge} masquerade")
        lines.append(f"{rule} postrouting oifname {bridge} ct status dnat ip6 saddr {{ {ours} }} masquerade")
    return lines


def _look_up(family: str) -> list[str]:
    return [
        f"meta l4proto {{ {', '.join(PROTOCOLS)} }} dnat to {key} map @{name}"
        for key, name in (
            (f"{family} daddr . meta l4proto . th dport", "published_at"),
            ("meta l4proto . th dport", "published"),
        )
    ]
