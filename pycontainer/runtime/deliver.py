"""Signals for a container's first process, with the effect that they would have on any other."""

from __future__ import annotations

import os

from pycontainer.kernel import signals, syscalls

# What these do by default is nothing or a stop, not an end: signal(7).
_HARMLESS = {signals.NUMBERS[f"SIG{name}"] for name in ("CHLD", "CONT", "URG", "WINCH", "TSTP", "TTIN", "TTOU", "STOP")}


def deliver(pidfd: int, number: int) -> bool:
    """Send a signal to PID 1 of a container; True where it was turned into SIGKILL. Raises OSError.

    The kernel drops a signal for PID 1 of a namespace that has no handler for it: pid_namespaces(7). Such a program
    would be ended by it anywhere else, so it is ended here too, and its status is to be given as 128 + number.
    """
    fatal = not is_handled(pidfd, number)
    signals.send(pidfd, signals.SIGKILL if fatal else number)
    return fatal


def is_handled(pidfd: int, number: int) -> bool:
    """Whether the process has a handler for the signal, ignores, blocks or awaits it, or it would not end it."""
    if number in _HARMLESS or number == signals.SIGKILL:
        return True
    try:
        with open(f"/proc/self/fdinfo/{pidfd}") as file:
            pid = next(int(line[4:]) for line in file if line.startswith("Pid:"))
        with open(f"/proc/{pid}/status") as file:
            masks = [int(line[8:], 16) for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    except (OSError, StopIteration, ValueError):
        return True
    try:
        with open(f"/proc/{pid}/syscall") as file:
            system_call = file.read().split()[0]
    except (OSError, IndexError):
        # A kernel without this file (CONFIG_HAVE_ARCH_TRACEHOOK), or the process has ended.
        system_call = ""
    # Blocked for a signalfd(2), or awaited in sigtimedwait(2), as init programs do, is handled as well.
    if system_call == str(syscalls.number("rt_sigtimedwait")):
        return True
    return any(mask >> (number - 1) & 1 for mask in masks)


def wait(pidfd: int, fatal: int) -> int:
    """Reap the process: its own status, or 128 + n when signal n ended it. `fatal`: what `deliver` turned into SIGKILL.

    Raises ChildProcessError where it is no child of ours, or was reaped.
    """
    return reap(pidfd, fatal)[0]


def reap(pidfd: int, fatal: int) -> tuple[int, int]:
    """As `wait`, with the signal that ended it, 0 where it ended by itself: it may choose any status for that."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert result is not None
    if result.si_code == os.CLD_EXITED:
        return result.si_status, 0
    number = fatal if fatal and result.si_status == signals.SIGKILL else result.si_status
    return 128 + number, number
