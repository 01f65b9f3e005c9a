"""What a container is connected to when it starts: its root file system, its bundle, its network."""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.engine import bundle, containers, ports, user, volumes
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.settings import Settings
from pycontainer.errors import StepFailed
from pycontainer.image import overlay
from pycontainer.image.store import Image
from pycontainer.kernel.operation import Journal
from pycontainer.network import attach, files, lease
from pycontainer.network import ports as published_ports
from pycontainer.runtime.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pycontainer.network.publication import Binding


class Wiring:
    """One start of a container. What it has leased stays the same over restarts: its address, its ports of the host's.

    reserved     sockets that keep the host's ports for the container as long as somebody has them open
    root_mounts  how many mounts `prepare` has made at the root's path
    """

    def __init__(
        self,
        settings: Settings,
        container: containers.Container,
        config: ContainerConfig,
        image: Image,
        journal: Journal,
    ) -> None:
        self._settings = settings
        self._container = container
        self._config = config
        self._image = image
        self._image_config: bundle.Json = image.config.get("config") or {}
        self._journal = journal
        self._network: attach.Network | None = None
        self._address = ""
        self._bindings: list[Binding] = []
        self.reserved: list[int] = []
        self.root_mounts = 0
        self._directory = settings.container_directory(container.id)

    def prepare(self, connection: sqlite3.Connection, notify: Callable[[str], None], *, first: bool) -> Spec:
        """Lease address and ports, mount the root in this process's mount namespace, write the bundle.

        notify  gets lines for the user
        first   it has no ports yet

        Raises PycontainerError, OSError.
        """
        if self._config.network.mode == "bridge":
            self._network, notices = attach.ensure_bridge(
                self._journal,
                connection,
                self._settings.bridge,
                ports.publications,
                f"{self._settings.state}/ip_forward",
            )
            for notice in notices:
                notify(notice)
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                self._address = lease.allocate(connection, attach.NAME, self._container.id)
            if first:
                reserved = ports.reserve(self._journal, connection, self._container, self._image_config)
                self._bindings, self.reserved = reserved.bindings, reserved.detach()
            else:
                self._bindings = ports.bound(self._container)
        elif self._config.network.mode == "host" and self._config.network.ports:
            notify(ports.DISCARDED)
        root = self._settings.mount_point()
        self.root_mounts = overlay.mount_root(
            self._journal, self._image.layers, self._directory, self._container.id_maps, root
        )
        value = self.build(connection, root, notify)
        path = f"{self._directory}/config.json"
        with open(f"{path}.new", "w") as file:
            file.write(json_text.dumps(value))
        os.rename(f"{path}.new", path)
        return Spec(value, self._directory)

    def build(self, connection: sqlite3.Connection, root: str, notify: Callable[[str], None]) -> bundle.Json:
        """Write the files that go with config.json, and fill new volumes; what it is to say, as a value.

        root  where the root is mounted, in this process's mount namespace

        Raises PycontainerError, OSError.
        """
        config = self._config
        image = self._image_config
        hostname = config.network.hostname or (
            os.uname().nodename if config.network.mode == "host" else self._container.id[:12]
        )
        root_descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            wanted = config.process.user if config.process.user is not None else image.get("User") or ""
            who = user.resolve(root_descriptor, wanted)
        finally:
            os.close(root_descriptor)
        layers = self._image.layers
        mounts = volumes.prepare(self._settings, connection, self._container.id, config, layers, self._journal)
        return bundle.build(
            config,
            image,
            root=root,
            cgroup=self._container.cgroup(self._settings),
            user=who,
            hostname=hostname,
            maps=self._container.id_maps,
            files=self._write_files(connection, hostname, notify),
            mounts=mounts,
        )

    def _write_files(
        self, connection: sqlite3.Connection, hostname: str, notify: Callable[[str], None]
    ) -> dict[str, str]:
        """hosts, hostname and resolv.conf: path in the container -> path on the host. Raises UsageError, OSError."""
        stored = lease.find(connection, attach.NAME) if self._address else None
        gateway = stored.gateway if stored else ""
        extra = tuple(files.parse_add_host(text, gateway) for text in self._config.network.add_host)
        shares_host = self._config.network.mode == "host"
        texts = {
            "/etc/resolv.conf": self._resolv_conf(notify),
            "/etc/hosts": files.hosts(hostname, self._address, extra, _read("/etc/hosts") if shares_host else ""),
            "/etc/hostname": files.hostname(hostname),
        }
        paths = {}
        owner = self._container.id_base
        for target, text in texts.items():
            path = f"{self._directory}/{os.path.basename(target)}"
            # Removed first, because a last run's container may have had it open, or made it a link.
            _remove(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, text.encode(errors="surrogateescape"))
                # The container's root may edit them, as it may anywhere else.
                os.fchown(descriptor, owner, owner)
            finally:
                os.close(descriptor)
            paths[target] = path
        return paths

    def _resolv_conf(self, notify: Callable[[str], None]) -> str:
        host = _read(files.RESOLV_CONF)
        config = self._config
        flags = (tuple(config.network.dns), tuple(config.network.dns_search), tuple(config.network.dns_options))
        if config.network.mode == "host" and not any(flags):
            return host
        if files.needs_resolved(host):
            host = _read(files.RESOLVED_CONF) or host
        text = files.resolv_conf(host, *flags)
        if config.network.mode == "bridge" and not files.nameservers(text):
            notify("no name server of the host's can be reached from the container; use --dns")
        return text

    def connect(self, pid: int) -> None:
        """Wire the network of a container that waits for its start. Raises PycontainerError."""
        if self._network is None:
            return
        path = f"/proc/{pid}/ns/net"
        try:
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StepFailed("open the container's network namespace", path, error.errno or 0) from None
        try:
            attach.attach(self._journal, self._network, self._container.id, namespace, self._address)
            if self._config.network.rate is not None:
                from pycontainer.network import shaping

                name = attach.link_name(self._container.id)
                shaping.set_rate(self._journal, name, namespace, shaping.Rate(*self._config.network.rate))
            published_ports.publish(self._journal, self._network, self._container.id, self._address, self._bindings)
        finally:
            os.close(namespace)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
