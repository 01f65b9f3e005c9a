"""The processes that the launcher has waiting for the next client: whichever is killed, the next command works."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest
from conftest import Pycontainer, lock_holder, wait_until


def spare(box: Pycontainer) -> list[int]:
    """The process that becomes a monitor, its child, and that one's, which holds a user namespace."""
    found = [lock_holder(box.state / "launcher.lock")]
    for pid in found:
        try:
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found += [
                int(child) for child in children if pathlib.Path(f"/proc/{child}/comm").read_text() == "pyc-spare\n"
            ]
        except FileNotFoundError:
            # It has ended since.
            continue
    return found[1:]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_of_them_may_be_killed(box: Pycontainer, which: int) -> None:
    run = ("run", "--rm", "--network", "none", "busybox", "cat", "/proc/self/uid_map")
    box(*run, check=True)
    wait_until(lambda: len(spare(box)) == 3)
    os.kill(spare(box)[which], signal.SIGKILL)
    maps = {box(*run, check=True).stdout.split()[1] for _ in range(3)}
    assert "0" not in maps
    wait_until(lambda: len(spare(box)) == 3)
