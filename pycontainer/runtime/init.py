"""The container's first process, from its birth to execve(2). Read it aloud and you have explained what a container is.

Everything it needs is imported here, before the root changes: an import after `PivotRoot` would load code from the
container's file system.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os

from pycontainer.errors import StepFailed
from pycontainer.kernel import capability, mount, process, record, signals
from pycontainer.kernel.descriptors import accept, is_closed, send_descriptor
from pycontainer.kernel.namespace import CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWUSER
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.root_path import read_in_root
from pycontainer.runtime import executable, sync
from pycontainer.runtime.mounts import PROPAGATION
from pycontainer.runtime.operations import devices, filesystem, identity
from pycontainer.runtime.operations.target import is_at, look
from pycontainer.runtime.spec import CAPABILITY_SETS, Device, Mount, Process, Spec

_LONGEST_PASSWD = 1 << 20  # bytes

DEFAULT_DEVICES = [
    Device.character("/dev/null", 1, 3),
    Device.character("/dev/zero", 1, 5),
    Device.character("/dev/full", 1, 7),
    Device.character("/dev/random", 1, 8),
    Device.character("/dev/urandom", 1, 9),
    Device.character("/dev/tty", 5, 0),
]

_REASONS = {
    "proc": "shows the processes of this PID namespace only",
    "sysfs": "shows the devices of this network namespace; the kernel's knobs stay read-only",
    "tmpfs": "memory that is gone with the container",
    "devpts": "terminals of the container's own, none of the host's",
    "mqueue": "POSIX message queues of this IPC namespace",
    "cgroup": "the container's own limits and counters",
}


class Inherited:
    """What the child has from its parent at birth: descriptors, and nothing that is a path on the host.

    sync       socket to the parent (see sync.py)
    start      listening socket that `start` connects to
    stdio      descriptors for the program's 0, 1, 2; unused when it has a terminal
    console    socket to which the terminal's master is sent, or None
    root_tree  detached mount of the root file system
    trees      detached mounts for the bind entries of `spec.mounts`, by position
    tethered   die with the parent, even after execve
    """

    def __init__(
        self,
        *,
        sync: _socket.socket,
        start: _socket.socket,
        stdio: tuple[int, int, int],
        console: _socket.socket | None,
        root_tree: int,
        trees: dict[int, int],
        tethered: bool,
    ) -> None:
        self.sync = sync
        self.start = start
        self.stdio = stdio
        self.console = console
        self.root_tree = root_tree
        self.trees = trees
        self.tethered = tethered


class Host:
    """What is read of the host's /proc while it is there: the last capability's number, this program's own file."""

    __slots__ = ("last_capability", "program")

    def __init__(self) -> None:
        self.last_capability = capability.last_capability()
        self.program = os.stat("/proc/self/exe")


def run(spec: Spec, inherited: Inherited, journal: Journal) -> None:
    """Become the container. Never returns: ends in execve(2), or reports to the parent and exits."""
    channel = inherited.sync
    journal.side = "container"
    try:
        # because nobody else would end this process if the parent were killed before it knows of us
        process.set_parent_death_signal(signals.SIGKILL)
        # because until execve this is a host's program: others in shared namespaces must not open its /proc/PID/exe
        process.set_dumpable(False)
        signals.restore_defaults()
        # because the container's /proc, which is all there is later, is not to be believed
        host = Host()
        sync.unpack(channel.recv(1024), sync.MAPPED)

        stdio = _set_up(spec, inherited, journal)
        # because whoever calls `create` is to learn it from that, as from runc; the rest is seen by the program's user
        executable.find(spec.process.args[0], spec.process.env, to_be_sure=False)

        if not inherited.tethered:
            process.set_parent_death_signal(0)
        channel.send(sync.READY)
        channel.close()
        channel = _wait_for_start(inherited.start)
        _become_program(spec, stdio, inherited, channel, host, journal)
    except BaseException as error:
        # Everything is caught, because no traceback may reach the container's output: the parent words the error.
        try:
            channel.send(sync.pack_failure(error))
        finally:
            os._exit(1)


