"""`process.scheduler`, `process.ioPriority` and `process.execCPUAffinity`: what the kernel says of the processes."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any

import pytest
from conftest import wait_until
from test_runtime import RUNTIME, Runtime, rootfs, runtime  # noqa: F401

from pycontainer.kernel import scheduling

BATCH = {"policy": "SCHED_BATCH", "nice": 7}
DEADLINE = {
    "policy": "SCHED_DEADLINE",
    "flags": ["SCHED_FLAG_RESET_ON_FORK"],
    "nice": 19,
    "runtime": 42_000,
    "deadline": 1_000_000,
    "period": 1_000_000,
}
SCHED_DEADLINE = 6
CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture(params=["host", "own"])
def users(request: pytest.FixtureRequest, runtime: Runtime) -> Runtime:  # noqa: F811
    """The host's user namespace, and one of the container's, in which nobody may do any of this."""
    if request.param == "own":
        linux = runtime.config["linux"]
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 1 << 30, "size": 65536}]
    return runtime


def execute(runtime: Runtime, tmp_path: pathlib.Path, **process: Any) -> int:  # noqa: F811
    """Execute a program that stays, as a file for --process says; its pid."""
    file = tmp_path / "process.json"
    file.write_text(json.dumps({"args": ["/bin/sleep", "600"], "cwd": "/", **process}))
    pid_file = tmp_path / "pid"
    runtime("exec", "-d", "--process", str(file), "--pid-file", str(pid_file), "c")
    return int(pid_file.read_text())


def policy(pid: int) -> int:
    return os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK


def test_the_first_process(users: Runtime) -> None:
    users.write("sleep", "600", scheduler=BATCH, ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6})
    users.create()
    pid = users.state()["pid"]
    for _ in range(2):
        assert policy(pid) == os.SCHED_BATCH
        assert os.getpriority(os.PRIO_PROCESS, pid) == 7
        assert scheduling.ioprio_get(pid) == (2, 6)
        if users.state()["status"] == "created":
            users("start", "c")
    # And what is executed in it, unless it says something else.
    words = users("exec", "c", "cat", "/proc/self/stat").rpartition(")")[2].split()
    assert (words[16], words[38]) == ("7", str(os.SCHED_BATCH))
    users("delete", "--force", "c")


@pytest.mark.parametrize("options", [{"policy": "SCHED_FIFO", "priority": 3}, DEADLINE])
def test_real_time(users: Runtime, options: dict[str, Any]) -> None:
    users.write("sleep", "600", scheduler=options, ioPriority={"class": "IOPRIO_CLASS_RT", "priority": 1})
    users.create()
    pid = users.state()["pid"]
    assert policy(pid) == (os.SCHED_FIFO if "priority" in options else SCHED_DEADLINE)
    assert bool(os.sched_getscheduler(pid) & os.SCHED_RESET_ON_FORK) == ("flags" in options)
    assert scheduling.ioprio_get(pid) == (1, 1)
    users("start", "c")
    users("delete", "--force", "c")


def test_what_exec_is_given(users: Runtime, tmp_path: pathlib.Path) -> None:
    users.write("sleep", "600")
    users.create()
    users("start", "c")
    assert policy(users.state()["pid"]) == os.SCHED_OTHER
    pid = execute(users, tmp_path, scheduler=BATCH, ioPriority={"class": "IOPRIO_CLASS_IDLE"})
    assert (policy(pid), os.getpriority(os.PRIO_PROCESS, pid)) == (os.SCHED_BATCH, 7)
    assert scheduling.ioprio_get(pid) == (3, 0)
    # Which could not be handed on to a child.
    pid = execute(users, tmp_path, scheduler=DEADLINE)
    assert policy(pid) == SCHED_DEADLINE
    users("delete", "--force", "c")


@pytest.mark.skipif(len(CPUS) < 2, reason="there is one processor only")
def test_processors_of_exec(users: Runtime, tmp_path: pathlib.Path) -> None:
    first, second = CPUS[:2]
    affinity = {"initial": str(first), "final": str(second)}
    # It is not for the first process.
    users.write("sleep", "600", execCPUAffinity=affinity)
    users.create()
    users("start", "c")
    assert os.sched_getaffinity(users.state()["pid"]) == set(CPUS)
    assert os.sched_getaffinity(execute(users, tmp_path, execCPUAffinity=affinity)) == {second}
    assert os.sched_getaffinity(execute(users, tmp_path, execCPUAffinity={"final": str(first)})) == {first}
    # Without a final one it is what the container has.
    assert os.sched_getaffinity(execute(users, tmp_path, execCPUAffinity={"initial": str(first)})) >= set(CPUS)
    assert os.sched_getaffinity(execute(users, tmp_path)) == set(CPUS)
    users("delete", "--force", "c")


def test_processors_that_are_not_there(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    runtime.write("sleep", "600")
    runtime.create()
    runtime("start", "c")
    file = tmp_path / "process.json"
    for name in ("initial", "final"):
        file.write_text(json.dumps({"args": ["true"], "cwd": "/", "execCPUAffinity": {name: "8000"}}))
        assert "set processors: 8000: invalid argument" in runtime("exec", "-p", str(file), "c", status=255)
    file.write_text(json.dumps({"args": ["true"], "cwd": "/", "execCPUAffinity": {"final": "x"}}))
    assert "process.execCPUAffinity.final" in runtime("exec", "-p", str(file), "c", status=255)
    pid = runtime.state()["pid"]
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: children.read_text() == "")
    runtime("delete", "--force", "c")


def test_what_the_kernel_refuses_leaves_nothing(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    runtime.write("true", scheduler={"policy": "SCHED_ISO"})
    message = runtime.create(status=1)
    assert "set scheduler: SCHED_ISO: invalid argument\nhint: no kernel implements it" in message
    assert runtime("list", "-q") == ""


def test_it_is_explained(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    runtime.write("true", scheduler=BATCH, ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6})
    with (tmp_path / "err").open("w") as err:
        command = [*RUNTIME, "--root", runtime.root, "run", "--explain", "-b", runtime.bundle, "c"]
        subprocess.run(command, stdin=subprocess.DEVNULL, stderr=err, check=True)
    text = (tmp_path / "err").read_text()
    assert "{sched_policy=SCHED_BATCH, sched_flags=0, sched_nice=7, sched_priority=0}, 0)" in text
    assert "$ chrt --batch --pid 0 " in text and "$ renice -n 7 -p " in text
    assert "IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6))" in text and "$ ionice -c 2 -n 6 -p " in text
