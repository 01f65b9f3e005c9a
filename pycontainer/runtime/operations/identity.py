"""Who the child is and what it becomes: ids, names, parameters, privileges, the program. The order is init.py's."""

from __future__ import annotations

import errno
import os

from pycontainer.errors import HostError
from pycontainer.kernel import capability, files, namespace, netlink, privilege, process, rlimit, terminal
from pycontainer.kernel.operation import Operation, word
from pycontainer.runtime.operations.target import open_existing


class BecomeRoot(Operation):
    """Uid and gid 0 of the new user namespace."""

    group = "namespaces"
    step = "become root of the user namespace"
    reason = "until now the process was nobody in it; root here has power over its own namespaces only"

    def shell(self) -> str:
        return "setpriv --reuid=0 --regid=0 --clear-groups …"

    def execute(self) -> None:
        privilege.become(0, 0, [])


class NewCgroupNamespace(Operation):
    """A cgroup namespace whose root is the container's own cgroup."""

    group = "namespaces"
    step = "unshare the cgroup namespace"
    reason = "/proc/self/cgroup says / instead of the host's path (cloned, it would be rooted at the parent's cgroup)"

    def shell(self) -> str:
        return "unshare --cgroup …"

    def execute(self) -> None:
        namespace.unshare(namespace.CLONE_NEWCGROUP)


class SetName(Operation):
    """Host name or NIS domain name."""

    group = "namespaces"

    def __init__(self, call: str, name: str) -> None:
        self.call = call
        self.path = name
        self.step = f"set {call.removeprefix('set')}"
        self.reason = "its own name, in its own UTS namespace"

    def shell(self) -> str:
        return f"{self.call.removeprefix('set')} {word(self.path)}"

    def execute(self) -> None:
        (process.sethostname if self.call == "sethostname" else process.setdomainname)(self.path)


class RaiseLoopback(Operation):
    """The loopback interface of a new network namespace, up."""

    group = "network"
    step = "raise the loopback interface"
    path = "lo"
    reason = "programs expect to reach 127.0.0.1, and in a new network namespace it is down"

    def shell(self) -> str:
        return "ip link set lo up"

    def execute(self) -> None:
        with netlink.Netlink(netlink.NETLINK_ROUTE) as route:
            route.request(netlink.set_link_up(netlink.LOOPBACK_IFINDEX))


class SetSysctl(Operation):
    """A kernel parameter of one of the container's namespaces: sysctl(8)."""

    group = "namespaces"
    step = "set sysctl"
    reason = "a kernel parameter of the container's namespaces, not of the host"
    REASONS = {
        "net.ipv4.ip_unprivileged_port_start": "ports below 1024 need no capability: they are this container's own",
        "net.ipv4.ping_group_range": "ping needs no capability: every group may open its kind of socket",
    }

    def __init__(self, root: int, path: str, value: str) -> None:
        self.root = root
        self.path = path
        # as sysctl(8) writes it, with what stands in a word exchanged too: eth0.5 is eth0/5
        self.name = path.removeprefix("/proc/sys/").translate({ord("/"): ".", ord("."): "/"})
        self.value = value
        self.reason = self.REASONS.get(self.name, self.reason)

    def shell(self) -> str:
        return f"sysctl -w {word(f'{word(self.name)}={self.value}')}"

    def execute(self) -> None:
        descriptor = open_existing(self.root, self.path, os.O_WRONLY)
        try:
            files.write(descriptor, os.fsencode(self.value))
        finally:
            os.close(descriptor)


class NewSession(Operation):
    """A session, and so no controlling terminal: credentials(7)."""

    group = "namespaces"
    step = "make a new session"
    reason = "the caller's terminal is not the container's /dev/tty, and a Ctrl-C there does not reach inside by itself"

    def shell(self) -> str:
        return "setsid …"

    def execute(self) -> None:
        process.new_session()


class NewSessionKeyring(Operation):
    """An anonymous session keyring: session-keyring(7)."""

    group = "namespaces"
    step = "make a new session keyring"
    reason = "keys of the caller's session are not the container's to use"

    def shell(self) -> str:
        return "keyctl session - …"

    def execute(self) -> None:
        try:
            process.new_session_keyring()
        except OSError as error:
            # ENOSYS: a kernel without keyrings; EDQUOT, EPERM: none to be had, and the caller's are not readable anyway
            if error.errno not in (errno.ENOSYS, errno.EDQUOT, errno.EPERM):
                raise


class TakeTerminal(Operation):
    """The terminal as the controlling one of the session: ioctl_tty(2)."""

    group = "exec"
    step = "take the terminal"
    reason = "this terminal's Ctrl-C, Ctrl-Z and hang-up go to the container's processes"

    def __init__(self, slave: int) -> None:
        self.slave = slave

    def shell(self) -> str:
        return f"setsid --ctty … <&{self.slave}"

    def execute(self) -> None:
        terminal.take_controlling_terminal(self.slave)


