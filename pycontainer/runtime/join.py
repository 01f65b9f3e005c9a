"""One more program in a container that runs: what `exec` does.

          caller                        joiner                          program
            │  clone3 ──────────────────▶ │ in the container's cgroup, and else still on the host
            │                             │ setns: all namespaces at once
            │                             │ gives up what is not granted
            │                             │ clone3 ────────────────────▶ │ a child of the caller's
            │ ◀──── READY, pid, a pidfd ──│ ends                         │
            │ ── START ─────────────────────────────────────────────────▶│ execve
            │ ◀─────────────────────────────────── end of file or FAILED │ end of file: execve closed the socket

All three have the engine's memory, and a container is hostile: it would trace one of them, take its descriptors, or
write to the engine's interpreter through its /proc/PID/exe (CVE-2016-9962, CVE-2019-5736). So

- the joiner is never in the container's PID namespace: for the container there is no such process. When the program's
  process appears there, it has the rights, the user, the directory and the root of the program already, and of
  descriptors the socket above and the program's own. Whatever it has, the container has.
- both are not dumpable, and their memory belongs to the user namespace in which it was executed, the host's. Only
  CAP_SYS_PTRACE in that one gets at such a process. A container with a user namespace never has it; one without
  (--userns=host) has it if it was granted, and to write to the interpreter it needs to execute it only, through a link
  that it replaces at the right moment. For these kernel/interpreter.py puts the interpreter on a read-only mount.
- nothing is imported after setns: it would be the container's code.

A container that stops the new process keeps the caller waiting, as with any program of its own.
"""

from __future__ import annotations

import _socket
import errno
import os
import select

from pycontainer.errors import Conflict, HostError, StepFailed
from pycontainer.kernel import cgroup, descriptors, process, rlimit, signals
from pycontainer.kernel.namespace import CLONE_NEWUSER, FILES, TYPES
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Undo, wait_readable
from pycontainer.runtime import init, spec, state, sync
from pycontainer.runtime.operations import devices, identity, parent, scheduling
from pycontainer.runtime.operations.join import CloneJoiner, CloneProgram, EnterNamespaces

_PATIENCE = 1.0  # seconds


class _Killed(Exception):
    """One of the two processes has ended without a word."""


