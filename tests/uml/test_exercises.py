"""The exercises' answers are what is printed: those that need a controller of cgroup v2."""

from __future__ import annotations

import pathlib

import pytest
from conftest import Pycontainer
from exercises import Exercise, check, exercises


@pytest.mark.parametrize("exercise", exercises("Controllers"), ids=repr)
def test_the_answer(exercise: Exercise, busybox: str, pycontainer: Pycontainer, programs: pathlib.Path) -> None:
    check(exercise, pycontainer, programs)
