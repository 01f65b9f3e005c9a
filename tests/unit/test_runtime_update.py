"""What `pycontainer-runtime update` writes, into a cgroup made of plain files."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from pycontainer.errors import Conflict, HostError, StepFailed, UsageError
from pycontainer.kernel import cgroup, process
from pycontainer.runtime import limits, main, resources, update
from pycontainer.runtime.state import State

M = 1 << 20

FILES = {
    "cgroup.controllers": "cpu cpuset io memory pids\n",
    "cpu.idle": "1\n",
    "cpu.max": "max 100000\n",
    "cpu.max.burst": "0\n",
    "cpu.weight": "100\n",
    "cpuset.cpus": "\n",
    "io.max": "8:1 rbps=1 wbps=1 riops=max wiops=max\n8:0 rbps=max wbps=7 riops=max wiops=max\n",
    "io.weight": "default 100\n8:0 300\n",
    "memory.low": "0\n",
    "memory.max": f"{64 * M}\n",
    "memory.swap.max": "0\n",
    "pids.max": "20\n",
}


@pytest.fixture
def container(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """One that runs, with memory for 64m, no swap, 20 processes."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    hierarchy = cgroup.Hierarchy(str(tmp_path), frozenset(FILES["cgroup.controllers"].split()), {})
    monkeypatch.setattr(cgroup, "find_hierarchy", lambda: hierarchy)
    # Because this file system, unlike the kernel's, keeps what a shorter text does not cover.
    monkeypatch.setattr(cgroup, "write", lambda path, data: pathlib.Path(path).write_text(data))
    found = State(str(tmp_path), os.getpid(), process.read_stat(os.getpid())[1], "", {})
    found.cgroup = str(tmp_path)
    return found


def changed(container: State) -> dict[str, str]:
    """The files that say something else now."""
    texts = {name: (pathlib.Path(container.cgroup) / name).read_text() for name in FILES}
    return {name: text for name, text in texts.items() if text.strip() != FILES[name].strip()}


TABLE: dict[str, tuple[list[str], dict[str, str]]] = {
    "nothing": ([], {}),
    "memory": (["--memory", "96m"], {"memory.max": str(96 * M)}),
    "a fraction": (["--memory=0.5g"], {"memory.max": str(512 * M)}),
    "bytes": (["--memory", "1048576"], {"memory.max": str(M)}),
    "no limit has none of swap either": (["--memory", "-1"], {"memory.max": "max", "memory.swap.max": "max"}),
    "reservation": (["--memory-reservation", "8MiB"], {"memory.low": str(8 * M)}),
    "swap beside the memory that it has": (["--memory-swap", "80m"], {"memory.swap.max": str(16 * M)}),
    "both": (["--memory-swap", "96m", "--memory", "32m"], {"memory.max": str(32 * M), "memory.swap.max": str(64 * M)}),
    "swap without limit": (["--memory-swap", "-1"], {"memory.swap.max": "max"}),
    "quota": (["--cpu-quota", "5000"], {"cpu.max": "5000 100000"}),
    "period": (["--cpu-period", "5000"], {"cpu.max": "max 5000"}),
    "no quota": (["--cpu-quota", "-1"], {}),
    "burst": (["--cpu-burst", "5"], {"cpu.max.burst": "5"}),
    "share": (["--cpu-share", "512"], {"cpu.weight": "20"}),
    "idle": (["--cpu-idle", "0"], {"cpu.idle": "0"}),
    "processors": (["--cpuset-cpus", "0-1"], {"cpuset.cpus": "0-1"}),
    "processes": (["--pids-limit", "5"], {"pids.max": "5"}),
    "any number of processes": (["--pids-limit", "-1"], {"pids.max": "max"}),
    "zero changes nothing": (["--pids-limit", "0", "--memory", "0", "--blkio-weight", "0", "--cpu-share", "0"], {}),
    "weight": (["--blkio-weight", "1000"], {"io.weight": "default 10000"}),
    "no memory nodes": (["--cpuset-mems", ""], {}),
}


def choose(*words: str) -> dict[str, Any]:
    options, operands = main._parse([*words], "update")
    assert not operands
    return update.choose(options)


@pytest.mark.parametrize(("words", "expected"), TABLE.values(), ids=TABLE)
def test_an_option_is_in_its_file(container: State, words: list[str], expected: dict[str, str]) -> None:
    update.update(container, choose(*words))
    assert changed(container) == expected


