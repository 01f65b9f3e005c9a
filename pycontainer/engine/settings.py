"""Where this installation keeps its things. The environment variables are for tests and second installations."""

from __future__ import annotations

import os


class Settings:
    """root: persistent state; state: what dies with the machine; bridge: name of the default network's interface."""

    __slots__ = ("bridge", "root", "state")

    def __init__(self) -> None:
        self.root = os.environ.get("PYCONTAINER_ROOT") or "/var/lib/pycontainer"
        self.state = os.environ.get("PYCONTAINER_STATE") or "/run/pycontainer"
        self.bridge = os.environ.get("PYCONTAINER_BRIDGE") or "pyc0"

    def environment(self) -> dict[str, str]:
        """The variables that give another process the same settings."""
        return {"PYCONTAINER_ROOT": self.root, "PYCONTAINER_STATE": self.state, "PYCONTAINER_BRIDGE": self.bridge}

    @property
    def runtime_root(self) -> str:
        """Where the OCI runtime keeps the state of the engine's containers; pycontainer-runtime's own are elsewhere."""
        return f"{self.state}/engine"

    @property
    def monitors(self) -> str:
        """Where the monitors' sockets are, each called by its container's id."""
        return f"{self.state}/monitors"

    def log(self, container_id: str) -> str:
        """The file that a container's output is written to; older ones beside it have .1, .2 … behind their names."""
        return f"{self.container_directory(container_id)}/log"

    def cgroup(self, container_id: str, parent: str = "") -> str:
        """A container's cgroup, from the hierarchy's root: /pycontainer/ID, below the state directory's own name.

        parent  the one of --cgroup-parent, which is there instead
        """
        return f"/{parent or self._cgroup_parent()}/{container_id}"

    def _cgroup_parent(self) -> str:
        above, name = os.path.split(os.path.normpath(self.state))
        if above == "/run":
            return name
        # Elsewhere there may be several of one name, and each takes what is in its cgroup for its own.
        import _blake2

        return f"{name}-{_blake2.blake2b(os.fsencode(above), digest_size=4).hexdigest()}"

    def mount_point(self) -> str:
        """Where each command mounts its container's root, in a mount namespace of its own. Made; raises OSError."""
        path = f"{self.state}/rootfs"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        return path

    def container_directory(self, container_id: str) -> str:
        """The bundle of a container: config.json, upper, work and the files that are bound into it."""
        return f"{self.root}/containers/{container_id}"