def _set_up(spec: Spec, inherited: Inherited, journal: Journal) -> tuple[int, int, int]:
    """Everything between birth and start, in kernel order; the descriptors for 0, 1, 2."""
    perform = journal.perform
    # because modes are given outright below, and none may be narrowed by the caller's umask
    os.umask(0)
    namespaces = spec.namespaces

    if CLONE_NEWUSER in namespaces:
        # because the new namespace's maps exist only now; before, this process had no id in it
        perform(identity.BecomeRoot())
        # because the kernel forgets it when the ids change: prctl(2)
        process.set_parent_death_signal(signals.SIGKILL)
    if CLONE_NEWCGROUP in namespaces:
        # because a cgroup namespace is rooted where its maker is, this process is in its cgroup already
        perform(identity.NewCgroupNamespace())
    if spec.namespaces.get(CLONE_NEWNET) == "":
        # because a new network namespace has a loopback that is down, and nobody else may be going to wire it
        perform(identity.RaiseLoopback())
    if spec.hostname:
        perform(identity.SetName("sethostname", spec.hostname))
    if spec.domainname:
        perform(identity.SetName("setdomainname", spec.domainname))
    # because both are inherited: the caller's terminal would be the container's /dev/tty, its keys could be read
    perform(identity.NewSession())
    perform(identity.NewSessionKeyring())

    # because otherwise every mount below would also appear on the host, where / is shared
    perform(
        filesystem.SetPropagation(mount.MS_SLAVE | mount.MS_REC, "what we mount stays here; the host's mounts may come")
    )
    old_root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    record.name(old_root, "old root")
    root = inherited.root_tree
    perform(filesystem.AttachRoot(root, spec.root))

    # Before pivot_root, because proc and sysfs may be mounted in a user namespace only while another, fully visible one
    # is mounted here, the host's; and because after it the host's root is mounted on the new one, and a ".." at the
    # root, in a symbolic link of the image's say, would step up to it
    bound = [os.fstat(tree) for tree in inherited.trees.values()]
    for position, entry in enumerate(spec.mounts):
        _mount(entry, inherited.trees.get(position), root, journal)
    in_user_namespace = CLONE_NEWUSER in namespaces
    # because what is bound there is somebody's own directory: it would be filled with nodes and links
    has_own_dev = not any(is_at(root, "/dev", tree) for tree in bound)
    for device in {device.path: device for device in DEFAULT_DEVICES + spec.devices}.values() if has_own_dev else ():
        if in_user_namespace:
            perform(devices.BindDevice(root, old_root, device))
        else:
            perform(devices.MakeDevice(root, device))
    if has_own_dev:
        perform(devices.LinkDevices(root))

    stdio = inherited.stdio
    if spec.process.terminal and inherited.console is not None:
        # because the terminal's devpts is mounted only now, and /dev/console must exist before the root is read-only
        rows, columns = spec.process.console_size
        open_terminal = devices.OpenConsole if has_own_dev or look(root, "/dev/console") else devices.OpenTerminal
        master, slave = perform(open_terminal(root, spec.process.uid, rows, columns))
        send_descriptor(inherited.console, master)
        os.close(master)
        _let_go(inherited.stdio, slave)
        stdio = (slave, slave, slave)
    elif not in_user_namespace:
        # because root in the container is root of the host, whose node it would be
        stdio = _reopen_null(stdio, root, journal)

    for entry in spec.mounts:
        if entry.read_only_later:
            # because the devices had to be made in it first
            perform(filesystem.MakeMountReadOnly(root, entry.destination))
    # because /proc/sys is made read-only a few lines further down
    for name, value in spec.sysctl.items():
        perform(identity.SetSysctl(root, name, value))
    for path in spec.readonly_paths:
        perform(filesystem.MakeReadOnly(root, path, "may be read, not written: it is the host's"))
    for path in spec.masked_paths:
        perform(filesystem.MaskPath(root, old_root, DEFAULT_DEVICES[0], path))
    # because docker and runc make a working directory that the image lacks, and a read-only root would not allow it
    perform(filesystem.MakeDirectory(root, spec.process.cwd))
    if spec.root_readonly:
        # because the mount points above had to be made in it first
        perform(filesystem.MakeRootReadOnly(root))
    # because from here on nothing of the host's is needed any more
    perform(filesystem.PivotRoot(root, old_root, spec.root))
    if spec.rootfs_propagation:
        # because pivot_root refuses shared mounts, the propagation that was asked for comes last
        flags = PROPAGATION[spec.rootfs_propagation]
        perform(filesystem.SetPropagation(flags, "as config.json says"))
    for descriptor in (old_root, root):
        os.close(descriptor)
    return stdio


def _let_go(stdio: tuple[int, int, int], slave: int) -> None:
    """Give up the caller's 0, 1, 2: who reads the output of `create` would wait for its end until the program's."""
    for number, descriptor in enumerate(stdio):
        os.close(descriptor)
        os.dup2(slave, number)


def _reopen_null(stdio: tuple[int, int, int], root: int, journal: Journal) -> tuple[int, int, int]:
    """The descriptors with the container's own /dev/null in place of the host's, as in runc."""
    found = [
        journal.perform(devices.ReopenNull(root, fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE))
        if devices.is_null(descriptor) and look(root, "/dev/null")
        else descriptor
        for descriptor in stdio
    ]
    return found[0], found[1], found[2]


