"""A container's root file system, seen from outside: that of one that runs, or mounted for this command alone.

          command                                       worker
            │ finds paths, O_PATH only                     │ in a user namespace with the container's id map,
            │ reads and writes the host's files            │ as root of it: reads and writes the container's files
            │ ◀──────────────── a tar stream ────────────▶ │

A container is hostile, and works on its files meanwhile. So neither process ever has its root directory in the
container, nor loads anything from there; paths are resolved by the kernel with the container's root as `/`
(kernel/root_path.py), and used through descriptors. And whatever still went wrong, the worker can do no more to the
host than the container's own root: it makes and opens files only as that user. Its user namespace is a new one with the
same map, so that no process of the container's has power over it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pycontainer.engine import containers, volumes
from pycontainer.engine.containers import Container
from pycontainer.engine.database import open_database
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict
from pycontainer.image import overlay
from pycontainer.image.store import Store
from pycontainer.kernel import mount, namespace, process
from pycontainer.kernel.operation import Journal
from pycontainer.monitor import errand
from pycontainer.runtime import join, state
from pycontainer.runtime.mounts import Options
from pycontainer.runtime.operations.filesystem import AttachTree
from pycontainer.runtime.operations.parent import CloneTree

if TYPE_CHECKING:
    import sqlite3

    from pycontainer.kernel.id_map import IdMap

_PATIENCE = 10.0  # seconds for a container that is being started or put away
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CLONE = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC


@contextlib.contextmanager
def opened(
    settings: Settings, connection: sqlite3.Connection, container: Container, step: str, *, mounts: bool
) -> Iterator[int]:
    """A descriptor of the container's root directory; one that does not run cannot be started meanwhile.

    mounts  with what is mounted in it: all of it where it runs, volumes where not; otherwise its root alone

    Raises Conflict, NotFound, StepFailed, OSError.
    """
    with contextlib.ExitStack() as stack:
        root = None
        deadline = time.monotonic() + _PATIENCE
        while root is None:
            container = containers.get(connection, container.id)
            if container.is_active:
                root = _open_running(settings, container, mounts)
            else:
                owner = containers.try_lock(settings.state, container.id)
                if owner is not None:
                    stack.callback(containers.unlock, settings.state, container.id, owner)
                    containers.get(connection, container.id)
                    root = _open_stopped(settings, container.id, mounts)
                    break
            if root is None:
                if time.monotonic() > deadline:
                    raise Conflict(
                        step, container.name, f"it is {container.status}", "try again when it runs or is stopped"
                    )
                time.sleep(0.01)
        stack.callback(os.close, root)
        yield root


def _open_running(settings: Settings, container: Container, mounts: bool) -> int | None:
    """None where it has just ended."""
    try:
        running = state.load(settings.runtime_root, container.id)
        root = join.open_root(running)
    except (Conflict, FileNotFoundError):
        return None
    if mounts:
        return root
    try:
        return errand.run(lambda: ({}, [_clone_alone(running, root)]))[1][0]
    finally:
        os.close(root)


def _clone_alone(running: state.State, root: int) -> int:
    """A copy of the root mount without what is mounted in it. In a process of its own."""
    pidfd = running.open_process()
    # because only a mount of its own mount namespace may be copied by a process
    namespace.setns(pidfd, namespace.CLONE_NEWNS)
    return mount.open_tree(root, "", _CLONE | mount.AT_EMPTY_PATH)


def _open_stopped(settings: Settings, container_id: str, mounts: bool) -> int:
    return errand.run(lambda: ({}, [_mount(settings, container_id, mounts)]))[1][0]


def _mount(settings: Settings, container_id: str, mounts: bool) -> int:
    """A copy of the mounts that a start would make, which stays as long as its descriptor. In a process of its own."""
    connection = open_database(settings.root)
    container = containers.get(connection, container_id)
    layers = Store(settings.root, connection).get(container.image_id).layers
    directory = settings.container_directory(container_id)
    journal, target = Journal(), settings.mount_point()
    trees = _open_mounts(settings, connection, container, layers, journal) if mounts else []
    overlay.mount_root(journal, layers, directory, container.id_maps, target)
    root = os.open(target, _ROOT)
    for tree, source, destination, options in trees:
        journal.perform(AttachTree(root, tree, destination, options, f"volume {source}", ""))
    if mounts and container.config.mounts.read_only:
        mount.mount_setattr(root, 0, set_=mount.MOUNT_ATTR_RDONLY)
    return mount.open_tree(mount.AT_FDCWD, target, _CLONE | mount.AT_RECURSIVE)


def _open_mounts(
    settings: Settings, connection: sqlite3.Connection, container: Container, layers: list[str], journal: Journal
) -> list[tuple[int, str, str, Options]]:
    """What is to be mounted in the root: tree, source, target, options.

    Before the root is mounted, which a bind of what is above it would take along.
    """
    journal.perform(overlay.PrivateMounts())
    found = volumes.prepare(settings, connection, container.id, container.config, layers, journal)
    binds = [
        (each.source, each.target, each.options, container.id_maps if each.mapped else [])
        for each in found
        if each.kind != "tmpfs"
    ]
    # What a start has written; a copy to one of these is refused, for the next start writes them anew.
    directory = settings.container_directory(container.id)
    written = [f"{directory}/{name}" for name in ("hosts", "hostname", "resolv.conf")]
    binds += [(path, f"/etc/{os.path.basename(path)}", ["bind"], []) for path in written if os.path.exists(path)]
    trees = []
    for source, destination, names, maps in sorted(binds, key=lambda each: each[1].count("/")):
        options = Options(names)
        tree = journal.perform(CloneTree(source, options, f"volume {source}", maps, maps))
        trees.append((tree, source, destination, options))
    return trees


class Worker:
    """A process that calls `function` as the root user of a container, from its start to its end.

    kept  descriptors of this process that the worker closes, because they are ends of pipes
    """

    def __init__(self, maps: list[IdMap], function: Callable[[], None], kept: tuple[int, ...] = ()) -> None:
        userns = namespace.new_user_namespace(maps, maps) if maps else -1
        parent = os.getpid()

        def work() -> tuple[dict[str, object], list[int]]:
            for descriptor in kept:
                os.close(descriptor)
            _become_root(userns, parent)
            function()
            return {}, []

        try:
            self.pid, self._channel = errand.start(work)
        finally:
            if userns >= 0:
                os.close(userns)

    def finish(self) -> None:
        """Wait for its end. Raises what `function` raised."""
        try:
            errand.await_answer(self.pid, self._channel)
            errand.answer(self._channel)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it, whatever it does."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._channel.close()


def _become_root(userns: int, parent: int) -> None:
    """Enter the user namespace, -1 for the host's, as its root."""
    if userns >= 0:
        namespace.setns(userns, namespace.CLONE_NEWUSER)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    # After the ids, because the kernel forgets it when they change.
    process.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.umask(0)
    # A reader that has gone is an error that is told, as in any other process of Python's.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
