"""`update` on a machine that may have no limits to give: what is kept, what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Pycontainer, is_unified, wait_until


@pytest.fixture
def sleeper(box: Pycontainer) -> Iterator[str]:
    """A container that runs; its name."""
    box("run", "-d", "--name", "sleeper", "--network", "none", "busybox", "sleep", "600", check=True)
    yield "sleeper"
    box("rm", "-f", "sleeper", check=True)


def shown(box: Pycontainer, name: str, template: str) -> str:
    return box("inspect", "-f", template, name, check=True).stdout.strip()


def test_a_restart_policy_needs_no_controller(box: Pycontainer, sleeper: str) -> None:
    result = box("update", "--restart", "on-failure:3", sleeper, check=True)
    assert (result.stdout, result.stderr) == (f"{sleeper}\n", "")
    assert shown(box, sleeper, "{{.HostConfig.RestartPolicy.Name}}") == "on-failure"


@pytest.mark.parametrize(
    ("change", "controller"),
    [(["-m", "64m"], "memory"), (["--cpu-shares", "512"], "cpu"), (["--blkio-weight", "300"], "io")],
)
def test_a_controller_that_is_elsewhere_is_named(
    box: Pycontainer, sleeper: str, change: list[str], controller: str
) -> None:
    if is_unified():
        pytest.skip("this host's cgroup hierarchy is unified and enforces limits")
    result = box("update", "--restart", "always", *change, sleeper)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"the {controller} controller" in result.stderr
    assert "systemd.unified_cgroup_hierarchy=1" in result.stderr
    assert shown(box, sleeper, "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}") == "no 0", "all or nothing"


def test_one_that_does_not_run_has_it_at_its_next_start(box: Pycontainer) -> None:
    box("create", "--name", "later", "--network", "none", "--cpu-shares", "100", "busybox", "true", check=True)
    try:
        box("update", "--cpu-shares", "0", "--pids-limit", "-1", "later", check=True)
        assert shown(box, "later", "{{.HostConfig.CpuShares}} {{.HostConfig.PidsLimit}}") == "0 -1"
        box("start", "-a", "later", check=True)
    finally:
        box("rm", "-f", "later", check=True)


def test_what_is_about_to_start_again_keeps_its_limits(box: Pycontainer) -> None:
    options = ["-d", "--name", "again", "--network", "none", "--restart", "always"]
    box("run", *options, "busybox", "false", check=True)
    try:
        wait_until(lambda: int(shown(box, "again", "{{.RestartCount}}")) > 3)
        wait_until(lambda: "it is restarting" in box("update", "--pids-limit", "0", "again").stderr)
    finally:
        box("rm", "-f", "again", check=True)


def test_the_others_are_changed_where_one_is_not_there(box: Pycontainer, sleeper: str) -> None:
    result = box("update", "--restart", "always", "nosuch", sleeper)
    assert (result.returncode, result.stdout) == (1, f"{sleeper}\n")
    assert "nosuch" in result.stderr


@pytest.mark.parametrize("change", [[], ["-m", "1m"], ["--cpus", "100000"], ["--device-read-bps", "/dev/null:1m"]])
def test_nonsense_is_answered_with_an_example(box: Pycontainer, sleeper: str, change: list[str]) -> None:
    result = box("update", *change, sleeper)
    assert result.returncode != 0
    assert "hint: " in result.stderr
