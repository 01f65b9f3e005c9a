"""Each look of docs/glossary.md shows something: those that need a controller of cgroup v2."""

from __future__ import annotations

import pathlib

from conftest import Pycontainer
from glossary import look_at, looks


def test_looks(busybox: str, pycontainer: Pycontainer, programs: pathlib.Path) -> None:
    found = looks(need_controller=True)
    assert len(found) == 7
    options = {"-p 80 --network-rate 10mbit": "--network none -m 64m --cpus 1 --pids-limit 100"}
    look_at(found, options, pycontainer, programs)
