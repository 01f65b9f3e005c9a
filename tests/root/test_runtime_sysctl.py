"""`linux.sysctl` through the runtime: the machine's own parameters are never written."""

from __future__ import annotations

import os
import pathlib

import pytest
from test_runtime import Runtime, rootfs, runtime  # noqa: F401


def host_value(name: str) -> str:
    return pathlib.Path("/proc/sys", *name.split(".")).read_text().strip()


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("vm.swappiness", ""),
        ("kernel.hostname", ""),
        ("kernel.domainname", "uts"),
        ("fs.mqueue.msg_max", "ipc"),
        ("net.ipv4.ping_group_range", "network"),
    ],
)
def test_the_hosts_value_stays(runtime: Runtime, name: str, missing: str) -> None:  # noqa: F811
    if not os.path.exists("/proc/sys/" + name.replace(".", "/")):
        pytest.skip(f"this kernel has no {name}")
    before = host_value(name)
    linux = runtime.config["linux"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != missing]
    # The host's own value, so that nothing changes where this test fails.
    linux["sysctl"] = {name: before}
    runtime.write("true")
    assert f"linux.sysctl.{name}" in runtime.run(status=1)
    assert host_value(name) == before


def test_the_containers_value_is_set(runtime: Runtime) -> None:  # noqa: F811
    host = host_value("kernel.shmmni")
    wanted = str(int(host) // 2)
    runtime.config["linux"]["sysctl"] = {"kernel.shmmni": wanted, "net/ipv4/conf/lo/forwarding": "1"}
    runtime.write("cat", "/proc/sys/kernel/shmmni", "/proc/sys/net/ipv4/conf/lo/forwarding")
    assert runtime.run().split() == [wanted, "1"]
    assert host_value("kernel.shmmni") == host
