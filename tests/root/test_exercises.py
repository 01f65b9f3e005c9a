"""The exercises' answers are what is printed: those that need no controller of cgroup v2."""

from __future__ import annotations

import pathlib
import re

import pytest
from conftest import Pycontainer
from exercises import PAGE, Exercise, check, exercises, pattern

NAMESPACES = {"PID", "NET", "IPC", "UTS", "MNT", "USER", "cgroup"}


def test_each_namespace_and_controller_has_one() -> None:
    assert {repr(each) for each in exercises("Namespaces")} == NAMESPACES
    assert {repr(each) for each in exercises("Controllers")} == {"memory", "cpu", "pids", "io"}
    everything = exercises("Namespaces", "Rights and files", "Controllers")
    assert len(everything) == len(re.findall("^## ", PAGE.read_text(), re.MULTILINE))


def test_an_answer_that_is_wrong_is_found() -> None:
    for printed in ("a 1\nb\n", "a 22 3\nx\ny\nb\n"):
        assert re.fullmatch(pattern("a   …\n…\nb\n"), printed)
    for printed in ("a 1\n", "a 1\nb\nc\n", "c\na 1\nb\n"):
        assert not re.fullmatch(pattern("a …\n…\nb\n"), printed)


@pytest.mark.parametrize("exercise", exercises("Namespaces", "Rights and files"), ids=repr)
def test_the_answer(exercise: Exercise, busybox: str, pycontainer: Pycontainer, programs: pathlib.Path) -> None:
    check(exercise, pycontainer, programs)