class Joined:
    """A program that runs in a container, a child of this process: its pid here, and a pidfd."""

    __slots__ = ("pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd


class _Entry:
    """What the joiner has from its caller.

    pid, pidfd   the container's first process
    namespaces   CLONE_NEW* flags of those to enter
    channel      socket to the caller
    stdio        descriptors for the program's 0, 1, 2; unused when it has a terminal
    console      socket to which the terminal's master is sent, or None
    """

    __slots__ = ("channel", "console", "namespaces", "pid", "pidfd", "stdio")

    def __init__(
        self,
        *,
        pid: int,
        pidfd: int,
        namespaces: int,
        channel: _socket.socket,
        stdio: tuple[int, int, int],
        console: _socket.socket | None,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.namespaces = namespaces
        self.channel = channel
        self.stdio = stdio
        self.console = console


def open_root(container_state: state.State) -> int:
    """An O_PATH descriptor of the container's root, to be used with kernel/root_path.py. Raises Conflict."""
    try:
        root = os.open(f"/proc/{container_state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise _not_running(container_state) from None
    # Checked after it is open, so that it is never the root of a process that has the number now.
    if not container_state.is_alive():
        os.close(root)
        raise _not_running(container_state)
    return root


def execute(
    container_state: state.State,
    program: spec.Process,
    journal: Journal,
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console: _socket.socket | None = None,
) -> Joined:
    """Execute `program` in the container; returns when it runs. It outlives this process.

    stdio     descriptors that become the program's 0, 1, 2 (unless it has a terminal)
    console   where the terminal's master is sent, with SCM_RIGHTS

    Raises Conflict unless the container runs and is not paused, CommandNotFound, CommandNotExecutable, StepFailed,
    HostError, OSError; then nothing is left of it.
    """
    if program.terminal and console is None:
        raise HostError("exec", container_state.container_id, "a terminal needs a console socket", "--console-socket")
    try:
        return _execute(container_state, program, journal, stdio, console)
    except (StepFailed, OSError, _Killed) as error:
        # Whatever did not work: if the container has ended, this is why.
        if _has_ended(container_state, isinstance(error, _Killed) or error.errno in (errno.ESRCH, errno.ENOMEM)):
            raise _not_running(container_state) from error
        if not isinstance(error, _Killed):
            raise
        hint = "perhaps for lack of memory: the container's limit counts it"
        cause = "its process was killed before it could begin"
        raise HostError("exec", container_state.container_id, cause, hint) from None


def _execute(
    container_state: state.State,
    program: spec.Process,
    journal: Journal,
    stdio: tuple[int, int, int],
    console: _socket.socket | None,
) -> Joined:
    with Undo() as undo, Undo() as held:
        pidfd = _open_process(container_state)
        held.push(os.close, pidfd)
        ours, theirs = descriptors.pair()
        held.push(ours.close)
        with Undo() as inherited:
            inherited.push(theirs.close)
            entry = _Entry(
                pid=container_state.pid,
                pidfd=pidfd,
                namespaces=_foreign_namespaces(container_state.pid),
                channel=theirs,
                stdio=descriptors.above_two(stdio, inherited),
                console=console,
            )
            joiner, joiner_pidfd = _clone_on(container_state, program.affinity[0], journal)
            if joiner == 0:
                ours.close()
                _join(entry, program, journal)
        held.push(process.end, joiner_pidfd)
        joined = _await_program(ours, program, journal, undo)
        undo.forget()
        return joined


def _await_program(channel: _socket.socket, program: spec.Process, journal: Journal, undo: Undo) -> Joined:
    """Until the program is executed. Raises what kept it from it, _Killed."""
    wait_readable(channel.fileno())
    message, passed = descriptors.receive(channel, 1)
    if not message:
        raise _Killed
    if not passed:
        sync.unpack(message, sync.READY)
    undo.push(process.end, passed[0])
    pid = int(message.removeprefix(sync.READY))
    _schedule(pid, program, journal)
    try:
        # Not interruptible at first, because a signal that comes when the program runs is one for the program.
        channel.settimeout(_PATIENCE)
        answer = sync.ask(channel, sync.START)
    except TimeoutError:
        channel.settimeout(None)
        wait_readable(channel.fileno())
        answer = sync.hear(channel)
    if answer is None:
        raise _Killed
    sync.unpack(answer, b"")
    return Joined(pid, passed[0])


def _schedule(pid: int, program: spec.Process, journal: Journal) -> None:
    """The program's process, which waits: a child of this one, so that the number is nobody else's. Raises StepFailed.

    Not the joiner, because what it has may not be inherited: sched(7), "reset-on-fork", SCHED_DEADLINE.
    """
    first, last = program.affinity
    if first or last:
        reason = "those of its program" if last else "all that the container has: what it began on ends here"
        journal.perform(scheduling.SetAffinity(pid, last, f"processors of execCPUAffinity, {reason}"))
    scheduling.schedule(pid, program.scheduler, program.io_priority, journal)


def _open_process(container_state: state.State) -> int:
    """A pidfd of the first process. Raises Conflict."""
    try:
        pidfd = container_state.open_process()
    except ProcessLookupError:
        raise _not_running(container_state) from None
    if container_state.cgroup and cgroup.is_frozen(container_state.cgroup):
        os.close(pidfd)
        raise Conflict("exec", container_state.container_id, "the container is paused", "unpause it first")
    return pidfd


def _not_running(container_state: state.State) -> Conflict:
    return Conflict("exec", container_state.container_id, "the container is not running")


def _has_ended(container_state: state.State, is_ending: bool) -> bool:
    """Whether the first process has ended. That is awaited for a moment where it `is_ending`, as it seems."""
    try:
        pidfd = container_state.open_process()
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        # Because the others of its PID namespace are killed before it has ended: pid_namespaces(7).
        return bool(poll.poll(_PATIENCE * 1000 if is_ending else 0))
    finally:
        os.close(pidfd)


def _foreign_namespaces(pid: int) -> int:
    """The CLONE_NEW* flags of the namespaces in which `pid` is and this process is not. Raises OSError."""
    # Only these, because the kernel refuses to enter the user namespace that a process is in already.
    flags = 0
    for kind, flag in TYPES.items():
        name = FILES.get(kind, kind)
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{name}")
        except FileNotFoundError:
            # A kernel without time namespaces; or the process has ended, of which setns(2) tells.
            continue
        if not os.path.samestat(theirs, os.stat(f"/proc/self/ns/{name}")):
            flags |= flag
    return flags


def _clone(container_state: state.State, journal: Journal) -> tuple[int, int]:
    """Clone the joiner into the container's cgroup."""
    result: tuple[int, int]
    try:
        result = journal.perform(CloneJoiner(container_state.cgroup))
    except StepFailed as error:
        inner = _inner_cgroup(container_state) if error.errno == errno.EBUSY else ""
        if not inner:
            raise
        # It has divided its cgroup, as systemd does, and then processes may be in the leaves only: cgroups(7).
        result = journal.perform(CloneJoiner(inner))
    return result


def _clone_on(container_state: state.State, cpus: list[int], journal: Journal) -> tuple[int, int]:
    """`_clone` on these processors, which the joiner inherits: it is born in the cgroup, not moved there."""
    if not cpus:
        return _clone(container_state, journal)
    before = os.sched_getaffinity(0)
    journal.perform(scheduling.SetAffinity(0, cpus, "processors of execCPUAffinity, on which it begins"))
    try:
        pid, pidfd = _clone(container_state, journal)
    except BaseException:
        os.sched_setaffinity(0, before)
        raise
    if pid:
        os.sched_setaffinity(0, before)
    return pid, pidfd


def _inner_cgroup(container_state: state.State) -> str:
    """The cgroup below the container's own where its first process is; "" where it is in no such."""
    hierarchy = cgroup.find_hierarchy()
    with open(f"/proc/{container_state.pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        name = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    path = f"{hierarchy.mountpoint}{name}" if hierarchy is not None else ""
    inside = path.startswith(f"{container_state.cgroup}/") and ".." not in path.split("/")
    return path if inside else ""


def _join(entry: _Entry, program: spec.Process, journal: Journal) -> None:
    """The joiner. Never returns: reports to the caller and exits; nor in the program's process."""
    channel = entry.channel
    try:
        _shield()
        if descriptors.is_closed(channel):
            # because the parent may have died before
            os._exit(1)
        signals.restore_defaults()
        kept = {channel.fileno(), entry.pidfd}
        kept.update(() if program.terminal else entry.stdio)
        kept.update(() if entry.console is None else (entry.console.fileno(),))
        kept.update(() if journal.out is None else (journal.out,))
        # because the program's process has them too until execve
        descriptors.close_others(kept)
        # because the container's /proc, which is all there is later, is not to be believed
        host = init.Host()

        stdio = _enter(entry, program, journal)
        init.give_up_privileges(program, host, journal)
        pid, pidfd = journal.perform(CloneProgram())
        if pid == 0:
            _become_program(channel, stdio, program, host, journal)
        descriptors.send(channel, sync.READY + str(pid).encode(), [pidfd])
        os._exit(0)
    except BaseException as error:
        # Everything is caught, because no traceback may reach the container's output: the caller words the error.
        try:
            channel.send(sync.pack_failure(error))
        finally:
            os._exit(1)


def _shield() -> None:
    """Die with the parent, and be nobody's to trace. The kernel forgets both when ids change: prctl(2)."""
    process.set_parent_death_signal(signals.SIGKILL)
    process.set_dumpable(False)


def _enter(entry: _Entry, program: spec.Process, journal: Journal) -> tuple[int, int, int]:
    """Everything that takes more rights than the program has; the descriptors for its 0, 1, 2."""
    perform = journal.perform
    # because only the host's root may raise these, and lower that
    if program.oom_score_adj is not None:
        reason = "how soon the kernel picks this process when the host runs out of memory"
        value = str(program.oom_score_adj)
        perform(parent.WriteFile("privileges", "set oom_score_adj", "/proc/self/oom_score_adj", value, reason))
    for number, _, hard in program.rlimits:
        if rlimit.is_raise(number, hard):
            perform(parent.RaiseHardLimit(0, number, hard))

    perform(EnterNamespaces(entry.pid, entry.pidfd, entry.namespaces))
    journal.side = "container"
    os.close(entry.pidfd)
    if entry.namespaces & CLONE_NEWUSER:
        # because the host's root is nobody in it
        perform(identity.BecomeRoot())
        _shield()
    # because it is inherited: the caller's keys could be read
    perform(identity.NewSessionKeyring())

    stdio = entry.stdio
    if entry.console is not None:
        if program.terminal:
            root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            rows, columns = program.console_size
            # because it is the container's devpts that this root has
            master, slave = perform(devices.OpenTerminal(root, program.uid, rows, columns))
            descriptors.send_descriptor(entry.console, master)
            os.close(master)
            os.close(root)
            stdio = (slave, slave, slave)
        entry.console.close()
    return stdio


def _become_program(
    channel: _socket.socket, stdio: tuple[int, int, int], program: spec.Process, host: init.Host, journal: Journal
) -> None:
    """The program's process: what each process has to do for itself, then execve. Never returns."""
    # because a clone has no such signal from its parent; here and now that is the caller
    process.set_parent_death_signal(signals.SIGKILL)
    sync.unpack(channel.recv(1024), sync.START)
    # because both are inherited, the session and with it the caller's terminal
    journal.perform(identity.NewSession())
    if program.terminal:
        journal.perform(identity.TakeTerminal(stdio[0]))
    process.set_parent_death_signal(0)
    init.execute(program, stdio, host, journal)
