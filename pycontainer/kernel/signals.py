"""Signals, by number: signal(7), pidfd_send_signal(2).

Built on the interpreter's own `_signal`, because the standard library's `signal` wraps it in enums, whose import costs
four milliseconds: a fifth of what starting a container may take.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

NUMBERS: dict[str, int] = {
    name: number
    for name, number in vars(_signal).items()
    if name.startswith("SIG") and not name.startswith(("SIG_", "SIGRTM"))
}
NSIG: int = _signal.NSIG

SIGHUP = NUMBERS["SIGHUP"]
SIGINT = NUMBERS["SIGINT"]
SIGQUIT = NUMBERS["SIGQUIT"]
SIGKILL = NUMBERS["SIGKILL"]
SIGTERM = NUMBERS["SIGTERM"]
SIGPIPE = NUMBERS["SIGPIPE"]
SIGCHLD = NUMBERS["SIGCHLD"]
SIGCONT = NUMBERS["SIGCONT"]
SIGWINCH = NUMBERS["SIGWINCH"]


def name(number: int) -> str:
    """The signal's name, "SIGRTMIN+3" and the like for real-time ones."""
    for text, value in NUMBERS.items():
        if value == number and text not in ("SIGCLD", "SIGIOT", "SIGPOLL"):
            return text
    return f"SIGRTMIN+{number - 34}" if 34 <= number < NSIG else str(number)


def parse(text: str) -> int | None:
    """A signal number from "9", "KILL", "SIGKILL", "RTMIN+3"; None where it is no signal."""
    word = text.upper().removeprefix("SIG")
    if not word.isascii() or len(word) > 20:
        # isdigit() is true for superscripts too, which int() refuses.
        return None
    if word.isdigit():
        number = int(word)
    elif word.startswith("RTMIN"):
        offset = word[5:].removeprefix("+") or "0"
        number = 34 + int(offset) if offset.isdigit() else 0
    else:
        number = NUMBERS.get(f"SIG{word}", 0)
    return number if 0 < number < NSIG else None


def restore_defaults() -> None:
    """Every signal as a new program expects it, none blocked: Python ignores SIGPIPE, our caller may ignore more."""
    for number in range(1, NSIG):
        if _signal.getsignal(number) not in (_signal.SIG_DFL, None):
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except OSError:
                # EINVAL: SIGKILL, SIGSTOP and libc's own real-time signals
                pass
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def restore_child_signal() -> None:
    """SIGCHLD with its default effect: a caller that ignores it hands that on, and then no child can be waited for."""
    _signal.signal(SIGCHLD, _signal.SIG_DFL)


class Ended(BaseException):
    """A signal asks this process to end. `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def raise_ended() -> None:
    """SIGHUP, SIGINT and SIGTERM raise Ended, so that what is half done is undone. What is ignored stays so."""
    for number in (SIGHUP, SIGINT, SIGTERM):
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, _raise_ended)


def _raise_ended(number: int, frame: object) -> None:
    raise Ended(number)


def check_held() -> None:
    """Raise Ended where a signal that ends the process waits for the end of a block of Undo."""
    for number in (SIGHUP, SIGINT, SIGTERM):
        if number in _signal.sigpending():
            raise Ended(number)


def finish() -> None:
    """It is done. Raise Ended for a signal that came before; from now on none keeps this process from saying so."""
    check_held()
    ignore([SIGHUP, SIGINT, SIGTERM])


def die_of(number: int) -> None:
    """End this process as the signal ends any other."""
    _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (number,))
    _signal.raise_signal(number)


def ignore(numbers: list[int]) -> None:
    """These have no effect from now on."""
    for number in numbers:
        _signal.signal(number, _signal.SIG_IGN)


def report_to(descriptor: int, numbers: list[int]) -> dict[int, object]:
    """From now on each of these signals is only a byte, its number, written to the non-blocking `descriptor`.

    Returns what had been done with them, for `stop_reporting`.
    """
    _signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    # What is ignored stays so: nohup(1) asks for it.
    before = {number: _signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not _signal.SIG_IGN}
    for number in before:
        _signal.signal(number, _ignore_in_python)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, numbers)
    return before


def stop_reporting(before: dict[int, object]) -> None:
    """End what `report_to` began: the signals have the effect again that they had before."""
    _signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)


def _ignore_in_python(number: int, frame: object) -> None:
    pass


def send(pidfd: int, number: int) -> bool:
    """Send a signal through a pidfd; False when the process is gone already. Raises OSError."""
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def raise_on(numbers: tuple[int, ...], error: type[BaseException]) -> None:
    """The first of these signals raises `error(number)` wherever the program is; later ones are ignored."""

    def handle(number: int, frame: object) -> None:
        for other in numbers:
            _signal.signal(other, _ignore_in_python)
        raise error(number)

    for number in numbers:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, handle)
