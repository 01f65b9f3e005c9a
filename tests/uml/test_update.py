"""`update`: other limits for containers that run, and for their next start."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, wait_until
from test_limits import CGROUPS, DISK, NUMBER, running

M = 1 << 20

# One after another to one container that began with -m 64m: what is asked of it, and the files that then say so.
# Several at once, because a command takes most of a second here; and some alone, for what is not asked for stays.
TABLE: list[tuple[list[str], dict[str, str]]] = [
    (["--pids-limit", "20"], {"memory.max": str(64 * M), "pids.max": "20"}),
    (["-m", "96m"], {"pids.max": "20", "memory.max": str(96 * M), "memory.swap.max": "0"}),
    (
        ["--memory-swap", "112m", "--memory-reservation", "32m", "--memory-high", "48m", "--oom-group"],
        {
            "memory.swap.max": str(16 * M), "memory.low": str(32 * M), "memory.high": str(48 * M),
            "memory.oom.group": "1", "memory.max": str(96 * M),
        },
    ),
    (
        ["--memory-swap", "-1", "--memory-reservation", "0", "--memory-high", "0", "--oom-group=false"],
        {"memory.swap.max": "max", "memory.low": "0", "memory.high": "max", "memory.oom.group": "0"},
    ),
    (["-m", "0", "--cpus", "0.5"], {"memory.max": "max", "cpu.max": "50000 100000"}),
    (
        ["--cpus", "0", "--cpu-quota", "3000", "--cpu-period", "9000", "--cpu-shares", "512"],
        {"cpu.max": "3000 9000", "cpu.weight": "20"},
    ),
    (["--cpu-period", "8000"], {"cpu.max": "3000 8000", "cpu.weight": "20"}),
    (
        ["--cpu-quota", "-1", "--cpu-shares", "0", "--pids-limit", "-1"],
        {"cpu.max": "max 100000", "cpu.weight": "100", "pids.max": "max"},
    ),
    (["--device-read-bps", f"{DISK}:1m"], {"io.max": f"{NUMBER} rbps=1048576 wbps=max riops=max wiops=max"}),
    (["--device-write-iops", f"{DISK}:9"], {"io.max": f"{NUMBER} rbps=1048576 wbps=max riops=max wiops=9"}),
    (["--device-read-bps", f"{DISK}:0"], {"io.max": f"{NUMBER} rbps=max wbps=max riops=max wiops=9"}),
    (["--device-write-iops", f"{DISK}:0"], {"io.max": ""}),
]  # fmt: skip


def test_each_flag_is_in_its_file_while_it_runs(box: Pycontainer, sleeper: pathlib.Path) -> None:
    wrong = []
    for change, expected in TABLE:
        result = box("update", *change, "sleeper")
        found = {file: (sleeper / file).read_text().strip() for file in expected}
        if (result.returncode, result.stdout, found) != (0, "sleeper\n", expected):
            wrong.append((change, found, expected, result.stderr))
    assert not wrong


def identity(box: Pycontainer, name: str) -> str:
    return box("inspect", "-f", "{{.Id}}", name, check=True).stdout.strip()


def host_config(box: Pycontainer, name: str) -> dict:
    return json.loads(box("inspect", name, check=True).stdout)[0]["HostConfig"]


@pytest.fixture
def sleeper(box: Pycontainer) -> Iterator[pathlib.Path]:
    """A container with limits, in the background; its cgroup."""
    flags = ["-m", "64m", "--pids-limit", "20"]
    box("run", "-d", "--name", "sleeper", "--network", "none", *flags, "busybox", "sleep", "600", check=True)
    yield CGROUPS / box.state.name / identity(box, "sleeper")
    box("rm", "-f", "sleeper", check=True)


def test_it_is_kept(box: Pycontainer, sleeper: pathlib.Path) -> None:
    change = ["-m", "96m", "--cpu-shares", "512", "--device-write-bps", f"{DISK}:1m"]
    box("update", *change, "--restart", "on-failure:3", "sleeper", check=True)
    found = host_config(box, "sleeper")
    assert (found["Memory"], found["MemorySwap"], found["CpuShares"]) == (96 * M, 96 * M, 512)
    assert found["BlkioDeviceWriteBps"] == [{"Path": DISK, "Rate": M}]
    assert found["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    box("restart", "-t", "0", "sleeper", check=True)
    wait_until(sleeper.exists)
    assert (sleeper / "memory.max").read_text() == f"{96 * M}\n"
    assert (sleeper / "pids.max").read_text() == "20\n"
    box("stop", "-t", "0", "sleeper", check=True)
    box("update", "-m", "128m", "sleeper", check=True)
    box("start", "sleeper", check=True)
    assert (sleeper / "memory.max").read_text() == f"{128 * M}\n"


def test_a_failure_half_way_leaves_what_was(box: Pycontainer, sleeper: pathlib.Path) -> None:
    # The kernel refuses more processes than it can number, and memory.max and memory.high have been written by then.
    result = box("update", "-m", "96m", "--memory-high", "48m", "--pids-limit", "99999999", "sleeper")
    assert result.returncode == 1
    assert "pids.max" in result.stderr
    found = {name: (sleeper / name).read_text() for name in ("memory.max", "memory.high", "pids.max")}
    assert found == {"memory.max": f"{64 * M}\n", "memory.high": "max\n", "pids.max": "20\n"}
    assert host_config(box, "sleeper")["Memory"] == 64 * M


def test_a_limit_below_what_is_in_use(box: Pycontainer) -> None:
    hog = "sleep 600 & x=$(head -c 12000000 /dev/zero | tr '\\0' x); wait"
    with running(box, "--name", "hog", "busybox", "sh", "-c", hog) as cgroup:
        wait_until(lambda: int((cgroup / "memory.current").read_text()) > 11 * M)
        result = box("update", "--pids-limit", "1", "--memory-high", "10m", "hog")
        assert result.returncode == 0
        assert "more than 1: none ends" in result.stderr
        assert "slowed down" in result.stderr
        assert (cgroup / "cgroup.procs").read_text(), "nothing was killed"
        result = box("update", "--memory-high", "0", "-m", "6m", "hog")
        assert (result.returncode, result.stdout) == (0, "hog\n")
        assert f"more than {6 * M}: the kernel takes back what it can, then kills" in result.stderr
        wait_until(lambda: not cgroup.exists())


def test_nonsense_changes_nothing(box: Pycontainer, sleeper: pathlib.Path) -> None:
    for change in (["-m", "1m"], ["--memory-swap", "32m"], ["--cpus", "1000"], ["--device-read-bps", "x:1"], []):
        result = box("update", *change, "sleeper")
        assert result.returncode != 0
        assert "hint:" in result.stderr, change
    assert (sleeper / "memory.max").read_text() == f"{64 * M}\n"
