"""Undo: last first, none skipped, the first error wins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pycontainer.kernel import signals
from pycontainer.kernel.undo import Undo, wait_readable


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


@pytest.fixture
def ended() -> Iterator[None]:
    """SIGTERM raises signals.Ended."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    signals.raise_ended()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_wait_lets_in_what_has_waited(ended: None) -> None:
    reader, writer = os.pipe()
    done: list[int] = []
    with pytest.raises(signals.Ended), Undo() as undo:
        undo.push(done.append, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert done == [], "it waits"
        wait_readable(reader)
    assert done == [1]
    os.close(writer)
    with Undo():
        # The end is something to read.
        wait_readable(reader)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) >= {signal.SIGTERM}
    os.close(reader)


def test_a_wait_goes_on_after_other_signals(ended: None) -> None:
    reader, writer = os.pipe()
    before = signal.signal(signal.SIGALRM, lambda *_: os.write(writer, b"x"))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with Undo():
        wait_readable(reader)
    assert os.read(reader, 1) == b"x"
    signal.signal(signal.SIGALRM, before)
    os.close(reader)
    os.close(writer)


# Waits again and again, each time for a signal that comes at another moment around the beginning of the wait.
WAITS = """
import mmap, os, random, signal, sys
from pycontainer.kernel import signals
from pycontainer.kernel.undo import Undo, wait_readable
signals.raise_ended()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
reader, writer = os.pipe()
shared = mmap.mmap(-1, 1)
pid = os.getpid()

def spin():
    for _ in range(random.randrange(3000)):
        pass

if os.fork() == 0:
    # Awake all the time, because to be woken takes longer than what is to be met.
    while os.getppid() == pid:
        if shared[0]:
            shared[0] = 0
            spin()
            os.kill(pid, signal.SIGTERM)
    os._exit(0)
for number in range(int(sys.argv[1])):
    try:
        with Undo():
            shared[0] = 1
            spin()
            wait_readable(reader)
    except signals.Ended:
        continue
print("all")
"""


def test_no_signal_is_missed() -> None:
    """One that comes between the interpreter's last look for it and the wait, too."""
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", path + WAITS, "20000"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "all\n", done.stderr
