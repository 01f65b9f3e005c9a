"""`pycontainer-runtime`: the OCI runtime's command line, with the grammar of runc.

Parsed by hand, because argparse alone costs as much as starting the container.
"""

from __future__ import annotations

import gc
import os
import sys

from pycontainer import __version__
from pycontainer.errors import HostError, NotFound, PycontainerError, UsageError
from pycontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from pycontainer.runtime.launch import Container

USAGE = """\
usage: pycontainer-runtime [--root DIR] COMMAND …

  run [-b BUNDLE] [--explain] [--pid-file F] [--console-socket S] [-d] ID   create, start, wait, delete
  create [-b BUNDLE] [--explain] [--pid-file F] [--console-socket S] ID     make a container that waits for start
  start ID                                                                 let it execute its program
  state ID                                                                 print its state as JSON
  kill [-a] ID [SIGNAL]                                                    send a signal (default SIGTERM)
  delete [-f] ID                                                           remove it
  list [-q] [-f table|json]                                                print all containers

  -b, --bundle DIR      directory with config.json and the root file system (default: the current one)
  --root DIR            where state is kept (default /run/pycontainer/runtime)
  --explain             print each step on stderr, with its reason and the shell command that would do it

A bundle is what the OCI runtime specification calls one; `runc spec` writes a config.json to begin with.
"""

# option -> (its name, whether it takes a value)
_OPTIONS: dict[str, dict[str, tuple[str, bool]]] = {
    "": {
        "--root": ("root", True),
        "--log": ("log", True),
        "--log-format": ("log-format", True),
        "--debug": ("debug", False),
        "--systemd-cgroup": ("systemd-cgroup", False),
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
    "kill": {"-a": ("all", False), "--all": ("all", False)},
    "delete": {"-f": ("force", False), "--force": ("force", False)},
    "list": {"-q": ("quiet", False), "--quiet": ("quiet", False), "-f": ("format", True), "--format": ("format", True)},
}
_OPTIONS["run"] = _OPTIONS["create"] | {"-d": ("detach", False), "--detach": ("detach", False)}


def _parse(arguments: list[str], command: str) -> tuple[dict[str, str], list[str]]:
    """(options by name, the rest from the first operand on for the global options, all operands otherwise)."""
    table = _OPTIONS[command]
    options: dict[str, str] = {}
    operands: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            operands.append(word)
            if not command:
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
        options[option] = value if takes_value else "1"
    return options, operands


def main() -> None:
    """Run one command and exit: 0, 1 on an error (as runc), or for `run` the program's own status."""
    # A start lives too briefly to have garbage worth looking for; what stays longer enables it again (relay.py).
    gc.disable()
    os.umask(0o022)
    signals.restore_child_signal()
    try:
        status = _main(sys.argv[1:])
    except PycontainerError as error:
        sys.stderr.write(f"pycontainer-runtime: {error}\n")
        status = error.exit_status if error.exit_status in (126, 127) else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"pycontainer-runtime: {where}{(error.strerror or str(error)).lower()}\n")
        status = 1
    except Exception as error:
        if os.environ.get("PYCONTAINER_DEBUG"):
            raise
        hint = "hint: this is a fault of pycontainer's; PYCONTAINER_DEBUG=1 shows where"
        sys.stderr.write(f"pycontainer-runtime: {type(error).__name__}: {error}\n{hint}\n")
        status = 1
    sys.stdout.flush()
    # The interpreter's own tear-down would cost some milliseconds and has nothing left to do.
    os._exit(status)


def _main(arguments: list[str]) -> int:
    if not arguments or "--help" in arguments[:2] or "-h" in arguments[:2]:
        (sys.stdout if arguments else sys.stderr).write(USAGE)
        return 0 if arguments else 1
    if arguments[0] in ("--version", "-v"):
        print(f"pycontainer-runtime {__version__}\nspec: 1.1.0")
        return 0
    settings, rest = _parse(arguments, "")
    if not rest or rest[0] not in _COMMANDS:
        raise UsageError(rest[0] if rest else "", "no such command", hint="see --help")
    if "systemd-cgroup" in settings:
        raise UsageError("pycontainer-runtime", "--systemd-cgroup", "cgroups are made directly in cgroupfs")
    root = settings.get("root", "/run/pycontainer/runtime")
    options, operands = _parse(rest[1:], rest[0])
    return _COMMANDS[rest[0]](root, options, operands)


