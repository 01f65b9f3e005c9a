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
from pycontainer.network.firewall import Packet, Place, dropping_chains
from pycontainer.network.lease import StoredNetwork
from pycontainer.network.names import LINK_PREFIX
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


def firewall_notices(journal: Journal, network: StoredNetwork) -> list[str]:
    """Lines for the user where the host's firewall drops what the network's containers send.

    Published ports are not looked at: whoever has a firewall may want them shut.
    """
    try:
        ruleset = journal.perform(ListRules())
    except HostError:
        return []  # an nft without JSON: no reason to refuse a container
    assert isinstance(ruleset, list)
    link, forwarded, asked = network.interface, [], []
    if not network.traits.internal:
        for family in ("ip", "ip6") if network.traits.subnet6 else ("ip",):
            forwarded += dropping_chains(ruleset, Packet(family, "forward", link))
            forwarded += dropping_chains(ruleset, Packet(family, "forward", "", link, established=True))
    if network.id:  # in those that users have made there are names
        asked = dropping_chains(ruleset, Packet("ip", "input", link))
    # By the remedy, because one often mends several chains.
    notices: dict[str, str] = {}
    for place in forwarded:
        notices.setdefault(
            remedy(ruleset, place, link),
            f"the host's firewall drops forwarded packets (table {place.family} {place.table}, chain {place.chain}): "
            "containers may not reach other networks or each other",
        )
    for place in asked:
        notices.setdefault(
            remedy(ruleset, place, link, "input"),
            f"the host's firewall drops what comes in (table {place.family} {place.table}, chain {place.chain}): "
            "containers cannot ask for names",
        )
    return [f"{text}; to let them: {line}" for line, text in notices.items()]


def remedy(ruleset: list[dict[str, Any]], place: Place, interface: str, hook: str = "forward") -> str:
    """A shell line that lets the containers through, in the words of the firewall that has the chain.

    It is for all our bridges where their names begin alike, because the next network needs it too. docs/networks.md
    tells which of them last.
    """
    family, table, chain = place
    wide = interface.startswith(LINK_PREFIX)
    links = f"{LINK_PREFIX}+" if wide else interface
    all_chains = [entry["chain"] for entry in ruleset if "chain" in entry]
    chains = {each["name"] for each in all_chains if (each["family"], each["table"]) == (family, table)}
    if table == "firewalld" or "FORWARD_ZONES" in chains:
        return f"firewall-cmd --permanent --zone=trusted --add-interface={links}; firewall-cmd --reload"
    if any(name.startswith(("ufw-", "ufw6-")) for name in chains):
        if hook == "input":
            return f"ufw allow in on {links} to any port 53"
        return f"ufw route allow in on {links}; ufw route allow out on {links}"
    if (table, chain) in (("filter", "FORWARD"), ("filter", "INPUT")) and family != "inet":
        chain = "DOCKER-USER" if chain == "FORWARD" and "DOCKER-USER" in chains else chain
        begin = f"{'iptables' if family == 'ip' else 'ip6tables'} -I {chain}"
        if hook == "input":
            return "; ".join(f"{begin} -i {links} -p {each} --dport 53 -j ACCEPT" for each in ("udp", "tcp"))
        # DNAT is what comes to a published port.
        states = "ESTABLISHED,RELATED,DNAT"
        return f"{begin} -i {links} -j ACCEPT; {begin} -o {links} -m conntrack --ctstate {states} -j ACCEPT"
    links = f'"{LINK_PREFIX}*"' if wide else f'"{interface}"'
    texts = [
        f"iifname {links} accept",
        *(f"oifname {links} ct {x} accept" for x in ("state established,related", "status dnat")),
    ]
    if hook == "input":
        texts = [f"iifname {links} {each} dport 53 accept" for each in ("udp", "tcp")]
    return f"nft '{'; '.join(f'insert rule {family} {table} {chain} {text}' for text in texts)}'"
