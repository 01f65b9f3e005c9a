"""Starting a container and putting it away: what a monitor has done by a child of its own (monitor/errand.py).

A child owns nothing: the container's lock is its monitor's, and so is the program, of which it becomes the parent. When
either of the two is killed in the middle, the other one, or the next command, puts away what there is.
"""

from __future__ import annotations

import os

from pycontainer.engine import bundle, containers, create, evidence, health, repair, teardown
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.database import Error, keep_reserve, open_database
from pycontainer.engine.settings import Settings
from pycontainer.engine.wiring import Wiring
from pycontainer.errors import PycontainerError
from pycontainer.image.store import Store
from pycontainer.kernel import cgroup, descriptors, namespace, process, signals
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Undo
from pycontainer.monitor import messages
from pycontainer.monitor.ends import Ends
from pycontainer.runtime import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from pycontainer.monitor.messages import Message

MONITOR_NAME = "pyc-monitor"  # of its process, and of this one
STOP_TIMEOUT = 10.0  # seconds, as docker has it


class Request:
    """One `run` or `start`, as far as it concerns the one who starts the container.

    client        who is told of the steps, None for nobody
    config        to make a new container of; None to start the one with
    container_id
    size          rows and columns of its window, 0 where it has none
    journal       where the steps are explained
    """

    def __init__(
        self,
        client: _socket.socket | None,
        journal: Journal,
        *,
        config: ContainerConfig | None,
        container_id: str,
        size: tuple[int, int],
    ) -> None:
        self.client = client
        self.journal = journal
        self.config = config
        self.container_id = container_id
        self.size = size

    def answer(self, message: Message) -> None:
        """Tell the client, if it is still there."""
        try:
            if self.client is not None:
                messages.send(self.client, message)
        except OSError:
            pass

    def notify(self, text: str) -> None:
        """A line for the user that is not an error."""
        self.answer({"say": "notice", "text": text})


class Work:
    """What the monitor of a container has done: {"do": "begin"}, "end" and "give up". In a child of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: sqlite3.Connection | None = None

    def prepare(self) -> None:
        """What a start needs whatever is started; nothing that the user's mounts or memory would notice."""
        try:
            namespace.prepare_user_namespace()
        except OSError:
            # The start will say so, if it needs one.
            pass

    def handle(self, message: Message, passed: list[int]) -> tuple[Message, list[int]]:
        """Raises PycontainerError, OSError; a start that failed is undone by then."""
        if message["do"] == "begin":
            return self._begin(message, passed)
        container_id, status = message["id"], message["status"]
        if message["do"] == "give up":
            give_up(self._settings, self._database(), container_id, status, message["error"])
            return {}, []
        by_name = dict(zip(message["passed"], passed, strict=True))
        journal = Journal(by_name.get("journal"), records=True)
        log = by_name.get("log", -1)
        try:
            return end(self._settings, self._database(), container_id, status, message, log, journal), []
        finally:
            messages.close_all(passed)

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self._settings.root)
        else:
            # What it has started meanwhile may have filled the disk.
            keep_reserve(self._settings.root)
        return self._connection

    def _begin(self, message: Message, passed: list[int]) -> tuple[Message, list[int]]:
        """Start the container `id`. passed: the client, what it asked for, and where to explain; none for a restart."""
        process.set_name(MONITOR_NAME)
        if message["moved"]:
            _forgo_prepared()
            namespace.join(os.getppid())
        client, journal, asked = None, Journal(), {}
        try:
            if passed:
                asked = messages.read_request(passed[1])
                client = descriptors.adopt(passed[0])
                os.close(passed[1])
                out = passed[2] if len(passed) > 2 else None
                journal = Journal(out, bold=asked["bold"], records=asked["records"])
                if journal.out is not None:
                    # So that what is told happens while it is told.
                    _forgo_prepared()
            config = ContainerConfig.from_request(asked["config"]) if "config" in asked else None
            rows, columns = asked.get("size", (0, 0))
            request = Request(client, journal, config=config, container_id=message["id"], size=(rows, columns))
            return _begin(self._settings, self._database(), request, first=bool(passed))
        finally:
            # Others are to see when the monitor closes it.
            journal.close()
            if client is not None:
                client.close()


def _forgo_prepared() -> None:
    prepared = namespace.take_prepared()
    if prepared is not None:
        prepared.close()


