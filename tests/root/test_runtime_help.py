"""Help, version and signal 0 are answered as runc answers them."""

from __future__ import annotations

import pytest
from test_runtime import Runtime, rootfs, runtime  # noqa: F401


@pytest.mark.parametrize(
    "arguments",
    [[], ["--debug"], ["-h"], ["--help"], ["help"], ["h"], ["help", "create"], ["create", "--help"], ["state", "-h"],
     ["--root", "/no/such", "--help"], ["--debug", "--root=/no/such", "exec", "--help"], ["kill", "c", "--help"],
     ["spec", "-h"], ["features", "--help"], ["update", "--help"]],
)  # fmt: skip
def test_help(runtime: Runtime, arguments: list[str]) -> None:  # noqa: F811
    assert runtime(*arguments).startswith("usage: ")


@pytest.mark.parametrize("arguments", [["-v"], ["--version"], ["--debug", "-v"]])
def test_version(runtime: Runtime, arguments: list[str]) -> None:  # noqa: F811
    assert "\nspec: 1." in runtime(*arguments)


def test_a_commands_own_help_is_the_commands(runtime: Runtime) -> None:  # noqa: F811
    assert "container does not exist" in runtime("exec", "nosuch", "ls", "--help", status=255)


def test_signal_0_says_whether_it_runs(runtime: Runtime) -> None:  # noqa: F811
    runtime.write("sleep", "1000")
    runtime.run("c", "-d")
    runtime("kill", "c", "0")
    assert runtime.state()["status"] == "running"
    runtime("kill", "c", "9")
    runtime.wait_for("stopped")
    assert "not running" in runtime("kill", "c", "0", status=1)
    runtime("delete", "c")
