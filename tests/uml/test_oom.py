"""What becomes of a container that has too little, and what `why` and `inspect` say of it."""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Pycontainer, wait_until

TAKE_30_MB = ["dd", "if=/dev/zero", "of=/dev/null", "bs=30M", "count=1"]
SHELL_TAKES_100_MB = " ".join(TAKE_30_MB)


@pytest.fixture
def engine(box: Pycontainer) -> Iterator[Pycontainer]:
    yield box
    box("rm", "-f", "cc")


def run(engine: Pycontainer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return engine("run", "--name", "cc", "--network", "none", *arguments)


def why(engine: Pycontainer) -> dict[str, Any]:
    (found,) = json.loads(engine("why", "--json", "cc", check=True).stdout)
    return found


def state(engine: Pycontainer) -> tuple[bool, int]:
    found = json.loads(engine("inspect", "--format", "{{json .State}}", "cc", check=True).stdout)
    return found["OOMKilled"], found["OOMKills"]


def oom_events(engine: Pycontainer) -> int:
    """How many its store has seen."""
    words = ["events", "--since", "0", "--until", str(int(time.time()) + 1), "--filter", "event=oom"]
    return len(engine(*words, check=True).stdout.splitlines())


def test_the_first_process(engine: Pycontainer) -> None:
    result = run(engine, "-m", "16m", "busybox", *TAKE_30_MB)
    assert result.returncode == 137
    line = "killed: the memory limit of 16m was reached (exit 137); pycontainer why cc tells more"
    assert result.stderr.splitlines()[-1] == f"pycontainer: {line}"
    assert state(engine) == (True, 1)
    found = why(engine)
    assert (found["Verdict"], found["ExitCode"], found["OOMKills"]) == ("oom", 137, 1)
    (kill,) = found["Evidence"]["kills"]
    assert kill["name"] == "dd" and 12 << 20 < kill["memory"]["anon"] <= 16 << 20 and kill["own"]
    assert 12 << 20 < kill["usage"]["anon"] <= 16 << 20
    assert found["Evidence"]["peak"] == found["Evidence"]["limit"] == 16 << 20
    assert found["Advice"].startswith("try -m 48m: dd had asked for 32")
    text = engine("why", "cc", check=True).stdout.splitlines()
    assert text[0] == "cc: killed by the kernel: the memory limit of 16m was reached"
    assert text[-1] == f"  -> {found['Advice']}"


def test_with_rm_the_line_is_all_there_is(engine: Pycontainer) -> None:
    result = run(engine, "--rm", "-m", "16m", "busybox", *TAKE_30_MB)
    line = "pycontainer: killed: the memory limit of 16m was reached (exit 137)"
    assert (result.returncode, result.stderr.splitlines()[-1]) == (137, line)


def test_a_child_and_its_parent_lives(engine: Pycontainer) -> None:
    before = oom_events(engine)
    run(engine, "-d", "-m", "16m", "busybox", "sh", "-c", f"{SHELL_TAKES_100_MB}; sleep 1000")
    wait_until(lambda: oom_events(engine) == before + 1)
    assert state(engine) == (True, 1)
    assert why(engine)["Verdict"] == "oom-child"
    # An ordinary end, long afterwards.
    time.sleep(2.5)
    engine("stop", "-t", "0", "cc", check=True)
    assert state(engine) == (True, 1)
    assert why(engine)["Verdict"] == "stopped"


def test_a_child_and_its_parent_ends_for_it(engine: Pycontainer) -> None:
    result = run(engine, "-m", "16m", "busybox", "sh", "-c", f"{SHELL_TAKES_100_MB}; exit 3")
    assert result.returncode == 3
    assert "a process of it was killed by the OOM killer, the memory limit of 16m was reached" in result.stderr
    assert why(engine)["Verdict"] == "oom-child"


def test_an_executed_process(engine: Pycontainer) -> None:
    run(engine, "-d", "-m", "16m", "busybox", "sleep", "1000")
    assert engine("exec", "cc", *TAKE_30_MB).returncode == 137
    # The count is the kernel's; who it was is recorded a moment later.
    wait_until(lambda: why(engine)["Evidence"]["kills"])
    assert state(engine) == (True, 1)
    assert why(engine)["Evidence"]["kills"][0]["name"] == "dd"


def test_a_second_run_begins_anew(engine: Pycontainer) -> None:
    script = "if [ -e /seen ]; then exit 4; fi; touch /seen; exec " + SHELL_TAKES_100_MB
    assert run(engine, "-m", "16m", "busybox", "sh", "-c", script).returncode == 137
    assert why(engine)["Verdict"] == "oom"
    assert engine("start", "-a", "cc").returncode == 4
    assert state(engine) == (False, 0)
    assert (why(engine)["Verdict"], why(engine)["Evidence"]["kills"]) == ("exited", [])


def test_a_leak_is_told_from_one_great_wish(engine: Pycontainer) -> None:
    # A shell's variable, half a mebibyte more each time.
    script = "m=$(head -c 524288 /dev/zero | tr '\\0' x); while :; do v=$v$m; sleep 0.15; done"
    assert run(engine, "-m", "12m", "busybox", "sh", "-c", script).returncode == 137
    found = why(engine)
    assert found["Verdict"] == "oom" and len(found["Evidence"]["samples"]) >= 3


def test_what_is_no_oom(engine: Pycontainer) -> None:
    assert run(engine, "-m", "16m", "busybox", "sh", "-c", "exit 137").returncode == 137
    assert state(engine) == (False, 0)
    assert why(engine)["Verdict"] == "exited"


def test_killed_from_outside(engine: Pycontainer) -> None:
    run(engine, "-d", "-m", "16m", "busybox", "sleep", "1000")
    pid = engine("inspect", "--format", "{{.State.Pid}}", "cc", check=True).stdout.strip()
    subprocess.run(["kill", "-9", pid], check=True)
    engine("wait", "cc", check=True)
    assert state(engine) == (False, 0)
    assert why(engine)["Verdict"] == "killed-outside"


def test_the_machine_runs_out(engine: Pycontainer) -> None:
    """As far as it can be had: the kernel is told to choose somebody, as it does then."""
    run(engine, "-d", "busybox", "sleep", "1000")
    pid = engine("inspect", "--format", "{{.State.Pid}}", "cc", check=True).stdout.strip()
    pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    pathlib.Path("/proc/sysrq-trigger").write_text("f")
    engine("wait", "cc", check=True)
    assert why(engine)["Verdict"] == "oom-host"
    # It is not for want of its own memory, but a kill of its own cgroup's all the same.
    assert state(engine) == (True, 1)


def test_the_limit_of_processes(engine: Pycontainer) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; exit 2"
    run(engine, "--pids-limit", "5", "busybox", "sh", "-c", script)
    found = why(engine)
    assert found["Verdict"] == "pids" and found["Evidence"]["pids"]["max"] > 0


def test_the_share_of_the_processors(engine: Pycontainer) -> None:
    run(engine, "-d", "--cpus", "0.1", "busybox", "sh", "-c", "while :; do :; done")
    wait_until(lambda: why(engine)["Verdict"] == "throttled")


def test_a_killed_monitor(engine: Pycontainer) -> None:
    run(engine, "-d", "-m", "16m", "busybox", "sleep", "1000")
    pid = int(engine("inspect", "--format", "{{.State.Pid}}", "cc", check=True).stdout)
    parent = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    subprocess.run(["kill", "-9", parent], check=True)
    wait_until(lambda: why(engine)["Verdict"] == "monitor-killed")
