"""`pycontainer`: the command line's entry. The quick way for `run`, click for everything else."""

from __future__ import annotations

import gc
import os
import sys

from pycontainer import __version__
from pycontainer.errors import HostError, PycontainerError, printable
from pycontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def main() -> None:
    """Run the command line and exit with its status."""
    # A start lives too briefly to have garbage worth looking for; what stays longer enables it again (relay.py).
    gc.disable()
    os.umask(0o022)
    signals.restore_child_signal()
    _open_standard_descriptors()
    arguments = sys.argv[1:]
    status = guard(lambda: _dispatch(arguments))
    # Here, because the interpreter would print a traceback if it met the error at its end.
    status = guard(_flush) or status
    # The interpreter's own tear-down would cost some milliseconds and has nothing left to do.
    os._exit(status)


def _open_standard_descriptors() -> None:
    """/dev/null in place of those that the caller closed, so that no file of ours takes the number 0, 1 or 2."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _flush() -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise HostError("write to standard output", "", (error.strerror or str(error)).lower()) from None
    return 0


def _dispatch(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"pycontainer {__version__}")
        return 0
    if arguments[:1] == ["run"]:
        from pycontainer.cli import options

        parsed = options.parse(options.RUN, arguments[1:])
        if parsed is not None and parsed[1]:
            return run(*parsed)
    from pycontainer.cli.app import app

    result: Any = app.main(arguments, prog_name="pycontainer", standalone_mode=False)
    return result if isinstance(result, int) else 0


def run(values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer run`; the container's exit status. Raises PycontainerError, OSError."""
    from pycontainer.engine.config import ContainerConfig

    config = ContainerConfig(operands[0], operands[1:], values)
    from pycontainer.engine.run import run as run_container
    from pycontainer.engine.settings import Settings

    return run_container(Settings(), config, notice)


def guard(function: Callable[[], int]) -> int:
    """Call `function`; what it raises is printed as one or two lines and becomes the exit status."""
    try:
        return function()
    except PycontainerError as error:
        _print_error(str(error))
        return error.exit_status
    except BrokenPipeError:
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _print_error(printable(f"{where}{(error.strerror or str(error)).lower()}"))
        return 125
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # Everything else is caught here and nowhere deeper: click's own errors, and ours that nobody foresaw.
        return _explain(error)


def _explain(error: Exception) -> int:
    kind = type(error)
    if kind.__module__.startswith("click"):
        import click

        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            return 125
        if isinstance(error, click.ClickException):
            message = error.format_message().rstrip(".")
            context = getattr(error, "ctx", None)
            hint = f"see `{context.command_path} --help`" if context else ""
            _print_error(message[:1].lower() + message[1:], hint)
            return 125 if isinstance(error, click.UsageError) else error.exit_code
        return 1
    if kind.__module__ == "sqlite3":
        _print_error(
            f"write the database: {printable(str(error))}", "is the disk full?" if "full" in str(error) else ""
        )
        return 125
    if os.environ.get("PYCONTAINER_DEBUG"):
        import traceback

        traceback.print_exc()
    hint = "this is a fault of pycontainer's; PYCONTAINER_DEBUG=1 shows where"
    _print_error(f"{kind.__name__}: {printable(str(error))}", hint)
    return 125


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
            status = 1
    return status


def _print_error(message: str, hint: str = "") -> None:
    text = f"{message}\nhint: {hint}" if hint else message
    try:
        sys.stderr.write(f"pycontainer: {text}\n")
    except OSError:
        pass
