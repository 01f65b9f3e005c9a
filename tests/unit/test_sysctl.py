"""linux.sysctl: only what belongs to a namespace that the container has of its own."""

from __future__ import annotations

import pytest

from pycontainer.errors import UsageError
from pycontainer.kernel.namespace import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS
from pycontainer.runtime import sysctl

ALL = dict.fromkeys((CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUSER), "")


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward", CLONE_NEWNET),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward", CLONE_NEWNET),
        ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding", CLONE_NEWNET),
        ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding", CLONE_NEWNET),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max", CLONE_NEWIPC),
        ("kernel.shmmax", "kernel/shmmax", CLONE_NEWIPC),
        ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced", CLONE_NEWIPC),
        ("kernel.msgmni", "kernel/msgmni", CLONE_NEWIPC),
        ("kernel.sem", "kernel/sem", CLONE_NEWIPC),
        ("kernel.domainname", "kernel/domainname", CLONE_NEWUTS),
    ],
)
def test_a_parameter_needs_its_namespace(name: str, path: str, kind: int) -> None:
    assert sysctl.parse({name: "1"}, {kind: ""}) == {f"/proc/sys/{path}": "1"}
    others = {other: "" for other in ALL if other != kind}
    with pytest.raises(UsageError, match=r"linux\.sysctl.*namespace is the host's"):
        sysctl.parse({name: "1"}, others)


@pytest.mark.parametrize(
    "name",
    [
        "vm.swappiness", "kernel.hostname", "kernel.panic", "kernel.pid_max", "kernel.shm", "kernel.shmmax.x",
        "fs.file-max", "fs.mqueue", "user.max_user_namespaces", "net", "network.x", "netx", "", ".", "/", "..",
        "net...vm.swappiness", "net/../vm/swappiness", "net.//.vm.swappiness", "net/./x", "/net/ipv4/ip_forward",
        "net.ipv4.", "kernel/hostname", "fs/mqueue/../file-max",
    ],
)  # fmt: skip
def test_what_is_the_machines_is_refused_whatever_namespaces_there_are(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        sysctl.parse({name: "1"}, ALL)
    assert (caught.value.step, caught.value.path) == ("read config.json", f"linux.sysctl.{name}")


def test_a_joined_namespace_is_the_containers_own_unless_it_is_ours() -> None:
    with pytest.raises(UsageError, match="the network namespace is the host's"):
        sysctl.parse({"net.ipv4.ip_forward": "1"}, {CLONE_NEWNET: "/proc/self/ns/net"})
    other = "/proc/self/ns/uts"
    assert sysctl.parse({"net.ipv4.ip_forward": "1"}, {CLONE_NEWNET: other}) == {"/proc/sys/net/ipv4/ip_forward": "1"}
