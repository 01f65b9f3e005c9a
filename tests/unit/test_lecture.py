"""The lecture has a place for every operation, and its lines fit."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest

import pycontainer
from pycontainer.cli.chapters import AT_REST, CONTENTS
from pycontainer.cli.lecture import LEGEND, Lecture
from pycontainer.kernel.operation import Operation
from pycontainer.network.operations import DeleteLink
from pycontainer.runtime.operations.devices import OpenTerminal
from pycontainer.runtime.operations.parent import Clone

# Those of which others are made.
PERFORMED_TOO = {Clone, DeleteLink, OpenTerminal}


def operations() -> set[str]:
    """All that can be performed."""
    for module in pkgutil.walk_packages(pycontainer.__path__, "pycontainer."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = set(), [Operation]
    while waiting:
        each = waiting.pop()
        waiting += each.__subclasses__()
        if each.__module__.startswith("pycontainer.") and (not each.__subclasses__() or each in PERFORMED_TOO):
            found.add(each.__name__)
    return found


def test_every_operation_has_its_place() -> None:
    placed = set().union(*(chapter.operations for chapter in [*CONTENTS, *AT_REST]))
    assert operations() == placed


def record(operation: str, **values: Any) -> dict[str, Any]:
    made = {
        "side": "host",
        "operation": operation,
        "group": "",
        "step": operation,
        "path": "",
        "reason": "r",
        "pid": 77,
    }
    return {**made, "absent": False, "shell": [], **values}


def told(*records: dict[str, Any], width: int = 80, bold: bool = False) -> str:
    text: list[str] = []
    lecture = Lecture(text.append, lambda: text.append("(key)\n"), width=width, bold=bold)
    for each in records:
        lecture.take(each)
    lecture.flush()
    return "".join(text)


def test_steps_are_numbered_and_folded() -> None:
    identity = "f" * 64
    text = told(
        {"define": "ID", "value": identity},
        record("MakeCgroup", path=f"/sys/{identity}", shell=[f"mkdir /sys/{identity}"]),
        record("AttachDeviceFilter"),
        record("Clone", shell=["unshare --pid …"]),
        record("SetName", side="container", pid=4242, shell=["hostname x"]),
    )
    lines = text.splitlines()
    assert lines[0] == f"ID={identity}" and f"{lines[1]}\n" == LEGEND
    assert [line[:14] for line in lines if line[:2].strip().isdigit()] == [
        " 1      host │",
        " 2      host │",
        " 3 container │",
    ]
    assert "│ $ mkdir /sys/$ID" in text and "│ ? cat /sys/$ID/cgroup.procs" in text
    assert "│ $ unshare --pid sh" in text and "│ ? PID=4242; lsns -p $PID" in text
    assert text.count("(key)") == 3


def test_what_is_not_there_is_counted() -> None:
    gone = record("MaskPath", side="container", absent=True)
    masked = record("MaskPath", side="container", shell=["mount --bind /dev/null /x"])
    text = " ".join(told(masked, gone, gone).replace("│", "").split())
    assert "1 paths" in text and "2 more are not on this host." in text and "$ mount --bind /dev/null /x" in text


def test_a_limit_says_what_happens() -> None:
    limit = record("WriteFile", group="cgroup", step="set memory.max", reason="more is never used")
    assert "│ set memory.max: more is never used" in told(record("MakeCgroup", path="/c"), limit)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_lines_fit(width: int) -> None:
    long = "ip link add pyc0123 mtu 1500 -o some=thing -o other=" + "x" * 10 + " peer name eth0"
    text = told(record("CreateVeth", shell=[long]), record("Execute", side="container", shell=["exec x"]), width=width)
    assert max(map(len, text.splitlines()[1:])) <= width
    assert "-o \\" not in text, "an option stays with its value"


def test_only_titles_are_bold() -> None:
    text = told(record("Execute", shell=["exec x"]), bold=True)
    assert text.count("\033[1m") == text.count("\033[0m") == 1
