"""A stack of things to undo, as contextlib.ExitStack, whose import would cost more than a mount.

    with Undo() as undo:
        descriptor = os.open(…)
        undo.push(os.close, descriptor)
        …
        undo.forget()      # all went well: keep what was made

Unlike ExitStack's, a step that fails does not stop the others. All failures are told: the first is raised, or the one
that had ended the block, and the others are its notes (PEP 678).

The signals that end a command wait until the block has ended, undone or not. Otherwise one that raises an exception
between a step and its push would leave the step undone, and one in the middle of the undoing the rest of it. Where the
block waits for somebody else, `wait_readable` lets them in.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

from pycontainer.kernel.signals import SIGHUP, SIGINT, SIGTERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_HELD = (SIGHUP, SIGINT, SIGTERM)


class Undo:
    """Calls what was pushed, last first, when its `with` block ends in any way."""

    __slots__ = ("_mask", "_steps")

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._mask: set[int] = set()

    def push(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Call `function(*arguments, **options)` at the end."""
        self._steps.append((function, arguments, options))

    def forget(self) -> None:
        """Undo nothing of what was pushed so far."""
        self._steps.clear()

    def __enter__(self) -> Undo:
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _HELD)
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        failures: list[BaseException] = []
        while self._steps:
            function, arguments, options = self._steps.pop()
            try:
                function(*arguments, **options)
            except BaseException as failure:  # everything, because the other steps must run whatever this one met
                failures.append(failure)
        # A signal that has waited may raise its exception here.
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
        told = error or (failures.pop(0) if failures else None)
        for other in failures:
            told.add_note(f"also: {_words(other)}")  # type: ignore[union-attr]
        if told is not None and error is None:
            raise told


def _words(failure: BaseException) -> str:
    """What an error says, on one line; of one from the system also on what."""
    filename = getattr(failure, "filename", None)
    if filename:
        return f"{filename}: {(getattr(failure, 'strerror', '') or str(failure)).lower()}"
    return " ".join(str(failure).split("\n")) or type(failure).__name__


def wait_readable(descriptor: int) -> None:
    """Inside a block of Undo, where nothing is half done: until there is something to read, or the end.

    The signals that wait, or come meanwhile, have their effect here: what they raise is raised. By ppoll(2), because a
    signal that came between the interpreter's last look for one and a plain wait would be seen after the wait only.
    Raises OSError.
    """
    import ctypes
    import select
    import struct

    from pycontainer.kernel import syscalls

    blocked = sum(1 << (number - 1) for number in _signal.pthread_sigmask(_signal.SIG_BLOCK, ()) if number not in _HELD)
    # A sigset_t of libc's, of which the kernel reads the first eight bytes.
    mask = ctypes.create_string_buffer(blocked.to_bytes(128, "little"), 128)
    asked = ctypes.create_string_buffer(struct.pack("ihh", descriptor, select.POLLIN, 0))
    while True:
        try:
            syscalls.call("ppoll", asked, 1, None, mask)
            return
        except InterruptedError:
            # By a signal whose handler has returned.
            continue
