"""How errors read, and which exit status each has."""

from __future__ import annotations

import errno
import os
import pathlib
import sqlite3
import sys

import pytest

from pycontainer import errors
from pycontainer.cli import main
from pycontainer.engine.database import Database
from pycontainer.kernel import record
from pycontainer.kernel.operation import Journal, Operation


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("mount proc",), "mount proc"),
        (("mount proc", "/proc"), "mount proc: /proc"),
        (("mount proc", "", "busy"), "mount proc: busy"),
        (("mount proc", "/proc", "busy"), "mount proc: /proc: busy"),
        (("mount proc", "/proc", "busy", "wait"), "mount proc: /proc: busy\nhint: wait"),
    ],
)
def test_an_error_reads_step_path_cause_and_hint(parts: tuple[str, ...], text: str) -> None:
    assert str(errors.PycontainerError(*parts)) == text


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.UsageError, 125),
        (errors.NotFound, 125),
        (errors.Conflict, 125),
        (errors.ImageError, 125),
        (errors.HostError, 125),
        (errors.CommandNotExecutable, 126),
        (errors.CommandNotFound, 127),
    ],
)
def test_exit_statuses(kind: type[errors.PycontainerError], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise kind("step", "path", "cause", "hint")

    assert main.guard(fail) == status
    assert capsys.readouterr().err == "pycontainer: step: path: cause\nhint: hint\n"


def test_a_failed_step_has_the_kernels_words() -> None:
    error = errors.StepFailed("mount proc", "/proc", errno.EPERM)
    assert str(error) == "mount proc: /proc: operation not permitted"
    assert (error.errno, error.exit_status) == (errno.EPERM, 125)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    parents: list[str] = []
    drawn = set()
    for line in (errors.__doc__ or "").splitlines():
        words = line.strip(" │├└─").split()
        if words and any(kind.__name__ == words[0] for kind in kinds):
            depth = (line.index(words[0]) - 4) // 4
            parents = [*parents[:depth], words[0]]
            drawn.add((words[0], parents[-2] if depth else "Exception"))
    assert drawn == {(kind.__name__, kind.__mro__[1].__name__) for kind in kinds}


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 125, "/x: no space left on device"),
        (OSError("odd"), 125, "odd"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (KeyboardInterrupt(), 130, ""),
        (ValueError("surprise"), 125, "ValueError: surprise\nhint: this is a fault of pycontainer's"),
    ],
)
def test_whatever_comes_up_is_a_line_and_a_status(
    error: BaseException,
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYCONTAINER_DEBUG", raising=False)

    def fail() -> int:
        raise error

    assert main.guard(fail) == status
    printed = capsys.readouterr().err
    assert text in printed
    assert (printed == "") == (text == "")
    assert "Traceback" not in printed


def test_a_full_disk_beneath_the_database_is_named(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None, factory=Database)
    connection.path = "/its/path"
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA max_page_count=2")

    def fail() -> int:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        return 0

    assert main.guard(fail) == 125
    connection.close()
    message, hint = capsys.readouterr().err.splitlines()
    assert message == "pycontainer: /its/path: no space left on device"
    assert hint.startswith("hint: the disk is full: ")


def test_a_bad_option_is_explained_by_click(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.guard(lambda: main.dispatch(["run", "--bogus", "busybox"])) == 125
    assert "--bogus" in capsys.readouterr().err


def test_a_closed_stderr_hides_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def fail() -> int:
        raise errors.CommandNotFound("exec", "x")

    monkeypatch.setattr(sys, "stderr", Closed())
    assert main.guard(fail) == 127


class Step(Operation):
    group, step, reason, hint = "mounts", "mount proc", "because", "do this"

    def __init__(self, error: OSError | None, path: str = "") -> None:
        self.error = error
        self.path = path

    def shell(self) -> str:
        return "mount -t proc"

    def execute(self) -> int:
        record.add("mount()")
        if self.error:
            record.made("umount", ["2"], error=self.error.errno or 0)
            raise self.error
        record.add("umount()")
        record.add("umount()")
        return 7


@pytest.mark.parametrize(
    ("error", "path", "text"),
    [
        (OSError(errno.EPERM, "Operation not permitted"), "/proc", "mount proc: /proc: operation not permitted"),
        (
            OSError(errno.EPERM, "Operation not permitted", "/inner"),
            "/proc",
            "mount proc: /proc: operation not permitted",
        ),
        (OSError(errno.EPERM, "Operation not permitted", "/inner"), "", "mount proc: /inner: operation not permitted"),
        (OSError(errno.EPERM, None), "/proc", "mount proc: /proc: operation not permitted"),
    ],
)
def test_the_journal_words_what_the_kernel_said(error: OSError, path: str, text: str) -> None:
    with pytest.raises(errors.StepFailed) as caught:
        Journal().perform(Step(error, path))
    assert str(caught.value) == f"{text}\nhint: do this"
    assert caught.value.errno == errno.EPERM


def test_the_journal_tells_what_was_done_and_what_failed(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("journal") / "out"
    with path.open("wb") as file:
        journal = Journal(file.fileno())
        assert journal.perform(Step(None)) == 7
        with pytest.raises(errors.StepFailed):
            journal.perform(Step(OSError(errno.EPERM, "x")))
    done = "  mount()\n  umount()  2 times\n      # because\n      $ mount -t proc\n"
    failed = done.replace("umount()  2 times", "umount(2) = -1 EPERM")
    # Before the first group the notation may be explained.
    comment, heading, rest = path.read_text().partition(f"mounts (host, pid {os.getpid()})\n")
    assert all(line.startswith("#") for line in comment.splitlines())
    assert heading and rest == f"{done}{failed}"


def test_what_went_wrong_besides_is_told_of_each_name(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(name: str) -> None:
        error = errors.Conflict("update container", name, "no")
        error.add_note(f"also: {name} besides")
        raise error

    assert main.for_each(["one", "two"], fail) == 1
    assert capsys.readouterr().err.splitlines() == [
        "pycontainer: update container: one: no",
        "pycontainer: also: one besides",
        "pycontainer: update container: two: no",
        "pycontainer: also: two besides",
    ]
