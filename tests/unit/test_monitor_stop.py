"""A monitor that cannot record what it is told to do, because the disk is full, does it all the same."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pycontainer.kernel import signals
from pycontainer.monitor.monitor import Monitor, Recorder


class FullDisk(Recorder):
    def stopped(self) -> None:
        raise OSError(errno.ENOSPC, "database or disk is full")

    def signalled(self, number: int) -> None:
        self.stopped()


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def monitor(program: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> Monitor:
    # Because the signals that it would take are the tests'.
    monkeypatch.setattr(signals, "report_to", lambda *_: None)
    found = Monitor("c" * 64, FullDisk())
    pidfd = os.pidfd_open(program.pid)
    run: Any = SimpleNamespace(pidfd=pidfd, cgroup="", stop_signal=signals.SIGTERM, stop_timeout=-1)
    found._run = run
    return found


@pytest.mark.parametrize(
    ("request_", "number"),
    [(("kill", {"number": 9}), 9), (("kill", {"number": 15}), 15), (("kill", {"number": 10}), 10), (("stop", {}), 15)],
)
def test_it_is_ended_and_the_failure_told(
    monitor: Monitor, program: subprocess.Popen[bytes], request_: tuple[str, dict[str, Any]], number: int
) -> None:
    with pytest.raises(OSError, match="disk is full"):
        monitor._obey(*request_)
    # SIGKILL, because nothing handles the signal: deliver.py.
    assert program.wait(30) == -signals.SIGKILL
    assert monitor.sent == [(number, request_[0])]
    # What ends it begins no more; another signal is the program's own business.
    assert monitor.is_stopping == (number != 10)
