"""`run`: from an image's name to a process, and back to a machine as it was."""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.engine import bundle, containers, repair, user
from pycontainer.engine.config import ContainerConfig
from pycontainer.engine.settings import Settings
from pycontainer.errors import PycontainerError, StepFailed, UsageError
from pycontainer.image import overlay
from pycontainer.image.store import Store
from pycontainer.kernel import signals
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Interruptible, Undo
from pycontainer.monitor.supervise import Monitor
from pycontainer.network import attach, files, lease
from pycontainer.runtime.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable


class Ended(BaseException):
    """A signal asked this command to end before there was a container to pass it on to."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(settings: Settings, config: ContainerConfig, notify: Callable[[str], None]) -> int:
    """Run one container in the foreground; the program's exit status. Raises PycontainerError, OSError.

    `notify` gets lines for the user that are neither an error nor the container's output.
    """
    if config.tty and config.interactive and not os.isatty(0):
        raise UsageError("run -it", "", "standard input is not a terminal", "leave out -t to use a pipe or a file")
    try:
        signals.raise_on((signals.SIGINT, signals.SIGTERM, signals.SIGHUP), Ended)
        connection = repair.open_engine(settings, notify)
        try:
            return _Run(settings, connection, config, notify).run()
        finally:
            connection.close()
    except Ended as ended:
        return 128 + ended.number


class _Run:
    """One container from its row in the database to its end. Every step that is done is pushed to be undone."""

    def __init__(
        self,
        settings: Settings,
        connection: sqlite3.Connection,
        config: ContainerConfig,
        notify: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.config = config
        self.notify = notify
        self.journal = Journal(os.dup(2) if config.explain else None)
        self.id = os.urandom(32).hex()
        self.image = Store(settings.root, connection).resolve(config.image)
        self.image_config: bundle.Json = self.image.config.get("config") or {}

    def run(self) -> int:
        """See `run`."""
        with Undo() as undo:
            owner = containers.lock(self.settings.state, self.id)
            undo.push(containers.unlock, self.settings.state, self.id, owner)
            network = self._network()
            container, address = self._record()
            undo.push(self._put_away)
            try:
                directory = self.settings.container_directory(self.id)
                overlay.make_directories(directory, container.id_base)
                self._write_cidfile()
                root = self.settings.mount_point()
                overlay.mount_root(self.journal, self.image.layers, directory, container.id_maps, root)
                spec = self._write_bundle(container, address, root)
                interactive = self.config.interactive
                monitor = Monitor(spec, self.id, self.settings.runtime_root, self.journal, interactive=interactive)
                undo.push(repair.end_processes, self.settings, self.id)
                undo.push(monitor.delete)
                self._create(monitor, network, address)
                containers.set_running(self.connection, self.id)
                with Interruptible():
                    status = monitor.run()
            except PycontainerError as error:
                self._set_failed(error.exit_status, str(error))
                raise
            except OSError as error:
                self._set_failed(125, str(error))
                raise
            except Ended as ended:
                self._set_failed(128 + ended.number, "interrupted")
                raise
            containers.set_exited(self.connection, self.id, status)
            return status

    def _set_failed(self, exit_status: int, error: str) -> None:
        try:
            containers.set_exited(self.connection, self.id, exit_status, error)
        except self.connection.Error:
            # On a full disk, perhaps. The error that is on its way says more, and the next command finds the row.
            pass

    def _network(self) -> attach.Network | None:
        """The bridge network, up; None for a container without one."""
        if self.config.network != "bridge":
            return None
        network, notices = attach.ensure_bridge(self.journal, self.connection, self.settings.bridge)
        for notice in notices:
            self.notify(notice)
        return network

    def _record(self) -> tuple[containers.Container, str]:
        """The container's row and its address ("" without a bridge), one transaction. Raises Conflict, UsageError."""
        config = self.config
        command = bundle.command_line(config, self.image_config)
        if config.cidfile and os.path.exists(config.cidfile):
            hint = "remove it, or the container that it names"
            raise UsageError("--cidfile", config.cidfile, "the file exists", hint)
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            # Inside the transaction, because `rmi` may have removed it; once the row is there, it will not.
            Store(self.settings.root, self.connection).require(self.image.id)
            container = containers.insert(self.connection, self.id, config, self.image.id, command)
            bridged = config.network == "bridge"
            address = lease.allocate(self.connection, attach.NAME, self.id) if bridged else ""
        return container, address

    def _put_away(self) -> None:
        """The container is over: it is removed with --rm, and otherwise keeps its files and loses its address."""
        if self.config.remove:
            repair.remove(self.settings, self.connection, self.id)
        else:
            with self.connection:
                self.connection.execute("BEGIN IMMEDIATE")
                attach.detach(self.connection, self.id)

    def _write_cidfile(self) -> None:
        path = self.config.cidfile
        if path:
            try:
                with open(path, "x") as file:
                    file.write(self.id)
            except OSError as error:
                raise UsageError("--cidfile", path, (error.strerror or "").lower()) from None

    def _write_bundle(self, container: containers.Container, address: str, root: str) -> Spec:
        """Write config.json and the files that go with it; what it says, parsed. Raises PycontainerError, OSError."""
        config = self.config
        hostname = config.hostname or (os.uname().nodename if config.network == "host" else self.id[:12])
        root_descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            wanted = config.user if config.user is not None else self.image_config.get("User") or ""
            who = user.resolve(root_descriptor, wanted)
        finally:
            os.close(root_descriptor)
        for volume in config.volumes:
            # As docker does for -v: a source that is missing is made.
            if not os.path.exists(volume.source):
                os.makedirs(volume.source, mode=0o755)
        value = bundle.build(
            config,
            self.image_config,
            root=root,
            cgroup=self.settings.cgroup(self.id),
            user=who,
            hostname=hostname,
            maps=container.id_maps,
            files=self._write_files(container, address, hostname),
        )
        directory = self.settings.container_directory(self.id)
        with open(f"{directory}/config.json", "w") as file:
            file.write(json_text.dumps(value))
        return Spec(value, directory)

    def _write_files(self, container: containers.Container, address: str, hostname: str) -> dict[str, str]:
        """hosts, hostname and resolv.conf: path in the container -> path on the host. Raises UsageError, OSError."""
        stored = lease.find(self.connection, attach.NAME) if address else None
        gateway = stored.gateway if stored else ""
        extra = tuple(files.parse_add_host(text, gateway) for text in self.config.add_host)
        shares_host = self.config.network == "host"
        texts = {
            "/etc/resolv.conf": self._resolv_conf(),
            "/etc/hosts": files.hosts(hostname, address, extra, _read("/etc/hosts") if shares_host else ""),
            "/etc/hostname": files.hostname(hostname),
        }
        paths = {}
        for target, text in texts.items():
            path = f"{self.settings.container_directory(self.id)}/{os.path.basename(target)}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, text.encode(errors="surrogateescape"))
                # The container's root may edit them, as it may anywhere else.
                os.fchown(descriptor, container.id_base, container.id_base)
            finally:
                os.close(descriptor)
            paths[target] = path
        return paths

    def _resolv_conf(self) -> str:
        host = _read(files.RESOLV_CONF)
        flags = (tuple(self.config.dns), tuple(self.config.dns_search), tuple(self.config.dns_options))
        if self.config.network == "host" and not any(flags):
            return host
        if files.needs_resolved(host):
            host = _read(files.RESOLVED_CONF) or host
        text = files.resolv_conf(host, *flags)
        if self.config.network == "bridge" and not files.nameservers(text):
            self.notify("no name server of the host's can be reached from the container; use --dns")
        return text

    def _create(self, monitor: Monitor, network: attach.Network | None, address: str) -> None:
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
            attach.attach(self.journal, network, self.id, namespace, address)
        finally:
            os.close(namespace)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
