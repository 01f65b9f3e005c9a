"""The labs: that each file is one, and how a lab's text looks."""

from __future__ import annotations

import pathlib
import shlex
import subprocess
import sys

import pytest

from pycontainer import labs
from pycontainer.cli import main
from pycontainer.engine.settings import Settings
from pycontainer.errors import HostError, StepFailed, UsageError
from pycontainer.kernel import cgroup
from pycontainer.labs import _stage, io


def call(*arguments: str) -> int:
    return main.guard(lambda: main.dispatch(list(arguments)), passes_status=False)


def test_each_file_is_a_lab(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(path.stem for path in pathlib.Path(labs.__path__[0]).glob("[!_]*.py"))
    assert {"cpu", "dns", "io", "layers", "network", "oom", "pids", "volumes"} <= set(files) and _stage.names() == files
    assert call("lab") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == files
    assert all(len(line) <= _stage.WIDTH for line in lines)


def test_one_more_file_is_one_more_lab(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "another.py").write_text("SUMMARY = 'One more.'\n")
    monkeypatch.setattr(labs, "__path__", [*labs.__path__, str(tmp_path)])
    assert "another" in _stage.names()
    assert _stage.load("another").SUMMARY == "One more."
    sys.modules.pop("pycontainer.labs.another")


@pytest.mark.parametrize("name", _stage.names())
def test_a_lab_says_what_it_needs(name: str) -> None:
    lab = _stage.load(name)
    assert set(lab.CONTROLLERS) <= set(cgroup.CONTROLLERS)
    assert (not lab.CONTROLLERS) == (name in ("dns", "layers", "network", "volumes"))
    assert callable(lab.show) and lab.SUMMARY.endswith(".")


def test_an_unknown_name_is_told_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("lab", "no-such") == 1
    assert capsys.readouterr().err.splitlines() == [
        "pycontainer: lab: no-such: no such lab",
        f"hint: one of {', '.join(_stage.names())}",
    ]
    with pytest.raises(UsageError):
        _stage.load("_stage")


@pytest.mark.parametrize("controllers", [set(), {"cpu"}])
def test_a_missing_controller_is_named(controllers: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchy = cgroup.Hierarchy("/cgroup", frozenset(controllers), {"memory": "/v1"})
    monkeypatch.setattr(cgroup, "find_hierarchy", lambda: hierarchy)
    with pytest.raises(HostError, match="the memory controller is on cgroup v1 at /v1"):
        _stage._require_controllers("oom", ("memory",))


def test_no_hierarchy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "find_hierarchy", lambda: None)
    with pytest.raises(HostError, match="not mounted"):
        _stage._require_controllers("oom", ("memory",))


def test_a_lab_without_limits_needs_no_hierarchy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "find_hierarchy", lambda: None)
    _stage._require_controllers("layers", ())


def test_an_id_is_shown_short() -> None:
    one, other = "0123456789ab" + "c" * 52, "f" * 63
    assert _stage.shorten(f"ls layers/{one} {other}") == f"ls layers/0123456789ab* {other}"


def test_a_command_of_the_hosts(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings()
    settings.root = str(tmp_path)
    (tmp_path / ("a" * 64)).write_text("one\n")
    stage = _stage.Stage("layers", settings, step=False)
    assert stage.host("cat", "a" * 64) == "one\n"
    stage.host("false", status=1)
    with pytest.raises(StepFailed, match="true ended with 0 and not with 1"):
        stage.host("true", status=1)
    expected = [f"$ cd {tmp_path}", "$ cat aaaaaaaaaaaa*", "one", "$ false", "exit status 1", "$ true"]
    assert capsys.readouterr().out.splitlines() == expected


def test_a_directory_goes_whatever_happens(tmp_path: pathlib.Path) -> None:
    settings = Settings()
    settings.root = str(tmp_path)
    with pytest.raises(StepFailed), _stage.stage("volumes", settings, step=False) as stage:
        pathlib.Path(stage.directory(), "file").write_text("x")
        raise StepFailed("lab", "volumes", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_command_line_can_be_typed() -> None:
    words = ("run", "--name", "lab", "-m", "16m", "busybox", "sh", "-c", "while :; do v=$v'x'; sleep 0.2; done")
    text = _stage.command_line(words)
    assert all(len(f"$ {line}") <= _stage.WIDTH for line in text.splitlines()) and " \\\n" in text
    assert shlex.split(text.replace("\\\n", "")) == ["pycontainer", *words]
    script = f"pycontainer() {{ printf '%s\\n' \"$@\"; }}\n{text}"
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout.splitlines() == list(words)


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "bold"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_bold_is_for_terminals(
    is_terminal: bool,
    no_color: str,
    bold: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    _stage.Stage("oom", Settings(), step=False).part("A part")
    assert capsys.readouterr().out == ("\n\033[1m1. A part\033[0m\n" if bold else "\n1. A part\n")


def test_steps_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(UsageError, match="lab: --step: standard input is no terminal"):
        with _stage.stage("oom", Settings(), step=True):
            raise AssertionError


def test_a_store_that_is_on_no_disk_is_told() -> None:
    with pytest.raises(HostError, match="lab io: /proc: its file system is on no disk"):
        io.find_disk("/proc")
