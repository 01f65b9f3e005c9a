"""Limits of a cgroup that has some already."""

from __future__ import annotations

import errno
import pathlib
from typing import Any

import pytest

from pycontainer.errors import HostError, StepFailed
from pycontainer.kernel import cgroup
from pycontainer.runtime import limits, resources

M = 1 << 20


def table(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    found = resources.changes(resources.limits(before), resources.limits(after))
    assert len({(limit.file, limit.value.rpartition("=")[0]) for limit in found}) == len(found), "each file once"
    return {f"{limit.file} {limit.value.rpartition('=')[0]}".strip(): limit.value for limit in found}


def rate(number: int) -> dict[str, Any]:
    return {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": number}]}}


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "nothing": ({}, {}, {}),
    "new": ({}, {"pids": {"limit": 5}}, {"pids.max": "5"}),
    "other": ({"pids": {"limit": 5}}, {"pids": {"limit": 6}}, {"pids.max": "6"}),
    "the same": ({"pids": {"limit": 5}}, {"pids": {"limit": 5}}, {"pids.max": "5"}),
    "gone": ({"pids": {"limit": 5}}, {}, {"pids.max": "max"}),
    "memory": (
        {"memory": {"limit": M, "swap": M, "reservation": M}},
        {},
        {"memory.max": "max", "memory.swap.max": "max", "memory.low": "0"},
    ),
    "processor": (
        {"cpu": {"shares": 5, "quota": 5, "cpus": "0", "mems": "0", "idle": 1, "burst": 1}},
        {},
        {"cpu.weight": "100", "cpu.max": "max 100000", "cpuset.cpus": "\n", "cpuset.mems": "\n", "cpu.idle": "0",
         "cpu.max.burst": "0"},
    ),
    "weight": ({"blockIO": {"weight": 300}}, {}, {"io.weight": "default 100"}),
    "unified": (
        {"unified": {"memory.high": "5", "memory.oom.group": "1"}},
        {"unified": {"memory.high": "6"}},
        {"memory.high": "6", "memory.oom.group": "0"},
    ),
    "rate": (rate(5), {}, {"io.max 8:0 rbps": "8:0 rbps=max"}),
    "other rate": (rate(5), rate(6), {"io.max 8:0 rbps": "8:0 rbps=6"}),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES.values(), ids=CHANGES)
def test_changes(before: dict[str, Any], after: dict[str, Any], expected: dict[str, str]) -> None:
    assert table(before, after) == expected


class Files:
    """The files of a cgroup, in memory; those of `broken` cannot be written."""

    def __init__(self, broken: tuple[str, ...]) -> None:
        self.texts: dict[str, str] = {}
        self.broken = broken

    def write(self, path: str, data: str) -> None:
        name = path.rpartition("/")[2]
        if name in self.broken:
            raise OSError(errno.EINVAL, "invalid argument", path)
        self.texts[name] = data


def change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, files: Files, before: dict[str, Any], after: dict[str, Any]
) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    (tmp_path / "memory.swap.max").touch()
    hierarchy = cgroup.Hierarchy(str(tmp_path), frozenset(("cpu", "memory", "pids")), {"io": "/v1"})
    monkeypatch.setattr(cgroup, "find_hierarchy", lambda: hierarchy)
    monkeypatch.setattr(cgroup, "write", files.write)
    limits.change(str(tmp_path), resources.limits(before), resources.limits(after))


def test_what_fails_half_way_is_set_back(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    files = Files(broken=("cpu.weight",))
    with pytest.raises(StepFailed) as caught:
        before = {"memory": {"limit": 64 * M}}
        after = {"memory": {"limit": 32 * M, "reservation": M}, "cpu": {"shares": 5}}
        change(monkeypatch, tmp_path, files, before, after)
    assert caught.value.path.endswith("cpu.weight")
    assert files.texts == {"memory.max": str(64 * M), "memory.low": "0"}


def test_what_cannot_be_set_back_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    files = Files(broken=("cpu.weight",))
    with pytest.raises(StepFailed) as caught:
        change(monkeypatch, tmp_path, files, {"cpu": {"shares": 9}}, {"unified": {}, "cpu": {"shares": 5}})
    assert len(caught.value.__notes__) == 1
    assert "cpu.weight" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("after", "controller"), [({"pids": {"limit": 5}}, "pids"), ({"blockIO": {"weight": 300}}, "io")]
)
def test_what_has_no_controller_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, after: dict[str, Any], controller: str
) -> None:
    files = Files(broken=())
    with pytest.raises(HostError, match=f"the {controller} controller"):
        change(monkeypatch, tmp_path, files, {}, {"memory": {"limit": 64 * M}, **after})
    assert not files.texts
