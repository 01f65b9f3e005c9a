"""The parent's half of the runtime: create, start, kill, delete (runtime.md, "Operations").

`create` leaves a process that has its namespaces, mounts and limits and waits; `start` lets it execute its program.
Between the two whoever called wires the network. A create that fails undoes everything it did.
"""

from __future__ import annotations

# Not hashlib, because that loads OpenSSL.
import _blake2
import _socket
import errno
import os

from pycontainer.errors import Conflict, HostError, StepFailed
from pycontainer.kernel import cgroup, descriptors, device_filter, process, rlimit, signals
from pycontainer.kernel.namespace import CLONE_NEWCGROUP, CLONE_NEWPID, CLONE_NEWUSER, setns
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Undo, wait_readable
from pycontainer.runtime import init, limits, state, sync
from pycontainer.runtime.mounts import Options
from pycontainer.runtime.operations import parent, scheduling
from pycontainer.runtime.spec import Spec


class Container:
    """A container that this process created: its state, and a pidfd of its first process."""

    __slots__ = ("pidfd", "state")

    def __init__(self, container_state: state.State, pidfd: int) -> None:
        self.state = container_state
        self.pidfd = pidfd


# Where the cgroups are of containers whose config.json names none; of another root than this behind a dash of its own.
DEFAULT_CGROUP_PARENT = "pycontainer-runtime"
DEFAULT_ROOT = "/run/pycontainer/runtime"


def create(
    spec: Spec,
    container_id: str,
    root: str,
    journal: Journal,
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console: _socket.socket | None = None,
    tethered: bool = False,
    sibling: bool = False,
    root_mounts: int = 0,
) -> Container:
    """Make the container and leave it waiting for `start`. Raises a PycontainerError; then nothing is left of it.

    stdio        descriptors that become the program's 0, 1, 2 (unless it has a terminal)
    console      where the terminal's master is sent, with SCM_RIGHTS
    tethered     the container dies with its parent
    sibling      its parent is the caller's parent, and not the caller
    root_mounts  how many mounts at the root's path are the caller's own, in a mount namespace of its own
    """
    if spec.process.terminal and console is None:
        raise HostError("create container", container_id, "a terminal needs a console socket", "--console-socket PATH")
    with Undo() as undo:
        hierarchy = cgroup.find_hierarchy()
        cgroup_path = _cgroup_path(spec, container_id, root, hierarchy)
        container = state.reserve(root, container_id, spec.bundle, spec.annotations, cgroup_path)
        directory = container.directory
        undo.push(state.forget, directory)
        if hierarchy is not None:
            controllers = _make_cgroup(hierarchy, cgroup_path, journal)
            # Only now, because until it was made it may have been somebody else's.
            undo.push(remove_cgroup, cgroup_path)
            container.own_cgroup()
            # So that `delete` finds it, should this process be killed.
            container.save()
            _limit(spec, hierarchy, cgroup_path, controllers, journal)
        else:
            limits.check_none(spec.limits)
        listener = descriptors.listen(directory, "start.sock")
        undo.push(listener.close)
        ours, theirs = descriptors.pair()
        undo.push(ours.close)
        with Undo() as inherited_descriptors:
            inherited_descriptors.push(theirs.close)
            root_tree, trees = _open_trees(spec, cgroup_path, root_mounts, journal, inherited_descriptors)
            inherited = init.Inherited(
                sync=theirs,
                start=listener,
                stdio=descriptors.above_two(stdio, inherited_descriptors),
                console=console,
                root_tree=root_tree,
                trees=trees,
                tethered=tethered,
            )
            pid, pidfd = _clone(spec, cgroup_path, journal, process.CLONE_PARENT if sibling else 0)
            if pid == 0:
                ours.close()
                init.run(spec, inherited, journal)
        undo.push(process.end, pidfd)
        _configure_child(spec, pid, journal)
        _await_ready(ours, spec, pid, journal)
        ours.close()
        listener.close()
        container.pid, container.start_time, container.is_creating = pid, process.read_stat(pid)[1], False
        container.save()
        # Whoever has been told to end would return to nobody.
        signals.check_held()
        undo.forget()
        return Container(container, pidfd)


