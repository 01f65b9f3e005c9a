"""`--log`: whatever goes wrong is in the file, in the words and with the fields that callers of runc read."""

from __future__ import annotations

import json
import pathlib
import re

import pytest
from test_runtime import Runtime, rootfs, runtime  # noqa: F401

WRONG = [
    (["state", "nosuch"], 1, "container does not exist"),
    (["create", "-b", "/no/such/bundle", "c"], 1, "/no/such/bundle/config.json: no such file or directory"),
    (["create", "--bogus", "c"], 1, "--bogus: unknown option"),
    (["--bogus", "state", "c"], 1, "--bogus: unknown option"),
    (["bogus"], 1, "bogus: no such command"),
    (["exec", "nosuch", "true"], 255, "container does not exist"),
    (["--systemd-cgroup", "state", "c"], 1, "--systemd-cgroup"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), WRONG)
def test_the_error_is_a_line_of_json(
    runtime: Runtime,  # noqa: F811
    tmp_path: pathlib.Path,
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    log = tmp_path / "log"
    for count in (1, 2):
        said = runtime("--log", str(log), "--log-format=json", *arguments, status=status)
        assert message in said, "stderr has it too"
        lines = log.read_text().splitlines()
        assert len(lines) == count, "appended, and one line each"
        entry = json.loads(lines[-1])
        assert sorted(entry) == ["level", "msg", "time"]
        assert entry["level"] == "error"
        assert message in entry["msg"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"])


def test_text_is_the_default(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    log = tmp_path / "log"
    runtime("--log", str(log), "state", 'no"such', status=1)
    runtime(f"--log={log}", "--log-format", "text", "state", "nosuch", status=1)
    for line in log.read_text().splitlines():
        assert re.fullmatch(r'time="\d{4}-.*Z" level=error msg=".*"', line)
    assert r"no\"such" in log.read_text()


def test_debug_names_what_raised_it(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    log = tmp_path / "log"
    runtime("--debug", "--log", str(log), "--log-format", "json", "state", "nosuch", status=1)
    entry = json.loads(log.read_text())
    assert re.fullmatch(r".*/runtime/state\.py:\d+", entry["file"])
    assert entry["func"]


def test_a_log_that_cannot_be_written_and_a_format_that_is_none(
    runtime: Runtime,  # noqa: F811
    tmp_path: pathlib.Path,
) -> None:
    assert "write --log: /no/such/log: no such file" in runtime("--log", "/no/such/log", "list", status=1)
    log = tmp_path / "log"
    assert "--log-format" in runtime("--log", str(log), "--log-format", "xml", "list", status=1)
    assert "--log-format" in log.read_text()
    assert "--log-format" in runtime("--log-format", "xml", "list", status=1)
    assert "needs a value" in runtime("--log", status=1)


def test_without_an_error_the_log_is_empty(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    log = tmp_path / "log"
    runtime("--debug", "--log", str(log), "--log-format", "json", "list")
    assert log.read_text() == ""
    assert log.stat().st_mode & 0o777 == 0o644


def test_a_program_that_cannot_be_executed_is_logged(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    log = tmp_path / "log"
    runtime.write("nosuch")
    runtime("--log", str(log), "--log-format", "json", "run", "-b", str(runtime.bundle), "c", status=127)
    assert "executable file not found" in json.loads(log.read_text())["msg"]
