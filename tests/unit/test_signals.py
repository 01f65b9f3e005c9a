"""Signal names and numbers, and sending through a pidfd."""

from __future__ import annotations

import os
import signal

import pytest

from pycontainer.kernel import signals

NAMED = {item.name: int(item) for item in signal.Signals if not item.name.startswith("SIGRT")}


@pytest.mark.parametrize(("name", "number"), NAMED.items())
def test_every_name_is_known(name: str, number: int) -> None:
    for text in (name, name.removeprefix("SIG"), name.lower(), str(number), f"SIG{number}"):
        assert signals.parse(text) == number, text
    assert signals.NUMBERS[name] == number
    assert signals.NUMBERS[signals.name(number)] == number


@pytest.mark.parametrize(("text", "number"), [("RTMIN", 34), ("SIGRTMIN+0", 34), ("rtmin+3", 37), ("RTMIN+30", 64)])
def test_real_time_signals(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize(
    "text", ["", "SIG", "0", "-1", "65", "BOGUS", "SIG_DFL", "_DFL", "RTMIN+31", "RTMIN-1", "RTMIN+x", "9 ", "1.0"]
)
def test_what_is_no_signal(text: str) -> None:
    assert signals.parse(text) is None


@pytest.mark.parametrize("text", ["\u00b2", "RTMIN+\u00b2", "\u0669", "9" * 5000, "RTMIN+" + "9" * 5000])
def test_what_only_looks_like_a_number(text: str) -> None:
    """Superscripts are digits to str.isdigit() and not to int(), which also refuses very many of them."""
    assert signals.parse(text) is None


@pytest.mark.parametrize("number", range(1, 65))
def test_a_name_reads_back(number: int) -> None:
    name = signals.name(number)
    if number not in (32, 33):  # libc's own, without a name
        assert signals.parse(name) == number


def child(code: int | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        if code is None:
            while True:
                signal.pause()
        os._exit(code)
    return pid


def test_send_reaches_the_process_and_says_when_it_is_gone() -> None:
    pid = child()
    pidfd = os.pidfd_open(pid)
    try:
        assert signals.send(pidfd, signals.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signals.SIGKILL
        assert not signals.send(pidfd, signals.SIGTERM)
    finally:
        os.close(pidfd)


def test_restore_defaults_gives_a_new_programs_signals() -> None:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signals.restore_defaults()
        good = all(
            signal.getsignal(number) in (signal.SIG_DFL, None)
            for number in signal.valid_signals()
            if number not in (signal.SIGKILL, signal.SIGSTOP)
        )
        good = good and not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_reported_signals_are_bytes_in_a_pipe() -> None:
    pid = os.fork()
    if pid == 0:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        signals.report_to(writer, [signals.SIGTERM, signals.SIGWINCH])
        os.kill(os.getpid(), signals.SIGTERM)
        os.kill(os.getpid(), signals.SIGWINCH)
        seen = os.read(reader, 10)
        os._exit(0 if set(seen) == {signals.SIGTERM, signals.SIGWINCH} else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_first_signal_raises_and_later_ones_do_nothing() -> None:
    class Ended(BaseException):
        pass

    pid = os.fork()
    if pid == 0:
        # An ignored signal stays ignored: nohup(1).
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.raise_on((signals.SIGTERM, signals.SIGINT, signals.SIGHUP), Ended)
        status = 1
        try:
            os.kill(os.getpid(), signals.SIGHUP)
            os.kill(os.getpid(), signals.SIGTERM)
            signal.pause()
        except Ended as ended:
            os.kill(os.getpid(), signals.SIGINT)
            status = 0 if ended.args == (signals.SIGTERM,) else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
