"""The config.json that `spec` writes: read by the runtime, never over another one, with the engine's defaults."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from pycontainer.errors import Conflict, UsageError
from pycontainer.kernel.namespace import CLONE_NEWNET, CLONE_NEWUSER
from pycontainer.runtime import defaults, spec, template


@pytest.mark.parametrize("rootless", [False, True])
def test_the_runtime_reads_it(tmp_path: pathlib.Path, rootless: bool) -> None:
    template.write(str(tmp_path), rootless=rootless)
    found = spec.load(str(tmp_path))
    assert found.root == str(tmp_path / "rootfs")
    assert found.root_readonly
    assert (found.process.args, found.process.terminal, found.process.no_new_privileges) == (["sh"], True, True)
    assert found.process.capabilities["effective"] == defaults.CAPABILITIES
    assert found.process.capabilities["ambient"] == []
    assert (found.masked_paths, found.readonly_paths) == (defaults.MASKED_PATHS, defaults.READONLY_PATHS)
    assert (CLONE_NEWUSER in found.namespaces) == rootless
    assert (CLONE_NEWNET in found.namespaces) != rootless
    assert all("gid=5" not in mount.options.data.split(",") for mount in found.mounts) == rootless


def test_rootless_has_the_callers_ids() -> None:
    linux = template.config(rootless=True)["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    assert "resources" not in linux


def test_another_one_is_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("mine")
    with pytest.raises(Conflict, match="file exists\nhint: remove it first"):
        template.write(str(tmp_path), rootless=False)
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict):
        template.write(str(tmp_path), rootless=False)
    assert os.listdir(tmp_path) == ["config.json"]


def test_there_must_be_a_directory(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"no/config\.json: no such file or directory"):
        template.write(str(tmp_path / "no"), rootless=False)


def test_half_of_it_is_not_left(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(value: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(template.json_text, "pretty", fail)
    with pytest.raises(KeyboardInterrupt):
        template.write(str(tmp_path), rootless=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_it_has_the_callers_umask(tmp_path: pathlib.Path, umask: int) -> None:
    command = [sys.executable, "-P", "-m", "pycontainer.runtime.main", "spec"]
    subprocess.run(command, cwd=tmp_path, umask=umask, check=True)
    assert (tmp_path / "config.json").stat().st_mode & 0o7777 == 0o666 & ~umask
    assert json.loads((tmp_path / "config.json").read_text()) == template.config(rootless=False)


@pytest.mark.parametrize("verb", ["create", "start", "state", "kill", "delete"])
def test_what_is_waited_for_imports_none_of_it(tmp_path: pathlib.Path, verb: str) -> None:
    script = (
        "import os, sys\nos._exit = lambda status: None\n"
        f"sys.argv = ['x', '--root', {str(tmp_path)!r}, {verb!r}, '-b', {str(tmp_path)!r}, 'c']\n"
        f"sys.argv[4:6] = [] if {verb!r} != 'create' else sys.argv[4:6]\n"
        "from pycontainer.runtime import main\nmain.main()\nprint(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    names = {f"pycontainer.runtime.{name}" for name in ("template", "features", "defaults", "usage", "program")}
    assert "pycontainer.errors" in result.stdout.split(), result.stderr
    assert not names & set(result.stdout.split())