def _one_id(operands: list[str], most: int = 1) -> str:
    if not operands or len(operands) > most:
        raise UsageError("pycontainer-runtime", " ".join(operands), "expected one container id", "see --help")
    return operands[0]


def _create(root: str, options: dict[str, str], operands: list[str]) -> int:
    _create_container(root, options, operands)
    return 0


def _create_container(root: str, options: dict[str, str], operands: list[str]) -> Container:
    container_id = _one_id(operands)
    console = None
    if path := options.get("console-socket"):
        import _socket

        console = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            console.connect(path)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise UsageError("connect to --console-socket", path, cause) from None
    return _make(root, options, container_id, console)


def _make(
    root: str,
    options: dict[str, str],
    container_id: str,
    console: _socket.socket | None,
    tethered: bool = False,
) -> Container:
    if os.geteuid() != 0:
        raise HostError("this must be run as root", hint="put sudo before the command")
    from pycontainer.kernel.operation import Journal
    from pycontainer.runtime import launch, spec

    journal = Journal(os.dup(2) if "explain" in options else None)
    container = launch.create(
        spec.load(options.get("bundle", ".")),
        container_id,
        root,
        journal,
        console=console,
        tethered=tethered,
    )
    if path := options.get("pid-file"):
        try:
            with open(f"{path}.new", "w") as file:
                file.write(str(container.state.pid))
            os.rename(f"{path}.new", path)
        except OSError as error:
            launch.delete(container.state, force=True)
            raise UsageError("write --pid-file", path, (error.strerror or "").lower()) from None
    return container


def _start(root: str, options: dict[str, str], operands: list[str]) -> int:
    from pycontainer.runtime import launch, state

    launch.start(state.load(root, _one_id(operands)))
    return 0


def _run(root: str, options: dict[str, str], operands: list[str]) -> int:
    from pycontainer.runtime import launch

    container_id = _one_id(operands)
    if "detach" in options:
        made = _create_container(root, options, operands)
        try:
            launch.start(made.state)
        except BaseException:
            launch.delete(made.state, force=True)
            raise
        return 0
    from pycontainer.kernel import descriptors
    from pycontainer.runtime.relay import Relay

    ours, theirs = descriptors.pair()
    container = _make(root, options, container_id, theirs, tethered=True)
    relay = Relay(container.pidfd)
    try:
        relay.adopt_terminal(ours)
        launch.start(container.state)
        return relay.run()
    finally:
        relay.close()
        launch.delete(container.state, force=True)


def _state(root: str, options: dict[str, str], operands: list[str]) -> int:
    from pycontainer import json_text
    from pycontainer.runtime import state

    print(json_text.dumps(state.load(root, _one_id(operands)).to_json()))
    return 0


def _kill(root: str, options: dict[str, str], operands: list[str]) -> int:
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
    number = signals.parse(text)
    if number is None:
        raise UsageError("kill container", text, "no such signal", "give a number or a name such as TERM")
    return number


def _delete(root: str, options: dict[str, str], operands: list[str]) -> int:
    from pycontainer.runtime import launch, state

    try:
        container = state.load(root, _one_id(operands))
    except NotFound:
        if "force" in options:
            return 0
        raise
    launch.delete(container, force="force" in options)
    return 0


def _list(root: str, options: dict[str, str], operands: list[str]) -> int:
    from pycontainer.runtime import state

    containers = []
    for container_id in state.list_ids(root):
        try:
            containers.append(state.load(root, container_id))
        except NotFound:
            # It was deleted a moment ago.
            continue
    if "quiet" in options:
        print("".join(f"{container.container_id}\n" for container in containers), end="")
    elif options.get("format") == "json":
        from pycontainer import json_text

        print(json_text.dumps([container.to_json() for container in containers]))
    else:
        width = max([len(container.container_id) for container in containers] + [2])
        print(f"{'ID':{width}}  {'PID':>7}  {'STATUS':8}  BUNDLE")
        for container in containers:
            status = container.status()
            pid = container.pid if status != "stopped" else 0
            print(f"{container.container_id:{width}}  {pid:>7}  {status:8}  {container.bundle}")
    return 0


_COMMANDS = {
    "run": _run,
    "create": _create,
    "start": _start,
    "state": _state,
    "kill": _kill,
    "delete": _delete,
    "list": _list,
}

if __name__ == "__main__":
    main()
