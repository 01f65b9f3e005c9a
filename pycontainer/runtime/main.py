"""`pycontainer-runtime`: the OCI runtime's command line, with the grammar of runc.

Parsed by hand, because argparse alone costs as much as starting the container.
"""

from __future__ import annotations

import gc
import os
import sys

from pycontainer import __version__
from pycontainer.errors import HostError, NotFound, PycontainerError, UsageError
from pycontainer.kernel import signals, standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from pycontainer.kernel.operation import Journal
    from pycontainer.runtime.error_log import ErrorLog
    from pycontainer.runtime.launch import Container

# option -> (its name, whether it takes a value)
_OPTIONS: dict[str, dict[str, tuple[str, bool]]] = {
    "": {
        "--root": ("root", True),
        "--log": ("log", True),
        "--log-format": ("log-format", True),
        "--debug": ("debug", False),
        "--systemd-cgroup": ("systemd-cgroup", False),
        "-v": ("version", False),
        "--version": ("version", False),
    },
    "create": {
        "-b": ("bundle", True),
        "--bundle": ("bundle", True),
        "--pid-file": ("pid-file", True),
        "--console-socket": ("console-socket", True),
        "--explain": ("explain", False),
    },
    "start": {},
    "state": {},
    "exec": {
        "-p": ("process", True),
        "--process": ("process", True),
        "-t": ("tty", False),
        "--tty": ("tty", False),
        "-d": ("detach", False),
        "--detach": ("detach", False),
        "--pid-file": ("pid-file", True),
        "--console-socket": ("console-socket", True),
        "--explain": ("explain", False),
        "--cwd": ("cwd", True),
        "-e": ("env", True),
        "--env": ("env", True),
        "-u": ("user", True),
        "--user": ("user", True),
        "-g": ("additional-gids", True),
        "--additional-gids": ("additional-gids", True),
        "-c": ("cap", True),
        "--cap": ("cap", True),
        "--no-new-privs": ("no-new-privs", False),
    },
    "kill": {"-a": ("all", False), "--all": ("all", False)},
    "delete": {"-f": ("force", False), "--force": ("force", False)},
    "features": {},
    "spec": {"-b": ("bundle", True), "--bundle": ("bundle", True), "--rootless": ("rootless", False)},
    "list": {"-q": ("quiet", False), "--quiet": ("quiet", False), "-f": ("format", True), "--format": ("format", True)},
}
_OPTIONS["update"] = {"-r": ("resources", True)} | {
    f"--{name}": (name, True)
    for name in (
        "resources", "memory", "memory-reservation", "memory-swap", "cpu-period", "cpu-quota", "cpu-burst", "cpu-share",
        "cpu-idle", "cpu-rt-period", "cpu-rt-runtime", "cpuset-cpus", "cpuset-mems", "pids-limit", "blkio-weight",
    )
}  # fmt: skip
_OPTIONS["run"] = _OPTIONS["create"] | {"-d": ("detach", False), "--detach": ("detach", False)}
_OPTIONS["run"]["--keep"] = ("keep", False)
for _table in _OPTIONS.values():
    _table["-h"] = _table["--help"] = ("help", False)
# These may stand more than once, and their value is a list.
_LISTS = ("env", "additional-gids", "cap")
# Their first operand is followed by somebody else's options: a command's own.
_LEADING = ("", "exec")
_callers_umask = 0o022
_log: ErrorLog | None = None


def _parse(arguments: list[str], command: str) -> tuple[dict[str, Any], list[str]]:
    """(options by name, all operands). In those of _LEADING whatever follows the first operand is an operand."""
    table = _OPTIONS[command]
    options: dict[str, Any] = {}
    operands: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            operands.append(word)
            if command in _LEADING:
                return options, operands + rest
            continue
        if word == "--":
            return options, operands + rest
        name, equals, value = word.partition("=")
        if name not in table:
            raise UsageError(f"pycontainer-runtime {command}".rstrip(), name, "unknown option", "see --help")
        option, takes_value = table[name]
        if equals and not takes_value:
            raise UsageError(f"pycontainer-runtime {command}".rstrip(), name, "takes no value", "see --help")
        if takes_value and not equals:
            if not rest:
                raise UsageError(f"pycontainer-runtime {command}".rstrip(), name, "needs a value", "see --help")
            value = rest.pop(0)
        if option in _LISTS:
            options.setdefault(option, []).append(value)
        else:
            options[option] = value if takes_value else "1"
    return options, operands


