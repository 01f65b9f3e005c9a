"""tests/warm.py itself: a command is as one of its own."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
import warm
from conftest import COMMAND, wait_until


@pytest.mark.parametrize("words", [["--version"], ["nonsense"], ["ps", "--nonsense"], ["run", "--help"], []])
def test_it_says_the_same(words: list[str]) -> None:
    own = subprocess.run([*COMMAND, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = warm.completed(words, None, dict(os.environ), 60, True)
    assert (found.returncode, found.stdout, found.stderr) == (own.returncode, own.stdout, own.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="import needs root")
def test_each_has_its_own_environment_and_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        environment = {"PATH": "/bin", "PYCONTAINER_ROOT": str(tmp_path / name), "PYCONTAINER_STATE": str(tmp_path)}
        found = warm.completed(["import", "nosuch.tar", "x"], None, environment, 60, True)
        assert found.returncode == 1 and "nosuch.tar" in found.stderr
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "nosuch.tar").write_bytes(b"no archive")
    assert (
        "nosuch.tar: no such file"
        not in warm.completed(["import", "nosuch.tar", "x"], None, environment, 60, True).stderr
    )


def test_one_that_takes_too_long_is_killed(tmp_path: pathlib.Path) -> None:
    reader, writer = os.pipe()
    out = os.open(tmp_path / "out", os.O_CREAT | os.O_RDWR)
    # It reads its stdin, which nobody closes.
    words = ["login", "-u", "somebody", "--password-stdin", "127.0.0.1:1"]
    process = warm.Process("command.py", words, dict(os.environ), reader, out, out)
    assert not process.read()
    pid = process.pid
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.close()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    for descriptor in (reader, writer, out):
        os.close(descriptor)