def start(container_state: state.State) -> None:
    """Let a created container execute its program; returns when it has. Raises what kept it from doing so, Conflict."""
    path = f"{container_state.directory}/start.sock"
    claimed = f"{path}.claimed"
    if container_state.status() != "created":
        cause = f"it is {container_state.status()}, not created"
        raise Conflict("start container", container_state.container_id, cause)
    try:
        # The name is what is claimed: only one process can rename it, and who does is the one that starts.
        os.rename(path, claimed)
        connection = descriptors.connect(container_state.directory, os.path.basename(claimed))
        os.unlink(claimed)
    except (FileNotFoundError, ConnectionRefusedError):
        raise Conflict("start container", container_state.container_id, "it was started or has ended") from None
    try:
        answer = sync.ask(connection, sync.START)
        if answer is None:
            raise HostError("start container", container_state.container_id, "its first process has ended")
        sync.unpack(answer, b"")
    finally:
        connection.close()


def kill(container_state: state.State, signum: int) -> None:
    """Send a signal to the first process. Raises Conflict unless it is created or running."""
    try:
        pidfd = container_state.open_process()
    except ProcessLookupError:
        raise _not_running(container_state) from None
    try:
        if not signals.send(pidfd, signum):
            raise _not_running(container_state)
    finally:
        os.close(pidfd)


def _not_running(container_state: state.State) -> Conflict:
    return Conflict("kill container", container_state.container_id, "container not running")


def delete(container_state: state.State, *, force: bool = False) -> None:
    """Return all that the container held: processes, cgroup, state. Raises Conflict while it runs, unless `force`."""
    if container_state.status() != "stopped":
        if not force:
            hint = "kill it first, or use --force"
            raise Conflict("delete container", container_state.container_id, f"it is {container_state.status()}", hint)
        try:
            kill(container_state, signals.SIGKILL)
        except Conflict:
            pass
    if container_state.has_cgroup():
        remove_cgroup(container_state.cgroup)
    elif container_state.cgroup and not container_state.cgroup_inode:
        # Who made it was killed, perhaps before it could say that this one is its own; it is if it is empty.
        cgroup.remove_if_empty(container_state.cgroup)
        cgroup.remove_parents(container_state.cgroup)
    state.forget(container_state.directory)


def reap(container: Container) -> None:
    """Close the pidfd, after taking the exit status if nobody has: by now the process has ended. Raises OSError."""
    try:
        os.waitid(os.P_PIDFD, container.pidfd, os.WEXITED)
    except ChildProcessError:
        pass
    os.close(container.pidfd)


def remove_cgroup(path: str, journal: Journal | None = None) -> None:
    """End what still runs in the cgroup and remove it, with the parents that were made for it. Raises StepFailed."""
    for operation in (parent.EndProcesses(path), parent.RemoveCgroup(path)):
        (journal or Journal()).perform(operation)


def _cgroup_path(spec: Spec, container_id: str, root: str, hierarchy: cgroup.Hierarchy | None) -> str:
    """The container's cgroup directory; "" on a host without cgroup2. Raises HostError."""
    if hierarchy is None:
        if CLONE_NEWUSER not in spec.namespaces and not _allows_everything(spec):
            hint = "mount cgroup2, or use a user namespace"
            raise HostError("attach device filter", container_id, "cgroup2 is not mounted", hint)
        return ""
    name = spec.cgroups_path or container_id
    if ":" in name or ".." in name.split("/") or not name.strip("/"):
        hint = "write it as /parent/name; systemd's slice:prefix:name form is not supported"
        raise HostError("make cgroup", name, "not a path in the cgroup hierarchy", hint)
    if not name.startswith("/"):
        # Not the same in every root, because an id may be in each.
        own = "" if root == DEFAULT_ROOT else f"-{_blake2.blake2b(os.fsencode(root), digest_size=4).hexdigest()}"
        name = f"/{DEFAULT_CGROUP_PARENT}{own}/{name}"
    return hierarchy.mountpoint + name


def _make_cgroup(hierarchy: cgroup.Hierarchy, path: str, journal: Journal) -> list[str]:
    """Make the cgroup; the controllers that it has. One that is empty is made anew. Raises Conflict, StepFailed."""
    operation = parent.MakeCgroup(hierarchy, path.removeprefix(hierarchy.mountpoint))
    try:
        return list(journal.perform(operation))
    except StepFailed as error:
        if error.errno != errno.EEXIST:
            raise
    try:
        # The kernel knows whether somebody is in it, or has made a cgroup below it.
        os.rmdir(path)
        return list(journal.perform(operation))
    except (OSError, StepFailed) as error:
        if error.errno not in (errno.EBUSY, errno.EEXIST, errno.ENOTEMPTY):
            raise
        hint = "end what runs in it, or name another one in linux.cgroupsPath"
        raise Conflict("make cgroup", path, "it is there already, and not empty", hint) from None


