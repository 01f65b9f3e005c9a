"""SIGKILL of anybody at any moment, five containers at a time: the next ordinary command leaves nothing to be found."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import threading
import time

import pytest
from conftest import Pycontainer, lock_holder, wait_until
from leftovers import Leftovers

from pycontainer import json_text

SEED = int(os.environ.get("PYCONTAINER_TEST_SEED", "20261124"))
# PYCONTAINER_TEST_KILLS=500 is a storm; as many as here are what a run of all tests has time for.
AT_ONCE = 5
BATCHES = int(os.environ.get("PYCONTAINER_TEST_KILLS", "60")) // AT_ONCE
# Writes a number to its own file system, and only then says so.
COUNT = "i=0; while :; do i=$((i+1)); echo $i >> /data; echo $i; usleep 2000; done"
VICTIMS = ["client", "monitor", "init", "exec client", "exec session", "launcher"]


class Attempt(threading.Thread):
    """One container of a batch: started, perhaps joined, and somebody is killed."""

    def __init__(self, pycontainer: Pycontainer, number: int) -> None:
        super().__init__()
        self.pycontainer = pycontainer
        self.name_ = f"kill{number}"
        generator = random.Random(f"{SEED} {number}")
        self.victim = generator.choice(VICTIMS)
        # Before it runs, or while it does.
        self.early = generator.random() < 0.5 and self.victim in ("client", "monitor", "launcher")
        self.delay = generator.uniform(0, 0.1)
        self.failure: BaseException | None = None

    def row(self) -> tuple[str, str, int, int, str] | None:
        """id, status, exit status, pid, error."""
        connection = sqlite3.connect(self.pycontainer.root / "db.sqlite", timeout=30)
        try:
            query = "SELECT id, status, exit_status, pid, error FROM containers WHERE name=?"
            found: tuple[str, str, int, int, str] | None = connection.execute(query, (self.name_,)).fetchone()
            return found
        finally:
            connection.close()

    def run(self) -> None:
        try:
            self.try_it()
        except BaseException as error:
            self.failure = error

    def try_it(self) -> None:
        arguments = ["run", "-d", "--name", self.name_, "--network", "none", "busybox", "sh", "-c", COUNT]
        client = self.pycontainer.popen(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if self.early:
            time.sleep(self.delay)
            row = self.row()
            self.kill(client.pid, row[0] if row else "")
            client.communicate(timeout=60)
            return
        complaint = client.communicate(timeout=60)[1].decode()
        assert client.returncode == 0, complaint
        row = self.row()
        joined = None
        if self.victim.startswith("exec"):
            joined = self.pycontainer.popen(
                "exec", self.name_, "sleep", "1000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        time.sleep(self.delay)
        self.kill(joined.pid if joined else client.pid, row[0] if row else "")
        if joined:
            joined.kill()
            joined.wait()

    def kill(self, client: int, container_id: str) -> None:
        if self.victim in ("client", "exec client"):
            pid = client
        elif self.victim == "monitor":
            pid = lock_holder(self.pycontainer.state / "containers" / container_id) if container_id else 0
        elif self.victim == "init":
            row = self.row()
            pid = row[3] if row else 0
        elif self.victim == "launcher":
            pid = lock_holder(self.pycontainer.state / "launcher.lock")
        else:
            pid = exec_session(lock_holder(self.pycontainer.state / "launcher.lock"))
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def check(self) -> None:
        """Its state is the truth, and nothing that it had written is gone."""
        if self.failure is not None:
            raise self.failure
        row = self.row()
        what = f"{self.name_}, {self.victim} killed {'while it started' if self.early else ''}: {row}"
        if row is None:
            assert self.early, what
            return
        container_id, status, exit_status, _, error = row
        if self.victim in ("monitor", "init"):
            assert status in ("exited", "running" if self.early else "exited"), what
        elif not self.early:
            assert status == "running", what
        if status == "exited" and not self.early:
            assert exit_status == 137, what
            assert ("was killed" in error) == (self.victim == "monitor"), what
        directory = self.pycontainer.root / "containers" / container_id
        said = b"".join(path.read_bytes() for path in directory.glob("log")).splitlines()
        numbers = [json_text.loads(line.decode())["log"].split() for line in said if line.endswith(b"}")]
        if numbers and numbers[-1]:
            written = (directory / "upper/data").read_text().split()
            assert written[: int(numbers[-1][-1])] == [str(n + 1) for n in range(int(numbers[-1][-1]))], what


def exec_session(launcher: int) -> int:
    """A process of the launcher's that serves an `exec`, 0 where there is none."""
    try:
        children = pathlib.Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    except OSError:
        return 0
    for pid in children:
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text() == "pyc-exec\n":
                return int(pid)
        except OSError:
            continue
    return 0


@pytest.mark.parametrize("part", range(4))
def test_sigkill_of_anybody(pycontainer: Pycontainer, busybox: str, part: int) -> None:
    leftovers = Leftovers(pycontainer.environment)
    for batch in range(BATCHES * part // 4, BATCHES * (part + 1) // 4):
        attempts = [Attempt(pycontainer, batch * AT_ONCE + number) for number in range(AT_ONCE)]
        for attempt in attempts:
            attempt.start()
        for attempt in attempts:
            attempt.join()
        # Whoever is still at work for a client that was killed comes to an end, or has a container that runs.
        wait_until(
            lambda attempts=attempts: all(map(settled, attempts)),  # type: ignore[misc]
            message=f"batch {batch} did not settle",
        )
        pycontainer("ps", check=True)
        doctor = pycontainer("doctor")
        assert (doctor.returncode, doctor.stdout) == (0, "Nothing is left behind.\n"), doctor.stdout + doctor.stderr
        for attempt in attempts:
            attempt.check()
        names = pycontainer("ps", "-aq", check=True).stdout.split()
        if names:
            pycontainer("rm", "-f", *names, check=True)
        left = leftovers.found()
        assert not left, f"batch {batch}: {left}"


def settled(attempt: Attempt) -> bool:
    row = attempt.row()
    return row is None or row[1] != "starting" or not lock_holder(attempt.pycontainer.state / "containers" / row[0])
