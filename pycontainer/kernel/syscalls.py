"""The way into the kernel: libc's functions, and system calls that libc has no function for.

Every wrapper in this package goes through `call` or `syscall`, which raise OSError(errno, message, path), and record
the call where the wrapper says how its arguments are shown: record.py.
"""

from __future__ import annotations

import ctypes
import os

from pycontainer.kernel import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    # Position -> how that argument is shown; all others as what they are. None for what changes nothing.
    Shown = Mapping[int, Callable[[Any], str]]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

_MACHINE = os.uname().machine

# Numbers from 424 on are the same on every architecture (since Linux 5.1); older ones are not.
_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_OLD_NUMBERS = {
    "x86_64": {
        "rt_sigtimedwait": 128,
        "pivot_root": 155,
        "keyctl": 250,
        "ioprio_set": 251,
        "ioprio_get": 252,
        "sched_setattr": 314,
        "bpf": 321,
    },
    "aarch64": {
        "rt_sigtimedwait": 137,
        "pivot_root": 41,
        "keyctl": 219,
        "ioprio_set": 30,
        "ioprio_get": 31,
        "sched_setattr": 274,
        "bpf": 280,
    },
}
_NUMBERS.update(_OLD_NUMBERS.get(_MACHINE, {}))


def number(name: str) -> int:
    """The number of a system call on this machine. Raises OSError with ENOSYS on one that this table lacks."""
    if name not in _NUMBERS:
        raise OSError(38, f"{name}: no system call number known for {_MACHINE}")
    return _NUMBERS[name]


PLAIN: Shown = {}


def call(name: str, *arguments: object, path: str = "", shown: Shown | None = None) -> int:
    """Call libc's function `name`; its result. Raises OSError with `path` as its filename."""
    result: int = getattr(libc, name)(*arguments)
    return _returned(name, arguments, result, path, shown)


def syscall(name: str, *arguments: object, path: str = "", shown: Shown | None = None) -> int:
    """Make the system call `name`; its result. Raises OSError (ENOSYS on an architecture this table lacks)."""
    # Each argument is passed as a whole register, because syscall(2) is variadic.
    result: int = libc.syscall(ctypes.c_long(number(name)), *(_register(argument) for argument in arguments))
    return _returned(name, arguments, result, path, shown)


def _returned(name: str, arguments: tuple[object, ...], result: int, path: str, shown: Shown | None) -> int:
    error = ctypes.get_errno() if result < 0 else 0
    if record.lines is not None and shown is not None:
        texts = [shown.get(place, _plain)(_value(argument)) for place, argument in enumerate(arguments)]
        record.made(name, texts, result, error)
    if result < 0:
        raise OSError(error, os.strerror(error), path or None)
    return result


def _value(argument: object) -> object:
    return getattr(argument, "value", argument)


def _plain(value: object) -> str:
    if value is None:
        return "NULL"
    return record.quoted(os.fsdecode(value)) if isinstance(value, bytes) else str(value)


def _register(argument: object) -> object:
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


def decode(flags: int, names: dict[str, int]) -> str:
    """`flags` as strace(1) prints them: "MS_NOSUID|MS_NODEV", the rest in hexadecimal, "0" for none."""
    parts = []
    rest = flags
    for name, value in names.items():
        if value and flags & value == value and rest & value:
            parts.append(name)
            rest &= ~value
    if rest or not parts:
        parts.append(hex(rest) if rest else "0")
    return "|".join(parts)
