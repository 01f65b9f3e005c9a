"""The packet filter rules are applied, by nft(8); and a look at what the host's other tables do to us.

Where the host's firewall drops what is forwarded, we can only say so.
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
from pycontainer.network import ruleset
from pycontainer.network.lease import StoredNetwork
from pycontainer.network.operations import NetworkOperation
from pycontainer.network.publication import Publication

# Where sbin is not in a user's PATH (su without a login shell).
SBIN = "/usr/sbin:/sbin"


class ApplyRules(NetworkOperation):
    step = "apply nft rules"
    reason = (
        "outside nobody knows the containers' subnet: what leaves takes the host's address, what is published enters"
    )

    def __init__(
        self, table: str, networks: list[StoredNetwork], published: list[Publication], *, drop6: bool = False
    ) -> None:
        """drop6: there may be a table of family ip6 that none of the networks needs."""
        self.path = table
        self.program = ruleset.program(table, networks, published)
        if drop6 and not ruleset.count6(networks):
            self.program += "".join(f"{line}\n" for line in ruleset.drop6(table))

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
