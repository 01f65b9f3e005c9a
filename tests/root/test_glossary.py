"""Each look of docs/glossary.md shows something: those that need no controller of cgroup v2."""

from __future__ import annotations

import pathlib

from conftest import Pycontainer
from glossary import look_at, looks


def test_looks(busybox: str, pycontainer: Pycontainer, programs: pathlib.Path) -> None:
    found = looks(need_controller=False)
    assert len(found) >= 50
    look_at(found, {}, pycontainer, programs)