class DropBounding(Operation):
    """Capabilities that nothing in the container can ever regain, not even by a setuid program."""

    group = "privileges"
    step = "drop capabilities from the bounding set"
    reason = "not even a setuid program in the container can get these back"

    def __init__(self, bits: int, last: int) -> None:
        """`bits` are kept, of all capabilities up to the number `last`."""
        self.numbers = [number for number in range(last + 1) if not bits >> number & 1]
        if not self.numbers:
            self.reason = "nothing to drop: every capability is granted"

    def shell(self) -> str:
        names = [capability.NAMES[n].lower() if n < len(capability.NAMES) else str(n) for n in self.numbers]
        return f"capsh {' '.join(f'--drop={group}' for group in _groups(names))} -- …" if names else ""

    def execute(self) -> None:
        for number in self.numbers:
            privilege.drop_bounding(number)


class SetUser(Operation):
    """The user and groups that the program runs as."""

    group = "privileges"
    step = "set user"

    def __init__(self, uid: int, gid: int, groups: list[int]) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.path = f"{uid}:{gid}"
        self.reason = "the program's own user, as the image or --user says"
        self.hint = "is this id inside the container's range of 65,536 ids?"

    def shell(self) -> str:
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        return f"setpriv --reuid={self.uid} --regid={self.gid} {groups} …"

    def execute(self) -> None:
        # because leaving uid 0 would empty the permitted set, out of which SetCapabilities takes
        privilege.keep_capabilities(True)
        privilege.become(self.uid, self.gid, self.groups)
        privilege.keep_capabilities(False)


class SetCapabilities(Operation):
    """Effective, permitted, inheritable and ambient sets."""

    group = "privileges"
    step = "set capabilities"
    reason = "root's power comes in pieces, the capabilities: the program gets these and no others"
    hint = "pycontainer itself lacks one of these on this host: `capsh --print` shows what it has"

    def __init__(self, sets: dict[str, int]) -> None:
        self.sets = sets
        self.path = f"{sets['permitted'].bit_count()} of {len(capability.NAMES)}"
        if not sets["permitted"]:
            self.reason = "root's power comes in pieces, the capabilities: this program gets none"

    def _names(self, kind: str) -> list[str]:
        return [name for name in capability.NAMES if self.sets[kind] >> capability.NUMBERS[name] & 1]

    def shell(self) -> str:
        clauses = []
        for names, flag in (
            (self._names("effective"), "e"),
            (self._names("permitted"), "p"),
            (self._names("inheritable"), "i"),
        ):
            clauses.append((names, flag))
        if clauses[0][0] == clauses[1][0]:
            clauses = [(clauses[0][0], "ep"), clauses[2]]
        words = [f"{group.lower()}+{flag}" for names, flag in clauses for group in _groups(names)]
        return f'capsh --caps="{" ".join(words) or "="}" -- …'

    def execute(self) -> None:
        privilege.capset(self.sets["effective"], self.sets["permitted"], self.sets["inheritable"])
        privilege.set_ambient(self.sets["ambient"])


class SetNoNewPrivileges(Operation):
    """no_new_privs."""

    group = "privileges"
    step = "set no_new_privs"
    reason = "setuid programs and file capabilities grant nothing"

    def shell(self) -> str:
        return "setpriv --no-new-privs …"

    def execute(self) -> None:
        privilege.set_no_new_privileges()


class ChangeDirectory(Operation):
    """The working directory of the program."""

    group = "exec"
    step = "change to the working directory"
    reason = "where the program starts"

    def __init__(self, path: str) -> None:
        self.path = path

    def shell(self) -> str:
        return f"cd {word(self.path)}"

    def execute(self) -> None:
        files.chdir(self.path)
        # because a magic link could lead out through a descriptor that is still open here (CVE-2024-21626)
        if not os.getcwd().startswith("/"):
            raise HostError("change to the working directory", self.path, "it lies outside the root file system")


class SetRlimit(Operation):
    """A resource limit, set as the last thing before the program: the set-up must not be held by it."""

    group = "privileges"
    step = "set rlimit"
    reason = "a limit for each process, on top of the cgroup's for all of them"
    hint = "raising a hard limit needs CAP_SYS_RESOURCE"

    def __init__(self, number: int, soft: int, hard: int) -> None:
        self.number = number
        self.soft = soft
        self.hard = hard
        self.path = rlimit.name(number)

    def shell(self) -> str:
        return f"prlimit --{self.path.removeprefix('RLIMIT_').lower()}={self.soft}:{self.hard} …"

    def execute(self) -> None:
        rlimit.set_own(self.number, self.soft, self.hard)


class Execute(Operation):
    """execve(2)."""

    group = "exec"
    step = "execute"
    reason = "this process becomes the container's program; descriptors 0, 1 and 2 are all that it keeps"

    def __init__(self, program: str, args: list[str], env: list[str], stdio: tuple[int, int, int]) -> None:
        self.path = program
        self.args = args
        self.env = {key: value for key, _, value in (entry.partition("=") for entry in env)}
        self.stdio = stdio

    def shell(self) -> str:
        return f"exec {' '.join(word(arg) for arg in self.args)}"

    def execute(self) -> None:
        for number, descriptor in enumerate(self.stdio):
            files.duplicate(descriptor, number)
        process.close_range_cloexec(3)
        process.execve(self.path, self.args, self.env)


def _groups(names: list[str]) -> list[str]:
    """Names joined by commas, a few at a time, because the shell has no way to fold a word."""
    return [",".join(names[start : start + 4]) for start in range(0, len(names), 4)]