def main() -> None:
    """Run one command and exit: 0, 1 on an error (as runc), or for `run` the program's own status."""
    # A start lives too briefly to have garbage worth looking for; what stays longer enables it again (relay.py).
    gc.disable()
    standard.open_closed()
    global _callers_umask, _log
    _callers_umask = os.umask(0o022)
    signals.restore_child_signal()
    signals.raise_ended()
    try:
        # Before anything else is looked at, because whoever reads the log wants to know of every error.
        _log = _open_log(_peek(sys.argv[1:]))
        status = _main(sys.argv[1:])
    except signals.Ended as ended:
        status = 128 + ended.number
        signals.die_of(ended.number)
    except _ExecFailed as failed:
        # As in runc: 1 would be taken for the program's own.
        status = _complain(failed.error, 255)
    except Exception as error:
        # Everything, because whoever calls a runtime reads one line and a status, and no traceback.
        status = _complain(error, 1)
    sys.stdout.flush()
    # The interpreter's own tear-down would cost some milliseconds and has nothing left to do.
    os._exit(status)


def _peek(arguments: list[str]) -> dict[str, str]:
    """The global options as far as they can be read, whatever else is wrong with them."""
    options = {}
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-") or word == "--":
            break
        name, equals, value = word.partition("=")
        option, takes_value = _OPTIONS[""].get(name, (name, False))
        options[option] = value if equals or not takes_value else next(rest, "")
    return options


def _open_log(settings: dict[str, str]) -> ErrorLog | None:
    if not settings.get("log"):
        return None
    from pycontainer.runtime.error_log import ErrorLog

    return ErrorLog(settings["log"], settings.get("log-format", "text"), debug="debug" in settings)


def _complain(error: Exception, status: int) -> int:
    """Print and log what went wrong; `status`, or that of a program which cannot be executed."""
    hint = ""
    if isinstance(error, PycontainerError):
        message, hint = error.message, str(error).partition("\n")[2]
        if error.exit_status in (126, 127):
            status = error.exit_status
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{(error.strerror or str(error)).lower()}"
    else:
        message = f"{type(error).__name__}: {error}"
        hint = "hint: this is a fault of pycontainer's; PYCONTAINER_DEBUG=1 shows where"
    _write_log(error, message)
    if not isinstance(error, (PycontainerError, OSError)) and os.environ.get("PYCONTAINER_DEBUG"):
        raise error
    sys.stderr.write(f"pycontainer-runtime: {message}\n{hint}\n" if hint else f"pycontainer-runtime: {message}\n")
    return status


def _warn(warnings: list[str]) -> None:
    """Print and log what was left out."""
    for warning in warnings:
        _write_log(None, warning)
        sys.stderr.write(f"pycontainer-runtime: warning: {warning}\n")


def _write_log(error: Exception | None, message: str) -> None:
    if _log is not None:
        try:
            _log.write(error, message)
        except UsageError as failed:
            # Said, not raised, because the error itself is what the caller must see.
            sys.stderr.write(f"pycontainer-runtime: {failed}\n")


