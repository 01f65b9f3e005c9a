"""What is read of a container's cgroup, and what of it is kept."""

from __future__ import annotations

import os
import pathlib

import pytest

from pycontainer.engine import evidence
from pycontainer.engine.settings import Settings

ID = "a" * 64
FILES = {
    "memory.max": "67108864\n",
    "memory.high": "max\n",
    "memory.peak": "67108864\n",
    "memory.events": "low 0\nhigh 0\nmax 23\noom 1\noom_kill 2\noom_group_kill 0\nnew_one 5\n",
    "memory.stat": "anon 1000\nfile 2000\nkernel 3\nshmem 0\nslab 1\nsock 7\n",
    "pids.max": "20\n",
    "pids.events": "max 3\n",
    "cpu.stat": "usage_usec 5000\nuser_usec 1\nnr_periods 10\nnr_throttled 4\nthrottled_usec 700\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 total=500000\n",
}


@pytest.fixture
def cgroup(tmp_path: pathlib.Path) -> pathlib.Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def settings(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PYCONTAINER_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("PYCONTAINER_STATE", str(tmp_path / "state"))
    made = Settings()
    os.makedirs(made.container_directory(ID))
    return made


def test_what_is_gathered(cgroup: pathlib.Path) -> None:
    found = evidence.gather(str(cgroup), "/x/y")
    assert (found["limit"], found["high"], found["peak"], found["pids_limit"]) == (64 << 20, None, 64 << 20, 20)
    assert found["events"] == {"low": 0, "high": 0, "max": 23, "oom": 1, "oom_kill": 2, "oom_group_kill": 0}
    assert found["usage"] == {"anon": 1000, "file": 2000, "shmem": 0, "kernel": 3, "slab": 1}
    assert found["pressure"] == {"memory": {"some": 1.5, "full": 0.5}}
    assert found["kills"] == [] and "swap_peak" not in found
    assert evidence.oom_kills(found) == 2


def test_a_cgroup_that_has_gone(tmp_path: pathlib.Path) -> None:
    found = evidence.gather(str(tmp_path / "nope"), "/x/y")
    assert found == {"pressure": {}, "kills": []}
    assert evidence.oom_kills(found) == 0


def test_kills_of_one_run_come_together(settings: Settings) -> None:
    evidence.store(settings, ID, {"kills": [{"pid": 1}]})
    evidence.store(settings, ID, {"kills": [{"pid": 2}]})
    evidence.store(settings, ID, {"kills": [{"pid": 3}], "ended_by": 9, "events": {"oom_kill": 3}})
    found = evidence.load(settings, ID)
    assert [kill["pid"] for kill in found["kills"]] == [1, 2, 3]
    # What comes now is of the next run.
    evidence.store(settings, ID, {"kills": [{"pid": 4}]})
    assert evidence.load(settings, ID) == {"kills": [{"pid": 4}]}
    evidence.forget(settings, ID)
    assert evidence.load(settings, ID) == {}


def test_where_nothing_can_be_kept(settings: Settings) -> None:
    path = pathlib.Path(settings.container_directory(ID), "evidence.json.new")
    path.mkdir()
    evidence.store(settings, ID, {"kills": []})
    assert evidence.load(settings, ID) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_evidence(settings: Settings, text: str) -> None:
    pathlib.Path(settings.container_directory(ID), "evidence.json").write_text(text)
    assert evidence.load(settings, ID) == {}
