"""The packet filter rules: one nft(8) table of our own, and a look at what the host's other tables do to us.

A verdict in one table cannot undo another's drop: every base chain of a hook sees the packet. Where the host's
firewall drops what is forwarded, we can only say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from pycontainer.errors import HostError
from pycontainer.kernel import record
from pycontainer.kernel.operation import Journal
from pycontainer.network.operations import TABLE_COMMENT, NetworkOperation
from pycontainer.network.publication import MAPS, PROTOCOLS, VALUE, Publication, by_map

# Where sbin is not in a user's PATH (su without a login shell).
SBIN = "/usr/sbin:/sbin"


def program(table: str, interface: str, subnet: str, published: list[Publication]) -> str:
    """What `nft -f -` reads: applied whole or not at all, as often as one likes. The table is made anew.

    guard    before anything else sees a packet: 127.0.0.0/8 means this host and nobody behind the bridge, and nobody
             outside gets to a container's own address, past what is published
    publish  the look into the maps of published ports, the more particular key first; for what is addressed to this
             host, by others (prerouting; 127.0.0.0/8 is never theirs) and by itself (output)
    """
    bridge = f'"{interface}"'
    lines = [
        f"add table ip {table}",
        f"delete table ip {table}",
        f'add table ip {table} {{ comment "{TABLE_COMMENT}"; }}',
        *(f"add map ip {table} {name} {{ type {key} : {VALUE}; }}" for name, key in MAPS.items()),
        f"add chain ip {table} guard {{ type filter hook prerouting priority raw; policy accept; }}",
        f"add rule ip {table} guard iifname {bridge} ip saddr 127.0.0.0/8 drop",
        f"add rule ip {table} guard iifname {bridge} ip daddr 127.0.0.0/8 drop",
        f'add rule ip {table} guard iifname != {{ "lo", {bridge} }} ip daddr {subnet} drop',
        f"add chain ip {table} publish",
        *(f"add rule ip {table} publish {rule}" for rule in _LOOK_UP),
        f"add chain ip {table} prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}",
        f"add rule ip {table} prerouting ip daddr != 127.0.0.0/8 fib daddr type local jump publish",
        # By number, because nft knows the name dstnat for prerouting only.
        f"add chain ip {table} output {{ type nat hook output priority -100; policy accept; }}",
        f"add rule ip {table} output fib daddr type local jump publish",
        f"add chain ip {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
        f"add rule ip {table} postrouting ip saddr {subnet} oifname != {bridge} masquerade",
        # What a container or 127.0.0.1 sends through a published port has to come back by the way that it went.
        f"add rule ip {table} postrouting oifname {bridge} ct status dnat "
        f"ip saddr {{ 127.0.0.0/8, {subnet} }} masquerade",
        *(f"add element ip {table} {name} {{ {', '.join(map(str, members))} }}" for name, members in by_map(published)),
    ]
    return "".join(f"{line}\n" for line in lines)


_LOOK_UP = [
    f"meta l4proto {{ {', '.join(PROTOCOLS)} }} dnat to {key} map @{name}"
    for key, name in (
        ("ip daddr . meta l4proto . th dport", "published_at"),
        ("meta l4proto . th dport", "published"),
    )
]


class ApplyRules(NetworkOperation):
    step = "apply nft rules"
    reason = (
        "outside nobody knows the containers' subnet: what leaves takes the host's address, what is published enters"
    )

    def __init__(self, table: str, interface: str, subnet: str, published: list[Publication]) -> None:
        self.path = table
        self.program = program(table, interface, subnet, published)

    def shell(self) -> str:
        return f"nft '{'; '.join(self.program.splitlines())}'"

    def execute(self) -> None:
        run_nft(["-f", "-"], self.program)


class ListRules(NetworkOperation):
    """Its result is what `nft -j list ruleset` prints: a list of objects, see libnftables-json(5)."""

    step = "list nft rules"
    reason = "does the host's firewall drop what containers send"

    def shell(self) -> str:
        return "nft list ruleset"

    def execute(self) -> list[dict[str, Any]]:
        ruleset: list[dict[str, Any]] = json.loads(run_nft(["-j", "list", "ruleset"]))["nftables"]
        return ruleset


def run_nft(arguments: list[str], text: str = "") -> str:
    """Run nft(8) with `text` as its input; its output. Raises HostError."""
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if nft is None:
        raise HostError("apply nft rules", "nft", "command not found", "install it: apt-get install nftables")
    done = subprocess.run([nft, *arguments], input=text, capture_output=True, text=True, check=False)
    record.made("execve", [record.quoted(nft), f"[{', '.join(map(record.quoted, [nft, *arguments]))}]"])
    for line in text.splitlines():
        record.add(f"  {line}")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        cause = lines[0].rpartition("Error: ")[2].lower()
        raise HostError(
            "apply nft rules",
            "nft",
            cause,
            "it needs root and a kernel with nf_tables and nat for IPv4; without: --network none or host",
        )
    return done.stdout


def forward_notices(journal: Journal, interface: str) -> list[str]:
    """Lines for the user where the host's firewall drops forwarded packets by its policy and has no rule for us."""
    try:
        ruleset = journal.perform(ListRules())
    except HostError:
        return []  # an nft without JSON: no reason to refuse a container
    assert isinstance(ruleset, list)
    return [
        f"the host's firewall drops forwarded packets (table {family} {table}, chain {chain}): containers may not "
        f"reach other networks or each other; to let them: {remedy(ruleset, family, table, chain, interface)}"
        for family, table, chain in dropping_chains(ruleset, interface)
    ]


def dropping_chains(ruleset: list[dict[str, Any]], interface: str) -> list[tuple[str, str, str]]:
    """Chains (family, table, name) that drop forwarded IPv4 packets and whose table has no rule for `interface`."""
    spoken_for = {
        (rule["family"], rule["table"])
        for rule in (entry["rule"] for entry in ruleset if "rule" in entry)
        if f'"{interface}"' in json.dumps(rule["expr"])
    }
    return [
        (chain["family"], chain["table"], chain["name"])
        for chain in (entry["chain"] for entry in ruleset if "chain" in entry)
        if chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and chain["family"] in ("ip", "inet")
        and (chain["family"], chain["table"]) not in spoken_for
    ]


def remedy(ruleset: list[dict[str, Any]], family: str, table: str, chain: str, interface: str) -> str:
    """A shell line that lets the containers through; in docker's chain for such rules where there is one."""
    if (family, table, chain) != ("ip", "filter", "FORWARD"):
        begin = f"nft insert rule {family} {table} {chain}"
        answers = f"{begin} oifname {interface} ct state established,related accept"
        return f"{begin} iifname {interface} accept; {answers}; {begin} oifname {interface} ct status dnat accept"
    chains = {entry["chain"]["name"] for entry in ruleset if entry.get("chain", {}).get("table") == table}
    begin = f"iptables -I {'DOCKER-USER' if 'DOCKER-USER' in chains else chain}"
    # DNAT is what comes to a published port.
    states = "ESTABLISHED,RELATED,DNAT"
    return f"{begin} -i {interface} -j ACCEPT; {begin} -o {interface} -m conntrack --ctstate {states} -j ACCEPT"
