"""Undo: last first, none skipped, the first error wins."""

from __future__ import annotations

import pytest

from pycontainer.kernel.undo import Undo


def test_steps_are_undone_last_first_with_their_arguments() -> None:
    done: list[object] = []
    with Undo() as undo:
        undo.push(done.append, 1)
        undo.push(done.append, 2)
        undo.push(lambda *arguments: done.append(arguments), "a", "b")
        assert done == []
    assert done == [("a", "b"), 2, 1]


def test_forget_keeps_what_was_made_and_nothing_that_comes_after() -> None:
    done: list[int] = []
    with Undo() as undo:
        undo.push(done.append, 1)
        undo.forget()
        undo.push(done.append, 2)
    assert done == [2]


def test_an_error_undoes_and_goes_on() -> None:
    done: list[int] = []
    with pytest.raises(KeyError, match="first"):
        with Undo() as undo:
            undo.push(done.append, 1)
            raise KeyError("first")
    assert done == [1]


def fail(error: BaseException) -> None:
    raise error


def test_a_failing_step_does_not_stop_the_others() -> None:
    done: list[int] = []
    with pytest.raises(OSError, match="two"):
        with Undo() as undo:
            undo.push(done.append, 1)
            undo.push(fail, OSError("one"))
            undo.push(done.append, 2)
            undo.push(fail, OSError("two"))  # undone first, so this is the first failure
            undo.push(done.append, 3)
    assert done == [3, 2, 1]


def test_a_failing_step_never_hides_the_error() -> None:
    done: list[int] = []
    with pytest.raises(KeyError):
        with Undo() as undo:
            undo.push(done.append, 1)
            undo.push(fail, OSError("hidden"))
            raise KeyError("seen")
    assert done == [1]


def test_even_an_interruption_does_not_stop_the_others() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        with Undo() as undo:
            undo.push(done.append, 1)
            undo.push(fail, KeyboardInterrupt())
    assert done == [1]


def test_a_step_may_push_another() -> None:
    done: list[int] = []
    with Undo() as undo:
        undo.push(lambda: undo.push(done.append, 7))
    assert done == [7]


def test_all_failures_are_told() -> None:
    with pytest.raises(KeyError) as caught, Undo() as undo:
        undo.push(fail, OSError(28, "No space left on device", "/some/file"))
        undo.push(fail, ValueError("two\nlines"))
        raise KeyError("first")
    assert caught.value.__notes__ == ["also: two lines", "also: /some/file: no space left on device"]
    with pytest.raises(ValueError, match="x") as raised, Undo() as undo:
        undo.push(fail, TypeError("y"))
        undo.push(fail, ValueError("x"))
    assert raised.value.__notes__ == ["also: y"]
