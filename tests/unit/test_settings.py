"""Where an installation's things are."""

from __future__ import annotations

import pytest

from pycontainer.engine.settings import Settings


def cgroup(monkeypatch: pytest.MonkeyPatch, state: str) -> str:
    monkeypatch.setenv("PYCONTAINER_STATE", state)
    return Settings().cgroup("ID")


def test_a_cgroup_is_one_installations(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cgroup(monkeypatch, "/run/pycontainer") == "/pycontainer/ID"
    assert cgroup(monkeypatch, "/run/other/") == "/other/ID"
    # What the directories are called says nothing where they are not in /run.
    found = {cgroup(monkeypatch, state) for state in ("/a/state", "/b/state", "/run/a/state", "/run/state")}
    assert len(found) == 4
    assert Settings().cgroup("ID", "/batch".strip("/")) == "/batch/ID"
