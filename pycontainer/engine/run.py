"""`run`: from an image's name to a process, and back to a machine as it was."""

from __future__ import annotations

import os
import sys

from pycontainer import json_text
from pycontainer.engine import bundle, containers, repair, user
from pycontainer.engine.config import ContainerConfig
from pycontainer.engine.settings import Settings
from pycontainer.errors import PycontainerError, StepFailed, UsageError
from pycontainer.image import overlay
from pycontainer.image.store import Image, Store
from pycontainer.kernel import signals
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Interruptible, Undo
from pycontainer.monitor.supervise import Monitor
from pycontainer.network import attach, files, lease
from pycontainer.runtime.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3


class Ended(BaseException):
    """A signal asked this command to end before there was a container to pass it on to."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(settings: Settings, config: ContainerConfig) -> int:
    """Run one container in the foreground; the program's exit status. Raises PycontainerError, OSError."""
    _check_terminal(config)
    journal = Journal(os.dup(2) if config.explain else None)
    try:
        signals.raise_on((signals.SIGINT, signals.SIGTERM, signals.SIGHUP), Ended)
        connection = repair.open_engine(settings)
        try:
            image = Store(settings.root, connection).resolve(config.image)
            return _run_image(settings, connection, config, image, journal)
        finally:
            connection.close()
    except Ended as ended:
        return 128 + ended.number


def _check_terminal(config: ContainerConfig) -> None:
    if config.tty and config.interactive and not os.isatty(0):
        raise UsageError("run -it", "", "standard input is not a terminal", "leave out -t to use a pipe or a file")


def _run_image(
    settings: Settings, connection: sqlite3.Connection, config: ContainerConfig, image: Image, journal: Journal
) -> int:
    image_config = image.config.get("config") or {}
    container_id = os.urandom(32).hex()
    with Undo() as undo:
        owner = containers.lock(settings.state, container_id)
        undo.push(containers.unlock, settings.state, container_id, owner)
        network = _network(settings, connection, config, journal)
        container, address = _record(settings, connection, config, image, container_id)
        undo.push(_put_away, settings, connection, config, container_id)
        try:
            directory = settings.container_directory(container_id)
            overlay.make_directories(directory, container.id_base)
            _write_cidfile(config, container_id)
            maps = container.id_maps
            # Pushed before, because it may fail with the first of its two mounts made.
            undo.push(overlay.unmount_root, directory, bool(maps))
            root = overlay.mount_root(journal, image.layers, directory, maps)
            spec = _write_bundle(settings, connection, config, image_config, container, address, root)
            monitor = Monitor(spec, container_id, settings.runtime_root, journal, interactive=config.interactive)
            undo.push(repair.end_processes, settings, container_id)
            undo.push(monitor.delete)
            _create_and_connect(monitor, network, container_id, address, journal)
            containers.set_running(connection, container_id)
            with Interruptible():
                status = monitor.run()
        except PycontainerError as error:
            _set_failed(connection, container_id, error.exit_status, str(error))
            raise
        except OSError as error:
            _set_failed(connection, container_id, 125, str(error))
            raise
        except Ended as ended:
            _set_failed(connection, container_id, 128 + ended.number, "interrupted")
            raise
        containers.set_exited(connection, container_id, status)
        return status


def _set_failed(connection: sqlite3.Connection, container_id: str, exit_status: int, error: str) -> None:
    try:
        containers.set_exited(connection, container_id, exit_status, error)
    except connection.Error:
        # On a full disk, perhaps. The error that is on its way says more, and the next command finds the row.
        pass


def _network(
    settings: Settings, connection: sqlite3.Connection, config: ContainerConfig, journal: Journal
) -> attach.Network | None:
    """The bridge network, up; None for a container without one."""
    if config.network != "bridge":
        return None
    network, notices = attach.ensure_bridge(journal, connection, settings.bridge)
    for notice in notices:
        sys.stderr.write(f"pycontainer: {notice}\n")
    return network


