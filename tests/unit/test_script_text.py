"""The words of `run --explain=script` where no test can run them."""

from __future__ import annotations

import subprocess

from pycontainer.cli.script_plan import Plan
from pycontainer.cli.script_text import text
from pycontainer.engine import bundle
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.user import User
from pycontainer.kernel.id_map import IdMap


def script(*, maps: bool = True, mode: str = "none", **values: object) -> str:
    config = ContainerConfig("image", ["sh", "-c", "it's"], {"network": mode, **values})
    found = bundle.build(
        config,
        {},
        root="/root",
        cgroup="/c",
        user=User(0, 0, [0], "/root"),
        hostname="told",
        maps=[IdMap(0, 200000, 65536)] if maps else [],
        files={"/etc/hosts": "/engine/hosts"},
        mounts=[],
    )
    plan = Plan(
        found,
        layers=["/layers/base", "/layers/top"],
        files={"/engine/hosts": "127.0.0.1 localhost\n"},
        anonymous=[],
        modes={},
        mode=mode,
        subnet="10.98.0.0/20" if mode == "bridge" else "",
        hierarchy="/sys/fs/cgroup",
        omitted=["-t"],
    )
    found_text = text(plan, config.image)
    subprocess.run(["bash", "-n"], input=found_text, text=True, check=True)
    return found_text


def test_limits_are_those_that_are_asked_for() -> None:
    asked = script(memory="64m", cpus="0.5", pids_limit="10").splitlines()
    assert "echo '+memory +cpu +pids' >/sys/fs/cgroup/cgroup.subtree_control" in [
        line.replace("$'", "'") for line in asked
    ]
    assert 'echo 67108864 >"$cgroup/memory.max"' in asked
    assert 'echo 0 >"$cgroup/memory.swap.max"' in asked
    # unshare is in there, too.
    assert 'echo 11 >"$cgroup/pids.max"' in asked
    assert "subtree_control" not in script() and ".max" not in script()


def test_it_says_what_is_left_out() -> None:
    assert "# Left out here: -t.\n" in script()


def test_the_upper_layer_comes_first() -> None:
    found = script(maps=False)
    assert "layer2=/layers/top\nlayer1=/layers/base\n" in found and 'lowerdir="$layer2:$layer1:empty"' in found


def test_only_what_is_needed() -> None:
    found = script(maps=False, mode="host")
    assert "holder=$" not in found and "uid_map" not in found and "nft" not in found.partition("\nset -eu")[2]
    assert "uid_map" in script() and "nft -f -" in script(mode="bridge")


def test_no_line_is_too_long() -> None:
    assert max(map(len, script(mode="bridge").splitlines())) <= 130
