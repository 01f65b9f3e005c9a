"""What a monitor has done by a child of its own."""

from __future__ import annotations

import os

import pytest

from pycontainer.errors import HostError, UsageError
from pycontainer.monitor import errand


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fail() -> int:
    raise ValueError("nobody hears of it")


def test_a_child_ends_with_the_status_of_its_function() -> None:
    assert [status_of(errand.begin(lambda: each)) for each in (0, 7)] == [0, 7]  # noqa: B023
    assert status_of(errand.begin(fail)) == 1


def test_what_it_returns_and_raises_is_its_callers() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"hello")
    answer, (passed,) = errand.run(lambda: ({"found": 1}, [reader]))
    assert answer == {"found": 1}
    assert os.read(passed, 9) == b"hello"
    for each in (reader, writer, passed):
        os.close(each)

    def refuse() -> tuple[dict[str, object], list[int]]:
        raise UsageError("not that")

    with pytest.raises(UsageError, match="not that"):
        errand.run(refuse)
    with pytest.raises(HostError, match="was killed"):
        errand.run(lambda: os._exit(0))


def test_after_its_answer_it_goes_on() -> None:
    reader, writer = os.pipe()
    pid, channel = errand.start(lambda: ({}, []), lambda _: os.write(writer, b"x") + os.read(reader, 1)[0])
    errand.await_answer(pid, channel)
    assert errand.answer(channel) == ({}, [])
    channel.close()
    assert status_of(pid) == 1 + ord("x")
    os.close(reader)
    os.close(writer)


def test_an_answer_that_nobody_waits_for_is_a_failure() -> None:
    reader, writer = os.pipe()

    def answer_late() -> tuple[dict[str, object], list[int]]:
        os.close(writer)
        os.read(reader, 1)
        return {}, []

    pid, channel = errand.start(answer_late, lambda _: 0)
    channel.close()
    os.close(writer)
    assert status_of(pid) == 1
    os.close(reader)