def _mount(entry: Mount, tree: int | None, root: int, journal: Journal) -> None:
    options = entry.options
    if tree is not None:
        what = "the cgroup" if entry.type == "cgroup" else f"volume {entry.source}"
        reason = _REASONS.get(entry.type, "a file or directory of the host")
        journal.perform(filesystem.AttachTree(root, tree, entry.destination, options, what, reason))
        return
    fstype = "cgroup2" if entry.type == "cgroup" else entry.type
    reason = _REASONS.get(entry.type, "asked for in config.json")
    journal.perform(filesystem.MountFileSystem(root, entry.destination, fstype, entry.source, options, reason))


def _wait_for_start(listener: _socket.socket) -> _socket.socket:
    """Block until `start` connects and says so; the connection, which execve closes."""
    connection = accept(listener)
    listener.close()
    sync.unpack(connection.recv(1024), sync.START)
    return connection


def _become_program(
    spec: Spec,
    stdio: tuple[int, int, int],
    inherited: Inherited,
    connection: _socket.socket,
    host: Host,
    journal: Journal,
) -> None:
    if spec.process.terminal:
        # because the terminal belongs to the program's user, and root may take it whoever that is
        journal.perform(identity.TakeTerminal(stdio[0]))
    give_up_privileges(spec.process, host, journal)
    if inherited.tethered:
        # because the kernel forgets it when the ids change; then look, because the parent may have died before
        process.set_parent_death_signal(signals.SIGKILL)
        if is_closed(connection):
            os._exit(1)
    execute(spec.process, stdio, host, journal)


def give_up_privileges(program: Process, host: Host, journal: Journal) -> None:
    """Become the program's user, with nothing that is not granted; in its directory.

    In the order in which each step still has the right to be made. Raises StepFailed, HostError.
    """
    perform = journal.perform
    sets = _capability_sets(program.capabilities)
    # because root may enter directories that the program's user may not, as in runc; if not root, then perhaps the user
    entered = _enter(identity.ChangeDirectory(program.cwd), journal)
    if program.no_new_privileges:
        perform(identity.SetNoNewPrivileges())
    # because dropping from the bounding set needs CAP_SETPCAP, which may be gone after the next steps
    perform(identity.DropBounding(sets["bounding"], host.last_capability))
    # because setgid and setuid need CAP_SETGID and CAP_SETUID
    perform(identity.SetUser(program.uid, program.gid, program.additional_gids))
    # because a change from uid 0 empties the effective set, and the ambient set may hold only what is permitted by now
    perform(identity.SetCapabilities(sets))
    if not entered:
        perform(identity.ChangeDirectory(program.cwd))
    os.umask(program.umask if program.umask is not None else 0o022)
    # because it became what /proc/sys/fs/suid_dumpable says when the ids changed
    process.set_dumpable(False)


def execute(program: Process, stdio: tuple[int, int, int], host: Host, journal: Journal) -> None:
    """Never returns: execve(2). Raises CommandNotFound, CommandNotExecutable, StepFailed."""
    perform = journal.perform
    path = executable.find(program.args[0], program.env)
    # because root without a user namespace could write to it through /proc/self/exe afterwards (CVE-2019-5736)
    executable.refuse(path, host.program)
    environment = _with_home(program)
    # because a program may be granted too little for what was done above: few descriptors, so that none of these
    # files could be looked at, or little memory
    for number, soft, hard in program.rlimits:
        perform(identity.SetRlimit(number, soft, hard))
    try:
        perform(identity.Execute(path, program.args, environment, stdio))
    except StepFailed as error:
        raise executable.explain(path, error) from None


def _enter(operation: identity.ChangeDirectory, journal: Journal) -> bool:
    try:
        journal.perform(operation)
    except StepFailed as error:
        if error.errno != errno.EACCES:
            raise
        return False
    return True


def _capability_sets(names: dict[str, list[str]]) -> dict[str, int]:
    sets = {kind: capability.mask(names[kind]) for kind in CAPABILITY_SETS}
    # because the kernel raises no other, and what `runc spec` writes asks for more than that
    sets["ambient"] &= sets["permitted"] & sets["inheritable"]
    return sets


def _with_home(program: Process) -> list[str]:
    """The environment; where it has no HOME, the one of the user in the container's own passwd(5), or /, as in runc."""
    if any(entry.startswith("HOME=") for entry in program.env):
        return program.env
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lines = read_in_root(root, "/etc/passwd", _LONGEST_PASSWD).decode(errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    finally:
        os.close(root)
    entries = [fields for fields in (line.split(":") for line in lines) if len(fields) > 5]
    homes = [fields[5] for fields in entries if fields[2] == str(program.uid)]
    return [*program.env, f"HOME={(homes and homes[0]) or '/'}"]