def test_each_option_has_a_place() -> None:
    for name, _ in main._OPTIONS["update"].values():
        assert name in (*update._PLACES, "resources", "help")


def test_a_quota_and_a_period_are_changed_apart(container: State) -> None:
    update.update(container, choose("--cpu-quota", "3000", "--cpu-period", "9000"))
    update.update(container, choose("--cpu-period", "8000"))
    assert changed(container) == {"cpu.max": "3000 8000"}
    update.update(container, choose("--cpu-quota", "4000"))
    assert changed(container) == {"cpu.max": "4000 8000"}
    update.update(container, choose("--cpu-period", "0"))
    assert changed(container) == {"cpu.max": "4000 100000"}


def test_a_file_says_it_as_config_json_does(container: State, tmp_path: pathlib.Path) -> None:
    device = {"major": 8, "minor": 0}
    asked = {
        "memory": {"limit": 32 * M, "swap": None},
        "pids": {"limit": -1},
        "blockIO": {"throttleWriteBpsDevice": [{**device, "rate": 0}]},
        "unified": {"cpu.weight": "7"},
        "devices": [{"allow": False}],
    }
    (tmp_path / "asked").write_text(json.dumps(asked))
    update.update(container, choose("-r", str(tmp_path / "asked"), "--pids-limit", "7"))
    expected = {"memory.max": str(32 * M), "pids.max": "max", "io.max": "8:0 wbps=max", "cpu.weight": "7"}
    assert changed(container) == expected


def test_what_no_file_limits_needs_no_controller(container: State) -> None:
    (pathlib.Path(container.cgroup) / "cgroup.controllers").write_text("memory\n")
    (pathlib.Path(container.cgroup) / "cpu.max").unlink()
    update.update(container, {"cpu": {"quota": -1}, "memory": {"limit": 32 * M}})
    assert (pathlib.Path(container.cgroup) / "memory.max").read_text() == str(32 * M)
    with pytest.raises(HostError, match="the cpu controller"):
        update.update(container, {"cpu": {"quota": 5}})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--memory", "much"], "--memory much: not a size"),
        (["--memory", ""], "--memory : not a size"),
        (["--pids-limit", "1k"], "--pids-limit 1k: not a whole number"),
        (["--memory-swap", "32m"], "memory.swap: is memory plus swap"),
        (["--blkio-weight", "5"], "blockIO.weight: must be 10 to 1000"),
        (["--cpuset-cpus", "all"], "cpu.cpus: must be a list"),
        (["--cpu-rt-runtime", "5"], "cpu.realtimeRuntime: cgroup v2 does not control"),
        (["-r", "/no/such"], "read --resources: /no/such: no such file"),
        (["-r", "/proc/self/stat"], "read --resources: /proc/self/stat: not JSON"),
    ],
)
def test_what_is_wrong_changes_nothing(container: State, words: list[str], message: str) -> None:
    with pytest.raises((UsageError, HostError)) as caught:
        update.update(container, choose(*words))
    assert message in str(caught.value)
    assert not changed(container)


def test_what_fails_half_way_is_set_back(container: State, monkeypatch: pytest.MonkeyPatch) -> None:
    write = cgroup.write

    def refuse(path: str, data: str) -> None:
        if path.endswith("pids.max") and data == "7":
            raise OSError(22, "invalid argument", path)
        write(path, data)

    monkeypatch.setattr(cgroup, "write", refuse)
    options = ["--memory", "32m", "--cpuset-cpus", "0", "--memory-reservation", "8m", "--pids-limit", "7"]
    with pytest.raises(StepFailed):
        update.update(container, choose(*options))
    assert not changed(container)


def test_rates_are_read_by_device(container: State) -> None:
    rate = {"major": 8, "minor": 0, "rate": 5}
    (limit,) = resources.asked({"blockIO": {"throttleWriteBpsDevice": [rate]}})
    assert limits.now(container.cgroup, limit).value == "8:0 wbps=7"


def test_one_that_has_ended_is_refused(container: State) -> None:
    container.start_time += 1
    with pytest.raises(Conflict, match="container not running"):
        update.update(container, choose("--pids-limit", "5"))
    assert not changed(container)