def _begin(
    settings: Settings, connection: sqlite3.Connection, request: Request, *, first: bool
) -> tuple[Message, list[int]]:
    """Make the container if need be, and start it: what Run of monitor.py wants, and where its log is.

    The last `reserved` of the descriptors keep ports of the host's for it, until they are closed.

    first  a user starts it, and no restart policy

    Raises PycontainerError, OSError; then what was made for this start is undone.
    """
    container_id = request.container_id
    if first:
        repair.repair(settings, connection, request.notify)
        container = _take(settings, connection, request, container_id)
        request.answer({"say": "created", "id": container.id, "name": container.name})
    else:
        container = containers.get(connection, container_id)
    config = container.config
    image = Store(settings.root, connection).get(container.image_id)
    wiring = Wiring(settings, container, config, image, request.journal)
    spec = wiring.prepare(connection, request.notify, first=first)
    check = health.check(config.health, image.config.get("config") or {})
    with Undo() as undo, Undo() as theirs:
        ends = Ends(spec, interactive=config.process.interactive, undo=theirs)
        created = launch.create(
            spec,
            container_id,
            settings.runtime_root,
            request.journal,
            stdio=ends.stdio,
            console=ends.console,
            tethered=True,
            sibling=True,
            root_mounts=wiring.root_mounts,
        )
        undo.push(launch.delete, created.state, force=True)
        ours = ends.take(*request.size)
        wiring.connect(created.state.pid)
        launch.start(created.state)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            containers.set_running(connection, container_id, created.state.pid)
            if check is not None:
                containers.set_health(connection, container_id, health.begin(check), changed=False)
        undo.forget()
    log = config.log
    described = {
        "state": created.state.directory,
        "cgroup": created.state.cgroup,
        "terminal": config.process.tty,
        "interactive": config.process.interactive,
        "once": config.process.interactive and not config.detach,
        "stop_signal": bundle.stop_signal(config, image.config.get("config") or {}) or signals.SIGTERM,
        "stop_timeout": STOP_TIMEOUT if config.process.stop_timeout is None else config.process.stop_timeout,
        "reserved": len(wiring.reserved),
        "check": None if check is None else check.to_json(),
        "log": None if log.driver == "none" else [settings.log(container_id), log.max_size, log.max_file],
    }
    return described, [created.pidfd, *ours, *wiring.reserved]


def _take(
    settings: Settings, connection: sqlite3.Connection, request: Request, container_id: str
) -> containers.Container:
    """The container, new or as it was left; its status is `starting`. Raises NotFound, PycontainerError, OSError."""
    if request.config is not None:
        return create.make(settings, connection, request.config, container_id)
    if containers.get(connection, container_id).status in containers.OWNED:
        teardown.put_away_dead(settings, connection, container_id)
    evidence.forget(settings, container_id)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        containers.set_starting(connection, container_id)
    return containers.get(connection, container_id)


def give_up(
    settings: Settings, connection: sqlite3.Connection, container_id: str, exit_status: int, error: str
) -> None:
    """Put away a container that could not be started. Raises OSError."""
    teardown.end_processes(settings, container_id)
    if connection.execute("SELECT 1 FROM containers WHERE id=? AND status='starting'", (container_id,)).fetchone():
        _set_exited(settings, connection, container_id, exit_status, error)
    teardown.put_away(settings, connection, container_id)


def end(
    settings: Settings,
    connection: sqlite3.Connection,
    container_id: str,
    exit_status: int,
    message: Message,
    log: int,
    journal: Journal,
) -> Message:
    """Record the end of a run, and put it away unless its policy starts it again.

    message  "stopping": a user asked for it, no restart; "seen": what the monitor knows of the run
    log      a descriptor of kernel_log.open_at_end, -1 for none
    journal  where the steps are explained

    Returns {"restart": whether it is started again, "removed": whether nothing is left of it, "oom": a line for the
    user where the OOM killer ended it}. Raises OSError, PycontainerError.
    """
    try:
        found = _gather(settings, containers.get(connection, container_id), message["seen"], log)
    finally:
        teardown.end_processes(settings, container_id, journal)
    # Read again, because `update --restart` may have changed it.
    container = containers.get(connection, container_id)
    oom = ""
    if evidence.oom_kills(found):
        from pycontainer.engine import why

        oom = why.oom_line(containers.get(connection, container_id), exit_status, found)
    answer: Message = {"restart": False, "removed": False, "oom": oom}
    if not message["stopping"] and container.config.restart.applies(exit_status, container.restart_count):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            containers.set_restarting(connection, container_id, exit_status)
        return answer | {"restart": True}
    if container.status in containers.OWNED:
        _set_exited(settings, connection, container_id, exit_status)
    teardown.put_away(settings, connection, container_id)
    return answer | {"removed": container.config.remove}


def _gather(settings: Settings, container: containers.Container, seen: Message, log: int) -> Message:
    """Read what the container's cgroup tells, before it goes, and keep it where the container stays."""
    hierarchy = cgroup.find_hierarchy()
    name = container.cgroup(settings)
    found = {**seen, **(evidence.gather(hierarchy.mountpoint + name, name, log) if hierarchy is not None else {})}
    if not container.config.remove:
        evidence.store(settings, container.id, found)
    return found


def note_oom(settings: Settings, container_id: str, log: int) -> None:
    """Record that the OOM killer has ended a process of a container that may run on. Raises what `record` does."""
    container = containers.get(open_database(settings.root), container_id)
    kills = evidence.read_kills(log, container.cgroup(settings)) if log >= 0 else []
    evidence.store(settings, container_id, {"kills": kills})
    record(settings, containers.note, container_id, "oom")


def _set_exited(
    settings: Settings, connection: sqlite3.Connection, container_id: str, exit_status: int, error: str = ""
) -> None:
    try:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            containers.set_exited(connection, container_id, exit_status, error)
    except (PycontainerError, OSError, Error):
        # On a full disk, perhaps. The next command finds the row and this word.
        teardown.leave_word(settings, container_id, exit_status, error)


def record(settings: Settings, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Call `function(connection, …)` in a transaction. Raises what it raises, HostError."""
    connection = open_database(settings.root)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        function(connection, *arguments, **options)
