"""What the runtime remembers of a container: ROOT/ID/state.json and ROOT/ID/start.sock, gone with the machine.

`start.sock` exists until the container is started: who removes its name is the one that starts it.
The state that is shown follows runtime.md of the OCI runtime specification.
"""

from __future__ import annotations

import errno
import os

from pycontainer import json_text
from pycontainer.errors import Conflict, NotFound, UsageError
from pycontainer.kernel import process

Json = dict[str, object]

# Of the OCI runtime specification.
OCI_VERSION = "1.1.0"


def check_id(container_id: str) -> None:
    """Raise UsageError for an id that could not be a directory's name."""
    good = all(character.isalnum() or character in "-_.+" for character in container_id)
    if not good or not container_id or container_id.startswith(".") or len(container_id) > 128:
        raise UsageError("container id", repr(container_id), "letters, digits and -_.+ only, 1 to 128 of them")


class State:
    """One container of the runtime's.

    pid, start_time   its first process, or while there is none (`is_creating`) the one that makes it; the start time
                      tells it from a later process with the same number
    cgroup            its cgroup directory, "" where it has none
    cgroup_inode      that of the directory: another's of the same name is not ours
    """

    __slots__ = (
        "annotations", "bundle", "cgroup", "cgroup_inode", "container_id", "directory", "is_creating", "pid",
        "start_time",
    )  # fmt: skip

    def __init__(
        self,
        directory: str,
        pid: int,
        start_time: int,
        bundle: str,
        annotations: dict[str, str],
        *,
        is_creating: bool = False,
    ) -> None:
        self.directory = directory
        self.container_id = os.path.basename(directory)
        self.pid = pid
        self.start_time = start_time
        self.bundle = bundle
        self.annotations = annotations
        self.is_creating = is_creating
        self.cgroup, self.cgroup_inode = "", 0

    def is_alive(self) -> bool:
        """Whether the first process, or who makes it, still runs (a zombie does not)."""
        try:
            status, start_time = process.read_stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return start_time == self.start_time and status not in ("Z", "X")

    def own_cgroup(self) -> None:
        """Remember that its cgroup was made for it. Raises OSError."""
        self.cgroup_inode = os.stat(self.cgroup).st_ino

    def has_cgroup(self) -> bool:
        """Whether its cgroup is still there."""
        try:
            return bool(self.cgroup) and os.stat(self.cgroup).st_ino == self.cgroup_inode
        except FileNotFoundError:
            return False

    def open_process(self) -> int:
        """A pidfd of the first process. Raises ProcessLookupError unless it runs."""
        if self.is_creating:
            raise ProcessLookupError(self.pid)
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            raise ProcessLookupError(self.pid) from None
        # Checked after the pidfd is open, so that it is never that of a recycled pid.
        if not self.is_alive():
            os.close(pidfd)
            raise ProcessLookupError(self.pid)
        return pidfd

    def shares_our_root(self) -> bool:
        """Whether root in the container is root here: no user namespace is between. False where it does not run."""
        try:
            theirs = os.stat(f"/proc/{self.pid}/ns/user")
        except OSError:
            return False
        return os.path.samestat(theirs, os.stat("/proc/self/ns/user"))

    def status(self) -> str:
        """`creating`, `created`, `running` or `stopped`."""
        if not self.pid or not self.is_alive():
            return "stopped"
        if self.is_creating:
            return "creating"
        return "created" if os.path.exists(f"{self.directory}/start.sock") else "running"

    def to_json(self) -> Json:
        """The state as the specification has it."""
        status = self.status()
        return {
            "ociVersion": OCI_VERSION,
            "id": self.container_id,
            "status": status,
            "pid": self.pid if status not in ("creating", "stopped") else 0,
            "bundle": self.bundle,
            "annotations": self.annotations,
        }

    def save(self) -> None:
        """Write state.json atomically. Raises OSError."""
        text = json_text.dumps(
            {
                "pid": self.pid,
                "start_time": self.start_time,
                "bundle": self.bundle,
                "cgroup": self.cgroup,
                "cgroup_inode": self.cgroup_inode,
                "annotations": self.annotations,
                "creating": self.is_creating,
            }
        )
        path = f"{self.directory}/state.json"
        with open(f"{path}.new", "w") as file:
            file.write(text)
        os.rename(f"{path}.new", path)


def reserve(root: str, container_id: str, bundle: str, annotations: dict[str, str], cgroup: str) -> State:
    """Take the id for a container that this process makes: its directory, and its State.

    cgroup  the directory that will be made for it, which is not its own yet

    Raises Conflict, OSError.
    """
    check_id(container_id)
    os.makedirs(root, mode=0o700, exist_ok=True)
    clear_unfinished(root)
    # Under another name first, so that it is never seen without its state: the name says whose it is.
    pid = os.getpid()
    start_time = process.read_stat(pid)[1]
    made = os.path.join(root, f".{pid}-{start_time}-{os.urandom(8).hex()}")
    os.mkdir(made, 0o700)
    directory = os.path.join(root, container_id)
    reserved = State(made, pid, start_time, bundle, annotations, is_creating=True)
    reserved.cgroup = cgroup
    try:
        reserved.save()
        os.rename(made, directory)
    except BaseException as error:
        forget(made)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise Conflict("create container", container_id, "a container with this id exists") from None
        raise
    reserved.directory, reserved.container_id = directory, container_id
    return reserved


def load(root: str, container_id: str) -> State:
    """The container's State, one without a process where state.json is missing or broken. Raises NotFound."""
    check_id(container_id)
    directory = os.path.join(root, container_id)
    try:
        with open(f"{directory}/state.json") as file:
            data = json_text.loads(file.read())
        found = State(
            directory,
            data["pid"],
            data["start_time"],
            data["bundle"],
            data["annotations"],
            is_creating=data["creating"],
        )
        found.cgroup, found.cgroup_inode = data["cgroup"], data["cgroup_inode"]
        return found
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        if not os.path.isdir(directory):
            raise NotFound("find container", container_id, "container does not exist") from None
        return State(directory, 0, 0, "", {})


def clear_unfinished(root: str) -> None:
    """Remove what a process that was killed in `reserve` has left. Raises OSError."""
    for name in os.listdir(root) if os.path.isdir(root) else []:
        pid, _, rest = name.removeprefix(".").partition("-")
        start_time = rest.partition("-")[0]
        if name.startswith(".") and pid.isdigit() and start_time.isdigit():
            path = os.path.join(root, name)
            if not State(path, int(pid), int(start_time), "", {}).is_alive():
                forget(path)


def list_ids(root: str) -> list[str]:
    """Every container's id, sorted."""
    try:
        names = [name for name in os.listdir(root) if not name.startswith(".")]
        return sorted(name for name in names if os.path.isdir(os.path.join(root, name)))
    except FileNotFoundError:
        return []


def forget(directory: str) -> None:
    """Remove the container's directory. Raises OSError."""
    for name in ("start.sock", "start.sock.claimed", "state.json.new", "state.json"):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass


def write_pid(path: str, pid: int) -> None:
    """Write --pid-file, where one is named: all of it or nothing. Raises UsageError."""
    if not path:
        return
    try:
        with open(f"{path}.new", "w") as file:
            file.write(str(pid))
        os.rename(f"{path}.new", path)
    except OSError as error:
        raise UsageError("write --pid-file", path, (error.strerror or "").lower()) from None