def _limit(spec: Spec, hierarchy: cgroup.Hierarchy, path: str, controllers: list[str], journal: Journal) -> None:
    """Set the limits and the device filter of the cgroup. Raises HostError, StepFailed."""
    limits.check(hierarchy, path, controllers, spec.limits)
    for limit in spec.limits:
        limits.write(path, limit, journal)
    # Without any rules too: what is not granted is denied, as in runc.
    granted = [
        {
            "allow": True,
            "type": "c" if device.type == "u" else device.type,
            "major": device.major,
            "minor": device.minor,
        }
        for device in spec.devices
        if device.type != "p"
    ]
    journal.perform(device_filter.AttachDeviceFilter(path, spec.device_rules + device_filter.ALWAYS + granted))


def _allows_everything(spec: Spec) -> bool:
    return bool(spec.device_rules) and all(rule["allow"] for rule in spec.device_rules)


def _open_trees(
    spec: Spec, cgroup_path: str, root_mounts: int, journal: Journal, held: Undo
) -> tuple[int, dict[int, int]]:
    root_options = Options(["rbind"])
    root_tree = journal.perform(parent.CloneTree(spec.root, root_options, "the root file system", [], []))
    held.push(os.close, root_tree)
    if root_mounts and any(entry.is_bind and _is_above(entry.source, spec.root) for entry in spec.mounts):
        journal.perform(parent.LeaveRoot(spec.root, root_mounts))
    trees = {}
    # In the order of the configuration, because from Linux 6.8 on mountinfo has mounts in the order in which they were
    # made, and not in that in which they were attached. So these come before the file systems that the child makes.
    for position, entry in enumerate(spec.mounts):
        if entry.is_bind:
            source, what = entry.source, f"volume {entry.destination}"
        elif entry.type == "cgroup" and cgroup_path:
            # Bound, not mounted anew: it looks the same from inside, and a new mount of cgroup2 takes 10 ms.
            source, what = cgroup_path, "the container's cgroup"
        else:
            continue
        tree = journal.perform(parent.CloneTree(source, entry.options, what, entry.uid_mappings, entry.gid_mappings))
        held.push(os.close, tree)
        trees[position] = tree
    return root_tree, trees


def _is_above(source: str, root: str) -> bool:
    return f"{root}/".startswith(f"{os.path.realpath(source).rstrip('/')}/")


def _clone(spec: Spec, cgroup_path: str, journal: Journal, flags: int) -> tuple[int, int]:
    """Clone the child into its namespaces, those that exist already by way of this process."""
    homes: list[tuple[int, int]] = []
    try:
        for kind, path in spec.namespaces.items():
            if not path:
                flags |= kind
                continue
            name = "pid_for_children" if kind == CLONE_NEWPID else parent.namespace_file(kind)
            homes.append((os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind))
            journal.perform(parent.JoinNamespace(kind, path))
        # The cgroup namespace is not cloned but unshared by the child: see init.py.
        result = journal.perform(parent.Clone(flags & ~CLONE_NEWCGROUP, cgroup_path))
    except BaseException:
        _go_home(homes)
        raise
    pid: int
    pidfd: int
    pid, pidfd = result
    if pid:
        _go_home(homes)
    return pid, pidfd


def _go_home(homes: list[tuple[int, int]]) -> None:
    for descriptor, kind in homes:
        setns(descriptor, kind)
        os.close(descriptor)


def _await_ready(channel: _socket.socket, spec: Spec, pid: int, journal: Journal) -> None:
    """Tell the child that it is configured; until it waits for `start`. Raises what kept it from that."""
    sync.unpack(sync.ask(channel, sync.MAPPED, wait_readable) or b"", sync.READY)
    # Only now, so that what is given little time is not long in the making.
    scheduling.schedule(pid, spec.process.scheduler, spec.process.io_priority, journal)


def _configure_child(spec: Spec, pid: int, journal: Journal) -> None:
    """What only the parent may do to the child: its id maps, its OOM score, higher hard limits."""
    if CLONE_NEWUSER in spec.namespaces:
        journal.perform(parent.WriteIdMaps(pid, spec.uid_mappings, spec.gid_mappings))
    if spec.process.oom_score_adj is not None:
        reason = "how soon the kernel picks these processes when the host runs out of memory"
        path, value = f"/proc/{pid}/oom_score_adj", str(spec.process.oom_score_adj)
        hint = "one below its parent's needs CAP_SYS_RESOURCE, which this host may not have given us"
        journal.perform(parent.WriteFile("privileges", "set oom_score_adj", path, value, reason, hint))
    for number, _, hard in spec.process.rlimits:
        if rlimit.is_raise(number, hard):
            journal.perform(parent.RaiseHardLimit(pid, number, hard))