class _ExecFailed(Exception):
    """What kept `exec` from executing its program."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _main(arguments: list[str]) -> int:
    settings, rest = _parse(arguments, "")
    if "version" in settings:
        from pycontainer.runtime.state import OCI_VERSION

        print(f"pycontainer-runtime {__version__}\nspec: {OCI_VERSION}")
        return 0
    if "help" in settings or rest[:1] in (["help"], ["h"]):
        return _help()
    if "log-format" in settings:
        from pycontainer.runtime.error_log import check_format

        check_format(settings["log-format"])
    if not rest:
        # As in runc, where nothing to do is no mistake.
        return _help()
    if rest[0] not in _COMMANDS:
        raise UsageError(rest[0], "no such command", hint="see --help")
    if "systemd-cgroup" in settings:
        raise UsageError("pycontainer-runtime", "--systemd-cgroup", "cgroups are made directly in cgroupfs")
    root = settings.get("root", "/run/pycontainer/runtime")
    options, operands = _parse(rest[1:], rest[0])
    if "help" in options:
        return _help()
    return _COMMANDS[rest[0]](root, options, operands)


def _help() -> int:
    from pycontainer.runtime.usage import USAGE

    sys.stdout.write(USAGE)
    return 0


def _one_id(operands: list[str], most: int = 1) -> str:
    if not operands or len(operands) > most:
        raise UsageError("pycontainer-runtime", " ".join(operands), "expected one container id", "see --help")
    return operands[0]


def _create(root: str, options: dict[str, Any], operands: list[str]) -> int:
    return _make_and_leave(root, options, _one_id(operands), start=False)


def _make_and_leave(root: str, options: dict[str, Any], container_id: str, *, start: bool) -> int:
    """Have a container that outlives this process; a signal that comes before it is there leaves nothing of it."""
    from pycontainer.kernel.undo import Undo
    from pycontainer.runtime import launch

    with Undo() as undo:
        made = _make(root, options, container_id, _connect_console(options))
        undo.push(launch.delete, made.state, force=True)
        if start:
            launch.start(made.state)
        signals.finish()
        undo.forget()
    return 0


def _connect_console(options: dict[str, Any]) -> _socket.socket | None:
    path = options.get("console-socket")
    if not path:
        return None
    import _socket

    console = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        console.connect(path)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise UsageError("connect to --console-socket", path, cause) from None
    return console


def _make(
    root: str,
    options: dict[str, Any],
    container_id: str,
    console: _socket.socket | None,
    tethered: bool = False,
) -> Container:
    journal = _open_journal(options)
    from pycontainer.runtime import launch, spec, state

    wanted = spec.load(options.get("bundle", "."))
    _warn(wanted.warnings)
    container = launch.create(
        wanted,
        container_id,
        root,
        journal,
        console=console,
        tethered=tethered,
    )
    try:
        state.write_pid(options.get("pid-file", ""), container.state.pid)
    except UsageError:
        launch.delete(container.state, force=True)
        raise
    return container


def _open_journal(options: dict[str, Any]) -> Journal:
    if os.geteuid() != 0:
        raise HostError("this must be run as root", hint="put sudo before the command")
    from pycontainer.kernel.operation import Journal, wants_bold

    return Journal(os.dup(2) if "explain" in options else None, bold=wants_bold(2))


def _start(root: str, options: dict[str, Any], operands: list[str]) -> int:
    from pycontainer.runtime import launch, state

    launch.start(state.load(root, _one_id(operands)))
    return 0


def _run(root: str, options: dict[str, Any], operands: list[str]) -> int:
    container_id = _one_id(operands)
    if "detach" in options:
        return _make_and_leave(root, options, container_id, start=True)
    from pycontainer.kernel.undo import Undo

    # So that a signal waits until the container is gone again, or runs and is told of it.
    with Undo() as undo:
        from pycontainer.kernel import descriptors
        from pycontainer.runtime import launch
        from pycontainer.runtime.process_relay import ProcessRelay

        ours, theirs = descriptors.pair()
        container = _make(root, options, container_id, theirs, tethered=True)
        undo.push(launch.delete, container.state, force=True)
        relay = ProcessRelay(container.pidfd)
        try:
            relay.adopt_terminal(ours)
            launch.start(container.state)
            return relay.run()
        finally:
            # Before signals have their effect again.
            if "keep" not in options:
                launch.delete(container.state, force=True)
            undo.forget()
            relay.close()


def _exec(root: str, options: dict[str, Any], operands: list[str]) -> int:
    try:
        return _execute(root, options, operands)
    except Exception as error:
        # Everything, because the other statuses are the program's: what failed here has one of its own.
        raise _ExecFailed(error) from None


def _execute(root: str, options: dict[str, Any], operands: list[str]) -> int:
    journal = _open_journal(options)
    from pycontainer.kernel import interpreter
    from pycontainer.runtime import state

    container = state.load(root, _one_id(operands[:1]))
    if container.shares_our_root() and not interpreter.is_read_only():
        interpreter.execute_read_only(sys.orig_argv, dict(os.environ))
    from pycontainer.kernel import descriptors, process
    from pycontainer.kernel.undo import Undo
    from pycontainer.runtime import join, program
    from pycontainer.runtime.process_relay import JoinedRelay

    wanted = program.choose(container.bundle, options, operands[1:])
    _warn(wanted.warnings)
    ours, theirs = descriptors.pair()
    console = _connect_console(options) if "detach" in options else theirs
    # Signals wait, because from the moment when the program runs they are for the program.
    with Undo() as undo:
        joined = join.execute(container, wanted, journal, console=console)
        undo.push(process.end, joined.pidfd)
        state.write_pid(options.get("pid-file", ""), joined.pid)
        undo.forget()
        if "detach" in options:
            return 0
        relay = JoinedRelay(joined.pidfd)
    try:
        relay.adopt_terminal(ours)
        return relay.run()
    finally:
        relay.close()


def _state(root: str, options: dict[str, Any], operands: list[str]) -> int:
    from pycontainer import json_text
    from pycontainer.runtime import state

    print(json_text.dumps(state.load(root, _one_id(operands)).to_json()))
    return 0


def _kill(root: str, options: dict[str, Any], operands: list[str]) -> int:
    from pycontainer.runtime import launch, state

    container = state.load(root, _one_id(operands, most=2))
    signum = _signal(operands[1] if len(operands) > 1 else "TERM")
    if "all" in options and signum == 9 and container.cgroup:
        from pycontainer.kernel import cgroup

        cgroup.kill(container.cgroup)
        return 0
    launch.kill(container, signum)
    return 0


def _signal(text: str) -> int:
    # 0 is sent to learn whether there is somebody to send to: kill(2).
    number = 0 if text == "0" else signals.parse(text)
    if number is None:
        raise UsageError("kill container", text, "no such signal", "give a number or a name such as TERM")
    return number


def _delete(root: str, options: dict[str, Any], operands: list[str]) -> int:
    from pycontainer.runtime import launch, state

    try:
        container = state.load(root, _one_id(operands))
    except NotFound:
        if "force" in options:
            return 0
        raise
    launch.delete(container, force="force" in options)
    return 0


def _update(root: str, options: dict[str, Any], operands: list[str]) -> int:
    from pycontainer.runtime import state, update

    update.update(state.load(root, _one_id(operands)), update.choose(options))
    return 0


def _list(root: str, options: dict[str, Any], operands: list[str]) -> int:
    from pycontainer.runtime import listing

    print(listing.show(root, quiet="quiet" in options, form=options.get("format", "table")), end="")
    return 0


def _spec(root: str, options: dict[str, Any], operands: list[str]) -> int:
    _no_operands("spec", operands)
    from pycontainer.runtime import template

    # Because the file is the caller's, to be edited.
    os.umask(_callers_umask)
    template.write(options.get("bundle", "."), rootless="rootless" in options)
    return 0


def _features(root: str, options: dict[str, Any], operands: list[str]) -> int:
    _no_operands("features", operands)
    from pycontainer.runtime import features

    print(features.show(), end="")
    return 0


def _no_operands(command: str, operands: list[str]) -> None:
    if operands:
        raise UsageError(f"pycontainer-runtime {command}", " ".join(operands), "expected nothing more", "see --help")


_COMMANDS = {
    "run": _run,
    "exec": _exec,
    "create": _create,
    "start": _start,
    "state": _state,
    "kill": _kill,
    "delete": _delete,
    "list": _list,
    "update": _update,
    "spec": _spec,
    "features": _features,
}

if __name__ == "__main__":
    main()
