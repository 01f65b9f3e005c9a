"""What a container is connected to when it starts: its root file system, its bundle, its network."""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.engine import bundle, containers, user, volumes
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.networking import Networking, read_host_file
from pycontainer.engine.settings import Settings
from pycontainer.image import overlay
from pycontainer.image.store import Image
from pycontainer.kernel.operation import Journal
from pycontainer.network import files
from pycontainer.runtime.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable


class Wiring:
    """One start of a container.

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
        self._networking = Networking(settings, container, config, journal)
        self.root_mounts = 0
        self._directory = settings.container_directory(container.id)

    def prepare(self, connection: sqlite3.Connection, notify: Callable[[str], None], *, first: bool) -> Spec:
        """Lease address and ports, mount the root in this process's mount namespace, write the bundle.

        notify  gets lines for the user
        first   it has no ports yet

        Raises PycontainerError, OSError.
        """
        # Before anything is mounted, because what is forked here outlives this process.
        self._networking.prepare(connection, notify, self._image_config, first=first)
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
        hostname = self._networking.hostname
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
            shared_network=self._networking.shared,
            files=self._write_files(hostname, notify),
            mounts=mounts,
        )

    def _write_files(self, hostname: str, notify: Callable[[str], None]) -> dict[str, str]:
        """hosts, hostname and resolv.conf: path in the container -> path on the host. Raises UsageError, OSError."""
        if lent := self._networking.lent_files():
            return lent
        asked, networking = self._config.network, self._networking
        extra = tuple(files.parse_add_host(text, networking.gateway) for text in asked.add_host)
        host = read_host_file("/etc/hosts") if asked.mode == "host" else ""
        texts = {
            "/etc/resolv.conf": networking.resolv_conf(notify),
            "/etc/hosts": files.hosts(hostname, networking.addresses, extra, host),
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

    @property
    def reserved(self) -> list[int]:
        """Sockets that keep the host's ports for the container as long as somebody has them open."""
        return self._networking.reserved

    def connect(self, pid: int) -> None:
        """Wire the networks of a container that waits for its start. Raises PycontainerError."""
        self._networking.connect(pid)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
