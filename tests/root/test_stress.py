"""Many containers, one after another and at once: all succeed, and the machine is as it was before."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, Pycontainer, wait_until
from leftovers import Leftovers, network_namespaces

# PYCONTAINER_TEST_RUNS=100 is a storm. What every run leaves is found by more than SLACK of them.
RUNS = int(os.environ.get("PYCONTAINER_TEST_RUNS", "40"))
SLACK = 20  # keys that others on this machine may make meanwhile
SEED = int(os.environ.get("PYCONTAINER_TEST_SEED", "20261122"))

# As install.sh starts it: isolated and without `site`, which saves a third of the time.
START = f"""
import sys
sys.path[:0] = {[str(REPOSITORY), *sys.path[1:]]!r}
sys.argv[0] = "pycontainer"
from pycontainer.cli.main import main
main()
"""


class Fast(Pycontainer):
    """Starts the command line quickly."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-IS", "-c", START, *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sizes(self) -> dict[str, int]:
        """Every file of the installation but the database's and the images' -> bytes."""
        found = [path for top in (self.root, self.state) for path in top.rglob("*") if path.is_file()]
        images = (self.root / "layers", self.root / "blobs")
        return {
            str(path): path.stat().st_size
            for path in found
            if not path.name.startswith("db.sqlite") and not any(path.is_relative_to(x) for x in images)
        }


@pytest.fixture
def fast(engine_env: dict[str, str], busybox: str) -> Fast:
    made = Fast(engine_env)
    # The bridge, which stays.
    made("run", "--rm", busybox, "true", check=True)
    return made


def keys() -> int:
    """Keys and keyrings of all users: each container has a session keyring."""
    return sum(int(line.split()[2].split("/")[0]) for line in pathlib.Path("/proc/key-users").read_text().splitlines())


def check_nothing_left(fast: Fast) -> None:
    assert not Leftovers(fast.environment).found()
    assert not network_namespaces()


def test_one_after_another(fast: Fast) -> None:
    def run_once() -> None:
        process = fast.start("run", "--rm", "busybox", "true")
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")

    for _ in range(8):
        run_once()
    before, keys_before = fast.sizes(), keys()
    for _ in range(RUNS):
        run_once()
    check_nothing_left(fast)
    assert fast.sizes() == before
    # Because the kernel frees them some time later, and others may use keys meanwhile.
    deadline = time.monotonic() + 10
    while keys() > keys_before + SLACK and time.monotonic() < deadline:
        time.sleep(0.1)
    assert keys() <= keys_before + SLACK


def test_many_at_once(fast: Fast, tmp_path: pathlib.Path) -> None:
    script = (
        "cat /proc/self/uid_map; ip -4 -o address show eth0; echo ready; until [ -e /gate/open ]; do sleep 0.1; done"
    )
    tmp_path.chmod(0o755)
    processes = [
        fast.start("run", "--rm", "-v", f"{tmp_path}:/gate:ro", "busybox", "sh", "-c", script) for _ in range(RUNS // 2)
    ]
    try:
        ranges, addresses = [], []
        for process in processes:
            assert process.stdout
            lines = []
            while not lines or lines[-1] not in ("ready\n", ""):
                lines.append(process.stdout.readline())
            assert len(lines) == 3, process.communicate()
            ranges.append(int(lines[0].split()[1]))
            addresses.append(lines[1].split()[3])
        # Now all of them run.
        running = fast("ps", "-q", check=True).stdout.split()
    finally:
        (tmp_path / "open").touch()
        results = [(process.communicate(timeout=60), process.returncode) for process in processes]
    assert [result for result in results if result != (("", ""), 0)] == []
    assert len(running) == len(set(addresses)) == RUNS // 2
    ranges.sort()
    assert all(second - first >= 65536 for first, second in itertools.pairwise(ranges))
    check_nothing_left(fast)


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_runs_are_not_disturbed_by_others_that_are_killed(fast: Fast, name: str) -> None:
    generator = random.Random(f"{SEED} {name}")
    print(f"seed {SEED}")
    steady, victims = [], []
    for _ in range(20):
        steady.append(fast.start("run", "--rm", "busybox", "sh", "-c", "sleep 0.05; echo done"))
        victims.append(fast.start("run", *generator.choice((["--rm"], [])), "busybox", "sleep", "0.3"))
    moments = sorted((generator.uniform(0, 2), position) for position in range(20))
    began = time.monotonic()
    for moment, position in moments:
        time.sleep(max(0, began + moment - time.monotonic()))
        victims[position].kill()
    results = [(process.communicate(timeout=60), process.returncode) for process in steady]
    for process in victims:
        process.wait(60)
    assert [result for result in results if result != (("done\n", ""), 0)] == []
    # The next command repairs; until then, a container that was not started yet may wait, and hold its pipes open.
    fast("ps", check=True)
    for process in victims:
        process.communicate(timeout=60)
    connection = sqlite3.connect(fast.root / "db.sqlite")
    # Those of --rm run on without their client, and go by themselves.
    wait_until(lambda: not connection.execute("SELECT id FROM containers WHERE auto_remove").fetchall())
    rows = [row[0] for row in connection.execute("SELECT id FROM containers")]
    connection.close()
    assert not Leftovers(fast.environment).found(keep=rows)
    if rows:
        fast("rm", *rows, check=True)
    check_nothing_left(fast)
