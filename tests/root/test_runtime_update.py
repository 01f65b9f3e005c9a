"""`pycontainer-runtime update` on a machine that may have no limits to give: what is refused, and by which words."""

from __future__ import annotations

import json
import pathlib

import pytest
from conftest import is_unified
from test_runtime import Runtime, rootfs, runtime  # noqa: F401


@pytest.mark.parametrize(
    ("option", "controller"),
    [
        (["--memory", "64m"], "memory"),
        (["--cpu-quota", "5000"], "cpu"),
        (["--cpu-period", "5000"], "cpu"),
        (["--cpuset-cpus", "0"], "cpuset"),
        (["--blkio-weight", "300"], "io"),
    ],
)
def test_a_controller_that_is_elsewhere_is_named(runtime: Runtime, option: list[str], controller: str) -> None:  # noqa: F811
    if is_unified():
        pytest.skip("this host's cgroup hierarchy is unified and enforces limits")
    runtime.write("sleep", "600")
    runtime.run("c", "-d")
    errors = runtime("update", *option, "c", status=1)
    assert f"the {controller} controller" in errors
    assert "hint: " in errors
    assert runtime.state()["status"] == "running"
    runtime("delete", "-f", "c")


def test_that_there_be_no_limit_needs_no_controller(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    runtime.write("sleep", "600")
    runtime.create()
    asked = {"memory": {"limit": -1}, "cpu": {"shares": 0, "cpus": ""}, "pids": {"limit": 0}, "blockIO": None}
    path = tmp_path / "resources.json"
    path.write_text(json.dumps(asked))
    config = (runtime.bundle / "config.json").read_text()
    assert runtime("update", "-r", str(path), "c") == ""
    assert runtime("update", "--resources", "-", "c", status=1).startswith(
        "pycontainer-runtime: read --resources: -: not"
    )
    assert (runtime.bundle / "config.json").read_text() == config
    runtime("delete", "-f", "c")


def test_what_is_wrong_is_one_line(runtime: Runtime) -> None:  # noqa: F811
    runtime.write("sleep", "600")
    runtime.run("c", "-d")
    assert "--memory lots: not a size" in runtime("update", "--memory", "lots", "c", status=1)
    assert "memory.swap: needs a memory limit" in runtime("update", "--memory-swap", "64m", "c", status=1)
    assert "--l3-cache-schema: unknown option" in runtime("update", "--l3-cache-schema", "x", "c", status=1)
    runtime("kill", "c", "9")
    runtime.wait_for("stopped")
    assert "container not running" in runtime("update", "--memory", "64m", "c", status=1)
    runtime("delete", "c")
    assert "container does not exist" in runtime("update", "--memory", "64m", "c", status=1)
