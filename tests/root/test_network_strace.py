"""What the network's operations say they send is what strace(1) sees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")

# All in one network namespace, because strace decodes netlink only where it runs itself.
SCRIPT = """
import os, sqlite3
from pycontainer.kernel.netlink import NETLINK_ROUTE, Netlink
from pycontainer.kernel.operation import Journal
from pycontainer.network import lease, operations
from pycontainer.network.attach import ensure
connection = sqlite3.connect(":memory:", isolation_level=None)
connection.executescript(lease.SCHEMA)
journal = Journal(1)
(network,), _ = ensure(journal, connection, ["bridge"], "pyct0")
netns = os.open("/proc/self/ns/net", os.O_RDONLY)
with Netlink(NETLINK_ROUTE) as netlink:
    mac = bytes([2, 66, 192, 0, 2, 9])
    journal.perform(operations.CreateVeth(netlink, "pyc0123456789ab", "pyct0", network.index, 1400, mac, netns))
    link = journal.perform(operations.FindLink(netlink, "eth0", "its index"))
    journal.perform(operations.AddAddress(netlink, netns, link.index, bytes([192, 0, 2, 9]), 24))
    journal.perform(operations.SetLinkUp(netlink, netns, link.index, "eth0", "packets can pass"))
    journal.perform(operations.AddDefaultRoute(netlink, netns, bytes([192, 0, 2, 1])))
    journal.perform(operations.DeleteLink(netlink, "pyc0123456789ab", "done"))
"""


def tokens(line: str) -> tuple[str, str, tuple[str, ...]]:
    """Type, flags, and names and addresses of one message, as either side writes it."""
    # strace shows the inside of IFLA_INFO_DATA as bytes; the unit tests know them.
    line = re.sub(r"IFLA_INFO_DATA.*", "", line)
    kind = re.search(r"nlmsg_type=([^,}]+)", line)
    flags = re.search(r"nlmsg_flags=([^,}]+)", line)
    assert kind and flags, line
    # nf_tables attributes are bytes for strace, too.
    detail = () if "NFT" in kind[1] else re.findall(r'"([^"]+)"|IFLA_MTU\D+(\d+)|(ifi_flags=IFF_UP)', line)
    return kind[1], flags[1], tuple(sorted("".join(found) for found in detail))


def test_explanation_agrees_with_strace(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    explained = subprocess.run(
        ["unshare", "--net", "strace", "-s", "200", "-e", "trace=sendto", "-o", trace, sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    # A long call goes on in lines that are indented further.
    explained = re.sub(r"\n {8}(?! )", " ", explained)
    said = [tokens(line) for line in explained.splitlines() if line.strip().startswith("sendto(")]
    # The index in place of its link's name, because strace looks the name up when it prints.
    lines = [re.sub(r'if_nametoindex\("[^"]*"\)', "0", line) for line in trace.read_text().splitlines()]
    seen = [tokens(line) for line in lines if "nlmsg_type=" in line]
    assert len(said) > 15
    assert said == seen