def _record(
    settings: Settings, connection: sqlite3.Connection, config: ContainerConfig, image: Image, container_id: str
) -> tuple[containers.Container, str]:
    """The container's row and its address ("" without a bridge), in one transaction. Raises Conflict, UsageError."""
    command = bundle.command_line(config, image.config.get("config") or {})
    if config.cidfile and os.path.exists(config.cidfile):
        raise UsageError("--cidfile", config.cidfile, "the file exists", "remove it, or the container that it names")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Inside the transaction, because `rmi` may have removed it a moment ago; once the row is there, it will not.
        Store(settings.root, connection).require(image.id)
        container = containers.insert(connection, container_id, config, image.id, command)
        address = lease.allocate(connection, attach.NAME, container_id) if config.network == "bridge" else ""
    return container, address


def _put_away(settings: Settings, connection: sqlite3.Connection, config: ContainerConfig, container_id: str) -> None:
    """The container is over: it is removed with --rm, and otherwise keeps its files and loses its address."""
    if config.remove:
        repair.remove(settings, connection, container_id)
    else:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            attach.detach(connection, container_id)


def _write_cidfile(config: ContainerConfig, container_id: str) -> None:
    if config.cidfile:
        try:
            with open(config.cidfile, "x") as file:
                file.write(container_id)
        except OSError as error:
            raise UsageError("--cidfile", config.cidfile, (error.strerror or "").lower()) from None


def _write_bundle(
    settings: Settings,
    connection: sqlite3.Connection,
    config: ContainerConfig,
    image_config: bundle.Json,
    container: containers.Container,
    address: str,
    root: str,
) -> Spec:
    """Write config.json and the files that go with it; the parsed specification. Raises PycontainerError, OSError."""
    directory = settings.container_directory(container.id)
    hostname = config.hostname or (os.uname().nodename if config.network == "host" else container.id[:12])
    root_descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        who = user.resolve(root_descriptor, config.user if config.user is not None else image_config.get("User") or "")
    finally:
        os.close(root_descriptor)
    for volume in config.volumes:
        # As docker does for -v: a source that is missing is made.
        if not os.path.exists(volume.source):
            os.makedirs(volume.source, mode=0o755)
    value = bundle.build(
        config,
        image_config,
        cgroup=settings.cgroup(container.id),
        user=who,
        hostname=hostname,
        maps=container.id_maps,
        files=_write_files(connection, config, container, address, hostname, directory),
    )
    with open(f"{directory}/config.json", "w") as file:
        file.write(json_text.dumps(value))
    return Spec(value, directory)


def _write_files(
    connection: sqlite3.Connection,
    config: ContainerConfig,
    container: containers.Container,
    address: str,
    hostname: str,
    directory: str,
) -> dict[str, str]:
    """hosts, hostname and resolv.conf of the container: path in it -> path on the host. Raises UsageError, OSError."""
    stored = lease.find(connection, "bridge") if address else None
    extra = tuple(files.parse_add_host(text, stored.gateway if stored else "") for text in config.add_host)
    shares_host = config.network == "host"
    texts = {
        "/etc/resolv.conf": _resolv_conf(config),
        "/etc/hosts": files.hosts(hostname, address, extra, _read("/etc/hosts") if shares_host else ""),
        "/etc/hostname": files.hostname(hostname),
    }
    paths = {}
    for target, text in texts.items():
        path = f"{directory}/{os.path.basename(target)}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, text.encode(errors="surrogateescape"))
            os.fchmod(descriptor, 0o644)
            # The container's root may edit them, as it may anywhere else.
            os.fchown(descriptor, container.id_base, container.id_base)
        finally:
            os.close(descriptor)
        paths[target] = path
    return paths


def _resolv_conf(config: ContainerConfig) -> str:
    host = _read(files.RESOLV_CONF)
    if config.network == "host" and not config.dns:
        return host
    if files.needs_resolved(host):
        host = _read(files.RESOLVED_CONF) or host
    text = files.resolv_conf(host, tuple(config.dns))
    if config.network == "bridge" and not files.nameservers(text):
        sys.stderr.write("pycontainer: no name server of the host's can be reached from the container; use --dns\n")
    return text


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _create_and_connect(
    monitor: Monitor,
    network: attach.Network | None,
    container_id: str,
    address: str,
    journal: Journal,
) -> None:
    """Make the container and wire its network while it waits for its start. Raises PycontainerError."""
    created = monitor.create()
    if network is None:
        return
    path = f"/proc/{created.state.pid}/ns/net"
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StepFailed("open the container's network namespace", path, error.errno or 0) from None
    try:
        attach.attach(journal, network, container_id, namespace, address)
    finally:
        os.close(namespace)
