"""`pycontainer-runtime update`: other limits in the files of a container that runs."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from conftest import SESSION, TESTS, new_directory

M = 1 << 20

# One after another to one container that began with 64m: what is asked of it, and the files that then say so.
TABLE: list[tuple[list[str], dict[str, str]]] = [
    (["--memory", "96m"], {"memory.max": str(96 * M)}),
    (
        ["--pids-limit", "20", "--memory-swap", "112m", "--memory-reservation", "32m"],
        {"pids.max": "20", "memory.max": str(96 * M), "memory.swap.max": str(16 * M), "memory.low": str(32 * M)},
    ),
    (["--cpu-quota", "5000"], {"cpu.max": "5000 100000"}),
    (["--cpu-period", "9000", "--cpu-share", "512"], {"cpu.max": "5000 9000", "cpu.weight": "20"}),
    (["--cpu-quota", "-1", "--memory", "-1"], {"cpu.max": "max 9000", "memory.swap.max": "max"}),
    (["--memory", "64m", "--pids-limit", "7"], {"pids.max": "7", "memory.max": str(64 * M)}),
    (["--memory", "64m", "--pids-limit", "-1"], {"pids.max": "max"}),
]

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sleeper() -> Iterator[tuple[Call, pathlib.Path]]:
    """The runtime, and the cgroup of the container `c` that it runs."""
    directory = new_directory()
    bundle = directory / "bundle"
    (bundle / "rootfs/bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", bundle / "rootfs/bin/sleep")
    for name in ("proc", "dev", "sys"):
        (bundle / "rootfs" / name).mkdir()

    def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-IS", str(TESTS / "runtime_command.py"), "--root", f"{directory}/state"]
        # To files, because the container keeps its caller's output open.
        with (directory / "out").open("w+") as out, (directory / "err").open("w+") as err:
            result = subprocess.run([*command, *arguments], input=stdin, stdout=out, stderr=err, text=True, timeout=60)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, result.returncode, out.read(), err.read())

    assert call("spec", "-b", str(bundle)).returncode == 0
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"args": ["sleep", "600"], "terminal": False}
    config["linux"]["cgroupsPath"] = f"/{SESSION}{directory.name}/c"
    config["linux"].setdefault("resources", {})["memory"] = {"limit": 64 * M}
    (bundle / "config.json").write_text(json.dumps(config))
    result = call("run", "-d", "-b", str(bundle), "c")
    assert result.returncode == 0, result.stderr
    yield call, pathlib.Path(f"/sys/fs/cgroup/{SESSION}{directory.name}/c")
    assert call("delete", "-f", "c").returncode == 0
    shutil.rmtree(directory)


def test_each_option_is_in_its_file_while_it_runs(sleeper: tuple[Call, pathlib.Path]) -> None:
    call, cgroup = sleeper
    assert (cgroup / "memory.max").read_text() == f"{64 * M}\n"
    wrong = []
    for options, expected in TABLE:
        result = call("update", *options, "c")
        found = {file: (cgroup / file).read_text().strip() for file in expected}
        if (result.returncode, result.stdout, result.stderr, found) != (0, "", "", expected):
            wrong.append((options, found, expected, result.stderr))
    assert not wrong


def test_resources_from_stdin(sleeper: tuple[Call, pathlib.Path]) -> None:
    call, cgroup = sleeper
    asked = {"memory": {"limit": 32 * M, "swap": 48 * M}, "cpu": {"quota": 5000}, "pids": {"limit": 9}}
    result = call("update", "-r", "-", "c", stdin=json.dumps(asked))
    assert (result.returncode, result.stderr) == (0, "")
    found = [(cgroup / name).read_text() for name in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")]
    assert found == [f"{32 * M}\n", f"{16 * M}\n", "5000 100000\n", "9\n"]


def test_a_failure_half_way_leaves_what_was(sleeper: tuple[Call, pathlib.Path]) -> None:
    # The kernel refuses more processes than it can number, and memory.max and cpu.max have been written by then.
    call, cgroup = sleeper
    result = call("update", "--memory", "96m", "--cpu-quota", "5000", "--pids-limit", "99999999", "c")
    assert result.returncode == 1
    assert "pids.max" in result.stderr
    found = [(cgroup / name).read_text() for name in ("memory.max", "cpu.max", "pids.max")]
    assert found == [f"{64 * M}\n", "max 100000\n", "max\n"]
