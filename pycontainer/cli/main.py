"""`pycontainer`: the command line's entry, and the exit statuses."""

from __future__ import annotations

import errno
import gc
import os
import sys

from pycontainer import __version__
from pycontainer.errors import HostError, PycontainerError, printable
from pycontainer.kernel import signals, standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pycontainer.cli.commands import Command


_REMEDIES = {
    errno.ENOSPC: "the disk is full: pycontainer system df shows what takes how much, rm and prune free it",
    errno.EDQUOT: "the disk quota is used up: pycontainer system df shows what takes how much",
    errno.EMFILE: "this process may not open more files: see ulimit -n",
    errno.ENFILE: "the whole machine may not open more files: see sysctl fs.file-max",
    errno.EFBIG: "this process may not write a file that large: see ulimit -f",
    errno.EROFS: "the file system is mounted read-only: nothing can be changed there",
}


def main() -> None:
    """Run the command line and exit with its status."""
    # A start lives too briefly to have garbage worth looking for; what stays longer enables it again (relay.py).
    gc.disable()
    os.umask(0o022)
    signals.restore_child_signal()
    standard.open_closed()
    arguments = sys.argv[1:]
    status = guard(lambda: dispatch(arguments))
    # Here, because the interpreter would print a traceback if it met the error at its end.
    status = guard(_flush) or status
    # The interpreter's own tear-down would cost some milliseconds and has nothing left to do.
    os._exit(status)


def _flush() -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise HostError("write to standard output", "", (error.strerror or str(error)).lower()) from None
    return 0


def dispatch(arguments: list[str]) -> int:
    """Do what the words say; the exit status. Raises UsageError."""
    if arguments == ["--version"]:
        print(f"pycontainer {__version__}")
        return 0
    from pycontainer.cli import commands, options

    found = commands.find(arguments)
    if found is None:
        from pycontainer.cli.help import guide

        return guard(lambda: guide(arguments), passes_status=False)
    command, rest = found
    # Here, because a wrong option gives 125 with every command, as docker has it.
    values, operands = options.parse(command, rest)
    return guard(lambda: _call(command, values, operands), passes_status=command.passes_status)


def _call(command: Command, values: dict[str, Any], operands: list[str]) -> int:
    if "help" in values:
        from pycontainer.cli.help import guide

        return guide(command.words.split())
    command.check(operands)
    from pycontainer.engine.settings import Settings

    status: int = command.load()(Settings(), values, operands)
    return status


def guard(function: Callable[[], int], *, passes_status: bool = True) -> int:
    """Call `function`; what it raises is printed as one or two lines and becomes the exit status.

    passes_status  what it returns may be a program's, and then our failures are 125, 126 or 127; otherwise they are 1
    """
    failure = 125 if passes_status else 1
    try:
        return function()
    except PycontainerError as error:
        _print_error(str(error))
        _print_notes(error)
        return error.exit_status if passes_status else failure
    except BrokenPipeError:
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _print_error(printable(f"{where}{(error.strerror or str(error)).lower()}"), _remedy(error))
        _print_notes(error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # Everything else is caught here and nowhere deeper: what nobody foresaw.
        _explain(error)
    return failure


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
        return "pycontainer must be run as root: put sudo before the command"
    return _REMEDIES.get(error.errno or 0, "")


def _print_notes(error: BaseException) -> None:
    """What went wrong besides, while things were put away."""
    for note in getattr(error, "__notes__", []):
        _print_error(printable(note))


def _explain(error: Exception) -> None:
    if type(error).__module__ == "sqlite3":
        _print_error(f"use the database: {printable(str(error))}")
        return
    if os.environ.get("PYCONTAINER_DEBUG"):
        import traceback

        traceback.print_exc()
    hint = "this is a fault of pycontainer's; PYCONTAINER_DEBUG=1 shows where"
    _print_error(f"{type(error).__name__}: {printable(str(error))}", hint)


def notice(text: str) -> None:
    """A line for the user that is not an error."""
    _print_error(printable(text))


def for_each(names: Iterable[str], action: Callable[[str], None]) -> int:
    """Call `action` for each name, also when it fails for an earlier one; 1 when it failed for any."""
    status = 0
    for name in names:
        try:
            action(name)
        except PycontainerError as error:
            _print_error(str(error))
            _print_notes(error)
            status = 1
    return status


def _print_error(message: str, hint: str = "") -> None:
    text = f"{message}\nhint: {hint}" if hint else message
    try:
        sys.stderr.write(f"pycontainer: {text}\n")
    except OSError:
        pass
