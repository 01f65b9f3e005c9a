"""`run --explain=calls` against strace(1): what is printed was done, and what was done is printed.

The explanation is itself seen by strace, as write(2) of the process that explains. So each operation's lines stand in
the trace right behind its system calls, in the right process, and are compared with those and no others; execve(2),
which does not return, comes behind its line.
"""

from __future__ import annotations

import codecs
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Pycontainer, lock_holder, wait_until

from pycontainer.kernel.capability import NUMBERS
from pycontainer.kernel.operation import GROUPS, WIDTH

# What changes what a process may do, sees, or shares with others. Each must be explained. Of the others (opening,
# duplicating, changing directory, …) the explanation shows those that are needed to follow it.
CHANGES = """
mount umount2 move_mount open_tree mount_setattr fsopen fsconfig fsmount pivot_root chroot clone3 unshare setns
sethostname setdomainname capset setuid setgid setresuid setresgid setreuid setregid setgroups bpf keyctl setsid
mknodat mkdirat symlinkat linkat fchownat prlimit64 execve prctl seccomp
""".split()
SEEN = """
write sendto sendmsg socket openat openat2 fchdir chdir mkdir fchown dup2 fcntl close_range ioctl fork vfork clone rmdir
""".split()

# This process's own business: how it dies, what it is called, who may trace it until execve.
PRCTL_OF_ITS_OWN = {"PR_SET_PDEATHSIG", "PR_SET_DUMPABLE", "PR_SET_NAME", "PR_CAPBSET_READ", "PR_GET_NAME"}

# What these say last (sizes, an environment) is left out of an explanation, if it likes.
CUT = ("write", "openat2", "mount_setattr", "bpf", "clone3", "sendto", "setns", "prctl", "fcntl", "execve")

# Fields of structures that hold addresses, sizes and counters, or that say how and not what.
UNTOLD = set(
    """pidfd child_tid parent_tid stack stack_size tls insns license prog_name kern_version attach_bpf_fd
    nlmsg_len nlmsg_seq nlmsg_pid ifi_type version res_id log_buf ifa_flags rtm_scope ws_xpixel ws_ypixel ifi_family
    """.split()
)

Node = object  # str (an atom), bytes (a string), list, dict


class Parser:
    """The notation of strace: atoms, "strings", {structures} and [arrays]."""

    ESCAPED = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?', re.DOTALL)

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def items(self, end: str) -> list[tuple[str, Node]]:
        """(key, value), key "" for what has none, up to the closing bracket `end`."""
        found: list[tuple[str, Node]] = []
        while self.at < len(self.text):
            if self.text[self.at] in ", ":
                self.at += 1
            elif end and self.text[self.at] == end:
                self.at += 1
                return found
            elif self.text.startswith("/*", self.at):
                self.at = self.text.index("*/", self.at) + 2
            else:
                key = re.compile(r"[A-Za-z_][A-Za-z_0-9]*=(?!…)").match(self.text, self.at)
                if key:
                    self.at = key.end()
                found.append((key[0][:-1] if key else "", self.value()))
        assert not end, f"no {end} in {self.text}"
        return found

    def value(self) -> Node:
        here = self.text[self.at]
        if here in "{[":
            self.at += 1
            items = self.items("}" if here == "{" else "]")
            if items and all(key for key, _ in items):
                return dict(items)
            return [value for _, value in items]
        if here == '"':
            match = self.ESCAPED.match(self.text, self.at)
            assert match and not match[2], f"cut off: {self.text}"
            self.at = match.end()
            return codecs.escape_decode(match[1].encode())[0]
        return self.atom()

    def atom(self) -> str:
        start, depth = self.at, 0
        while self.at < len(self.text):
            here, around = self.text[self.at], self.text[self.at - 1 : self.at + 2]
            # "<<" shifts, "<" and ">" enclose what strace -y knows of a descriptor
            if here in "(" or (here == "<" and "<<" not in around):
                depth += 1
            elif depth and here in ")>" and not (here == ">" and around.startswith("-")):
                depth -= 1
            elif not depth and here in ",}])":
                break
            self.at += 1
        assert self.at > start, f"not understood at {start}: {self.text}"
        return self.text[start : self.at].partition(" /*")[0].strip()


class Call:
    """One system call, explained or made."""

    def __init__(self, name: str, arguments: str, result: str = "") -> None:
        self.name = name
        self.text = f"{name}({arguments})"
        self.result = result
        self.arguments = [value if not key else {key: value} for key, value in Parser(arguments).items("")]

    @property
    def failed(self) -> bool:
        return self.result.startswith("-1")

    def __repr__(self) -> str:
        return f"{self.text[:300]} = {self.result}"


class Block:
    """What the journal printed for one operation."""

    def __init__(self, text: str) -> None:
        self.group = ""
        self.calls: list[str] = []
        self.reasons: list[str] = []
        self.commands: list[str] = []
        self.names: dict[str, str] = {}
        for line in text.splitlines():
            self._add(line)

    def _add(self, line: str) -> None:
        indent = len(line) - len(line.lstrip(" "))
        word = line.strip()
        if indent == 0 and not word.startswith("#"):
            assert not self.group
            self.group = word
        elif indent == 2 and re.match(r"[A-Z]+=", word):
            self.names.update([word.split("=", 1)])
        elif indent == 2:
            self.calls.append(word)
        elif indent == 8:
            self.calls[-1] += ("" if self.calls[-1].endswith("|") else " ") + word
        elif indent == 6 and word.startswith("# "):
            self.reasons.append(word[2:])
        elif indent == 6 and word.startswith("$ "):
            self.commands.append(word[2:])
        elif indent == 10:
            self.commands[-1] = self.commands[-1].removesuffix("\\") + word
        else:
            # The input of a program, or the lines that say how to read it all.
            assert indent in (0, 4), line


class Explained:
    """One explained call, ready to be compared."""

    PATTERN = re.compile(r"(?:\[pid (?P<pid>\w+)\] )?(?P<name>\w+)\((?P<rest>.*)$", re.DOTALL)

    def __init__(self, line: str) -> None:
        match = self.PATTERN.match(line)
        assert match, line
        arguments, _, self.suffix = match["rest"].rpartition(")")
        self.suffix = self.suffix.strip()
        self.by_helper = match["pid"] is not None
        self.call = Call(match["name"], arguments)
        self.line = line
        repeats = re.fullmatch(r"(\d+) times", self.suffix)
        self.times = int(repeats[1]) if repeats else 1
        self.failed = self.suffix.startswith("= -1 ")


def expand(line: str) -> Iterator[Explained]:
    before, found, names = line.partition(" for X in ")
    for name in names.split(", ") if found else [""]:
        yield Explained(before.replace(" X)", f" {name})"))


class Matcher:
    """Compares calls, and remembers what descriptors are."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}

    def matches(self, explained: Explained, made: Call, by_helper: bool) -> bool:
        expected = explained.call
        if expected.name == "fork":
            return made.name in ("clone", "fork", "vfork")
        if expected.name != made.name or explained.failed != made.failed:
            return False
        result = re.fullmatch(r"= (\d+)", explained.suffix)
        if result and not re.match(rf"{result[1]}\b", made.result):
            return False
        if explained.by_helper != by_helper and made.name != "execve":
            return False
        actual = made.arguments
        if made.name == "sendto":
            if "<NETLINK:[" not in str(actual[0]):
                return False
            actual = netlink(actual)
        # What a call says last of sizes is left out of an explanation.
        if made.name in CUT:
            actual = actual[: len(expected.arguments)]
        if len(actual) != len(expected.arguments):
            return False
        return all(self.same(e, a, made.name) for e, a in zip(expected.arguments, actual, strict=True))

    def see(self, made: Call) -> None:
        """Remember what a descriptor is, for where strace prints only its number."""
        number, path = descriptor(made.result)
        if made.name in ("openat", "openat2") and number:
            self.paths[number] = path

    def same(self, expected: Node, actual: Node, name: str) -> bool:
        if expected == "…":
            return True
        if isinstance(expected, dict) and isinstance(actual, dict):
            return self._same_structure(expected, actual, name)
        if isinstance(expected, list) and isinstance(actual, list):
            return len(expected) == len(actual) and all(
                self.same(e, a, name) for e, a in zip(expected, actual, strict=True)
            )
        if isinstance(expected, bytes) and isinstance(actual, bytes):
            return expected == actual
        if isinstance(expected, str) and isinstance(actual, bytes):
            # A variable of the environment, whose value is not printed.
            return expected.endswith("=…") and actual.startswith(expected[:-1].encode())
        return isinstance(expected, str) and isinstance(actual, str) and self._same_atom(expected, actual)

    def _same_structure(self, expected: dict[str, Node], actual: dict[str, Node], name: str) -> bool:
        for key, value in actual.items():
            if key not in expected and key not in UNTOLD and not is_nothing(value):
                return False
        return all(key in actual and self.same(value, actual[key], name) for key, value in expected.items())

    def _same_atom(self, expected: str, actual: str) -> bool:
        number, path = descriptor(actual)
        if expected in ("NETLINK_ROUTE", "NETLINK_NETFILTER") and path.startswith("NETLINK:["):
            # Of a socket in another network namespace strace does not know the protocol.
            return re.match(rf"NETLINK:\[({expected.removeprefix('NETLINK_')}:)?\d+\]", path) is not None
        wanted, label = descriptor(expected)
        if number and wanted:
            path = path or self.paths.get(number, "")
            # What it is called is a path, or else no beginning of one.
            return wanted == number and (not (label.startswith("/") and path.startswith("/")) or label == path)
        if actual.startswith("if_nametoindex("):
            # strace asks its own network namespace, and so may give another link's name.
            return expected.isdigit()
        if actual.startswith("makedev("):
            return expected == actual
        return flags(expected) == flags(actual)


def descriptor(atom: str) -> tuple[str, str]:
    """(number, path) of `17</dev/null<char 1:3>>`."""
    match = re.fullmatch(r"(\d+|AT_FDCWD)<(.*)>", atom, re.DOTALL)
    if match:
        return match[1], re.sub(r"<(char|block) [\d:]+>$", "", match[2])
    return (atom, "") if atom.isdigit() or atom == "AT_FDCWD" else ("", "")


def flags(atom: str) -> object:
    if atom.lstrip("~").startswith("1<<CAP_"):
        return sum(1 << NUMBERS[name] for name in re.findall(r"CAP_\w+", atom))
    if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", atom):
        return int(atom, 8 if re.fullmatch(r"0\d+", atom) else 0)
    names = {flag for flag in atom.split("|") if flag not in ("O_RDONLY", "0")}
    if names and all(flag.startswith("O_") and hasattr(os, flag) for flag in names):
        return sum(getattr(os, flag) for flag in names)
    return names


def is_nothing(value: Node) -> bool:
    return value in ("0", "NULL", "AF_UNSPEC", "0<user>", [], b"") or (
        isinstance(value, str)
        and re.fullmatch(r"(0x0|0</.*|htons\(0\)|\w*UNSPEC\w*|RT_SCOPE_UNIVERSE)", value) is not None
    )


def netlink(arguments: list[Node]) -> list[Node]:
    """The arguments of sendto(2) as the explanation has them: socket, header, fixed structure, attributes."""
    message = arguments[1]
    assert isinstance(message, list)
    if message and isinstance(message[0], list):
        message = message[0]
    if isinstance(message[1], bytes):
        message = decode(*message)
    parts = [arguments[0], *message[:2]]
    if len(message) > 2:
        told = message[2] if isinstance(message[2], dict) else attributes(message[2])
        if isinstance(message[0], dict) and str(message[0]["nlmsg_type"]).endswith("NFT_MSG_GETRULE"):
            told = {"NFTA_RULE_TABLE": told["NFTA_TABLE_NAME"]}
        parts.append(told)
    return parts


def attributes(node: Node) -> Node:
    assert isinstance(node, list)
    found: dict[str, Node] = {}
    for attribute in [node] if isinstance(node[0], dict) else node:
        kind = str(attribute[0]["nla_type"]).removeprefix("NLA_F_NESTED|")
        value = attribute[1]
        if kind == "0x1":
            # The name of the table, whatever is asked about it.
            kind, value = "NFTA_TABLE_NAME", value.rstrip(b"\0")
        if kind == "IFLA_INFO_DATA" and isinstance(value, bytes):
            # Of one attribute, VETH_INFO_PEER, which holds another message's body.
            value = {"VETH_INFO_PEER": link(value[4:])}
        elif kind == "TCA_OPTIONS" and isinstance(value, bytes):
            value = raw_attributes(value, TOKEN_BUCKET)
        elif isinstance(value, list) and value and isinstance(value[0], list | dict):
            value = attributes(value)
        found[kind] = value
    return found


TOKEN_BUCKET = {1: "TCA_TBF_PARMS", 6: "TCA_TBF_BURST"}


def decode(header: dict[str, str], payload: bytes) -> list[Node]:
    """A message that strace leaves as it is, because its socket belongs to another network namespace than strace."""
    kinds = {16: "RTM_NEWLINK", 18: "RTM_GETLINK", 20: "RTM_NEWADDR", 24: "RTM_NEWROUTE", 36: "RTM_NEWQDISC"}
    kind = kinds[int(header["nlmsg_type"], 0)]
    flags_ = header["nlmsg_flags"].replace("0x600", "NLM_F_EXCL|NLM_F_CREATE").replace("0x300", "NLM_F_DUMP")
    flags_ = flags_.replace("0x500", "NLM_F_REPLACE|NLM_F_CREATE")
    header = {**header, "nlmsg_type": kind, "nlmsg_flags": flags_}
    if kind == "RTM_NEWADDR":
        family, length, _, _, index = struct.unpack_from("=BBBBI", payload)
        assert family == 2
        fixed = {"ifa_family": "AF_INET", "ifa_prefixlen": f"{length}", "ifa_index": f"{index}"}
        return [header, fixed, raw_attributes(payload[8:], {1: "IFA_ADDRESS", 2: "IFA_LOCAL", 4: "IFA_BROADCAST"})]
    if kind == "RTM_NEWROUTE":
        family, length, _, _, table, protocol, _, type_ = struct.unpack_from("=8B", payload)
        assert (family, table, protocol, type_) == (2, 254, 3, 1)
        fixed = {"rtm_family": "AF_INET", "rtm_dst_len": f"{length}", "rtm_table": "RT_TABLE_MAIN"}
        fixed |= {"rtm_protocol": "RTPROT_BOOT", "rtm_type": "RTN_UNICAST"}
        return [header, fixed, raw_attributes(payload[12:], {5: "RTA_GATEWAY"})]
    if kind == "RTM_NEWQDISC":
        _, *numbers = struct.unpack_from("=B3xiIII", payload)
        names = ("tcm_ifindex", "tcm_handle", "tcm_parent", "tcm_info")
        fixed = {"tcm_family": "AF_UNSPEC", **dict(zip(names, map(str, numbers), strict=True))}
        return [header, fixed, raw_attributes(payload[20:], {1: "TCA_KIND", 2: "TCA_OPTIONS"})]
    return [header, *(part for part in link(payload) if part)]


def link(payload: bytes) -> list[Node]:
    """struct ifinfomsg and its attributes."""
    _, _, index, flags_, change = struct.unpack_from("=BxHiII", payload)
    fixed = {"ifi_index": f"{index}", "ifi_flags": {0: "0", 1: "IFF_UP"}[flags_], "ifi_change": f"{change:#x}"}
    names = {1: "IFLA_ADDRESS", 3: "IFLA_IFNAME", 4: "IFLA_MTU", 28: "IFLA_NET_NS_FD", 29: "IFLA_EXT_MASK"}
    return [fixed, raw_attributes(payload[16:], names)]


def raw_attributes(data: bytes, names: dict[int, str]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    while data:
        size, number = struct.unpack_from("=HH", data)
        # Without NLA_F_NESTED.
        name, value = names[number & 0x3FFF], data[4:size]
        if name == "TCA_OPTIONS":
            found[name] = raw_attributes(value, TOKEN_BUCKET)
        elif name == "TCA_TBF_PARMS":
            found[name] = value
        elif name in ("IFLA_IFNAME", "TCA_KIND"):
            found[name] = value.rstrip(b"\0")
        elif name == "IFLA_ADDRESS":
            found[name] = value.hex(":")
        elif name == "IFLA_EXT_MASK":
            found[name] = {8: "RTEXT_FILTER_SKIP_STATS"}[value[0]]
        elif name.startswith(("IFLA_", "TCA_")):
            found[name] = str(int.from_bytes(value, "little"))
        else:
            found[name] = f'inet_addr("{".".join(map(str, value))}")'
        data = data[size + 3 & ~3 :]
    return found


class Trace:
    """The system calls of all processes in their order, with the explanation's blocks among them."""

    LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)$", re.DOTALL)

    def __init__(self, path: pathlib.Path, stderr: pathlib.Path) -> None:
        self.stderr = str(stderr)
        self.records: list[tuple[int, Block | Call | str]] = []
        self.parent: dict[int, int] = {}
        self.containers: list[int] = []
        unfinished: dict[int, tuple[int, str]] = {}
        for line in path.read_text(errors="surrogateescape").splitlines():
            match = self.LINE.match(line)
            assert match, line
            pid, rest = int(match["pid"]), match["rest"]
            if rest.endswith(" <unfinished ...>"):
                # Its place in the order is where it began.
                unfinished[pid] = (len(self.records), rest.removesuffix(" <unfinished ...>"))
                self.records.append((pid, ""))
            elif rest.startswith("<... "):
                place, begin = unfinished.pop(pid)
                self.records[place] = (pid, self._record(pid, begin + rest.partition(" resumed>")[2]))
            elif rest.startswith("+++ "):
                self.records.append((pid, "ended"))
            elif not rest.startswith("--- "):
                self.records.append((pid, self._record(pid, rest)))
        # Who explains and is not the container: the child of the monitor that starts it.
        self.errand = next(pid for pid, record in self.records if isinstance(record, Block))

    def _record(self, pid: int, line: str) -> Block | Call | str:
        match = re.match(r"(\w+)\((.*)\) += (.*)$", line, re.DOTALL)
        if match is None:
            return ""
        name, arguments, result = match.groups()
        if result.startswith("? ERESTART"):
            # Interrupted before it had begun: the kernel makes it again.
            return ""
        # What the kernel writes back into a structure.
        arguments = re.sub(r"(?<=}) => {.*?}(?=, \d+$)", "", arguments)
        if name == "write" and re.match(rf"(?!2<)\d+<{re.escape(self.stderr)}>", arguments):
            text = Parser(arguments).items("")[1][1]
            assert isinstance(text, bytes)
            return Block(text.decode())
        if name in ("clone", "fork", "vfork", "clone3") and result[0].isdigit():
            child = int(re.match(r"\d+", result)[0])  # type: ignore[index]
            if name == "clone3":
                self.containers.append(child)
            else:
                self.parent[child] = pid
        return Call(name, arguments, result)

    def of(self, owner: int) -> Iterator[tuple[bool, Block | Call]]:
        """(made by a helper, record) of a process and of those it forked, up to where it executes the program."""
        executed: set[int] = set()
        for pid, record in self.records:
            is_helper = self.parent.get(pid) == owner
            if not (pid == owner or is_helper) or isinstance(record, str) or pid in executed:
                continue
            yield is_helper, record
            if isinstance(record, Call) and record.name == "execve" and not record.failed:
                executed.add(pid)

    def end_of(self, pid: int) -> int:
        return next(place for place, (who, record) in enumerate(self.records) if who == pid and record == "ended")


def must_be_explained(call: Call) -> bool:
    first = str(call.arguments[0]) if call.arguments else ""
    if call.name == "prctl":
        return first not in PRCTL_OF_ITS_OWN
    if call.name == "prlimit64":
        return call.arguments[2] != "NULL"
    if call.name in ("sendto", "sendmsg"):
        return "<NETLINK:[" in first
    if call.name == "write":
        return descriptor(first)[1].startswith(("/proc/", "/sys/"))
    if call.name == "mkdir":
        return not call.failed and bytes(call.arguments[0]).startswith(b"/sys/fs/cgroup")  # type: ignore[arg-type]
    if call.name == "openat":
        return "O_CREAT" in call.text and descriptor(first)[0] != "AT_FDCWD"
    return call.name in CHANGES and not (call.failed and call.name in ("mkdirat", "symlinkat", "execve"))


def is_teardown(call: Call) -> bool:
    """What takes down again what was explained when it was set up."""
    first = call.arguments[0]
    if call.name == "umount2":
        return isinstance(first, bytes) and first.endswith(b"/rootfs") and call.arguments[1] == "MNT_DETACH"
    return call.name == "write" and descriptor(str(first))[1].endswith("/cgroup.kill")


class Explanation:
    """One `run --explain` under strace: its status, its explanation, and where explanation and trace disagree."""

    def __init__(self, text: str, trace: Trace, status: int) -> None:
        self.text = text
        self.trace = trace
        self.status = status
        self.names: dict[str, str] = {}
        self.blocks: list[Block] = [record for _, record in trace.records if isinstance(record, Block)]
        for block in self.blocks:
            self.names.update(block.names)

    def _full(self, line: str) -> str:
        for name, value in self.names.items():
            line = line.replace(f"${name}", value)
        return line

    def disagreements(self) -> list[str]:
        assert len(self.trace.containers) == 1
        found = []
        for owner in (self.trace.errand, self.trace.containers[0]):
            found += self._disagreements(owner)
        return found

    def _disagreements(self, owner: int) -> list[str]:
        found: list[str] = []
        matcher = Matcher()
        calls: list[tuple[bool, Call]] = []
        waiting: list[Explained] = []
        container_end = self.trace.end_of(self.trace.containers[0])
        places = {id(record): place for place, (_, record) in enumerate(self.trace.records)}
        for by_helper, record in [*self.trace.of(owner), (False, None)]:
            if isinstance(record, Call):
                calls.append((by_helper, record))
                continue
            lines = [each for line in record.calls for each in expand(self._full(line))] if record else []
            waiting += [each for each in lines for _ in range(each.times)]
            for helped, call in calls:
                matcher.see(call)
                if waiting and matcher.matches(waiting[0], call, helped):
                    waiting.pop(0)
                elif must_be_explained(call) and not (places[id(call)] > container_end and is_teardown(call)):
                    expected = f" (expected: {waiting[0].line})" if waiting else ""
                    found.append(f"made, not explained: {call!r}{expected}")
            calls = []
            if not (waiting and waiting[0].call.name == "execve" and record):
                found += [f"explained, not made: {each.line}" for each in waiting]
                waiting = []
        return found


def serving(launcher: int) -> list[str]:
    """The launcher, the process that waits for the next client, its child, and that one's user namespace."""

    def found() -> list[str]:
        pids = [str(launcher)]
        for pid in pids:
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pids += [child for child in children if pathlib.Path(f"/proc/{child}/comm").read_text() == "pyc-spare\n"]
        return pids

    wait_until(lambda: len(found()) == 4)
    return found()


@pytest.fixture
def explain(pycontainer: Pycontainer, busybox: str, tmp_path: pathlib.Path):
    """Runs `run --rm --explain=calls OPTIONS busybox true` with strace at the launcher and all that it forks."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")

    def run(*options: str, command: tuple[str, ...] = ("true",), new_bridge: bool = False) -> Explanation:
        network = ("--network", "none") if new_bridge else ()
        pycontainer("run", "--rm", *network, busybox, "true", check=True)
        processes = serving(lock_holder(pycontainer.state / "launcher.lock"))
        trace, stderr = tmp_path / "trace", tmp_path / "stderr"
        names = ",".join(f"?{name}" for name in [*CHANGES, *SEEN])
        strace = subprocess.Popen(
            [
                "strace",
                "-f",
                "-v",
                "-yy",
                "-s",
                "1000000",
                "-o",
                trace,
                "-e",
                f"trace={names}",
                "-p",
                ",".join(processes),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert strace.stderr
            for _ in processes:
                assert "attached" in strace.stderr.readline()
            with stderr.open("w") as file:
                done = subprocess.run(
                    [*COMMAND, "run", "--rm", "--explain=calls", *options, busybox, *command],
                    env={**os.environ, **pycontainer.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                    timeout=120,
                )
        finally:
            # It leaves the launcher as it was.
            strace.send_signal(signal.SIGINT)
            strace.communicate(timeout=60)
        return Explanation(stderr.read_text(), Trace(trace, stderr), done.returncode)

    return run


def check(explanation: Explanation) -> None:
    assert explanation.status == 0, explanation.text[-1000:]
    assert explanation.blocks, "nothing was explained"
    disagreements = explanation.disagreements()
    assert not disagreements, "\n" + "\n".join(disagreements)


VARIANTS = {
    "default": (),
    "privileged": ("--privileged",),
    "host ids": ("--userns=host",),
    "no network": ("--network", "none"),
    "host network": ("--network", "host"),
    "terminal": ("-t",),
    "init": ("--init",),
    "user": ("-u", "nobody"),
    "rlimit": ("--ulimit", "nofile=100:200"),
    "network rate": ("--network-rate", "10mbit"),
    "hostname": ("--hostname", "a-name"),
    "capabilities": ("--cap-add", "SYS_TIME", "--cap-drop", "CHOWN", "-w", "/made/here"),
    "nothing granted": ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "-u", "1000:1000"),
    "file systems": ("--tmpfs", "/t:size=1m,mode=700", "--shm-size", "1m", "--read-only"),
    "a named volume": ("-v", "data:/var/data", "-v", "data:/other:ro"),
    "names": ("--add-host", "other:192.0.2.9", "--dns", "192.0.2.53", "-w", "/tmp"),
    "init and ids": ("--init", "--userns=host", "--ulimit", "core=0"),
    "everything": ("--privileged", "--network", "host", "-t", "--read-only", "--tmpfs", "/t", "-e", "A=b c"),
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_it_agrees_with_strace(explain, options: tuple[str, ...]) -> None:
    if "--init" in options and not pathlib.Path("/usr/bin/tini-static").exists():
        pytest.skip("tini-static is not installed")
    check(explain(*options))


@pytest.mark.parametrize("more", [(), ("--userns=host",)], ids=["own ids", "host ids"])
def test_volumes_and_a_read_only_root_agree_with_strace(explain, tmp_path: pathlib.Path, more: tuple[str, ...]) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("here\n")
    volumes = ("-v", f"{tmp_path}/directory:/v", "-v", f"{tmp_path}/file:/deep/er/file:ro")
    check(explain("--read-only", "--tmpfs", "/t", *volumes, *more, command=("cat", "/deep/er/file")))


def test_the_first_container_on_a_bridge_agrees_with_strace(explain) -> None:
    explanation = explain(new_bridge=True)
    check(explanation)
    assert 'IFLA_INFO_KIND="bridge"' in explanation.text


def test_a_network_of_ones_own_agrees_with_strace(explain, pycontainer: Pycontainer) -> None:
    pycontainer("network", "create", "told", check=True)
    explanation = explain("--network", "told", "--name", "first")
    check(explanation)
    started = [block for block in explanation.blocks if any("dnsmasq" in command for command in block.commands)]
    assert len(started) == 1


def test_the_explanation_is_printed_as_it_happens_and_is_nothing_else(explain) -> None:
    explanation = explain()
    assert explanation.text.startswith("# ")
    lines = [line for line in explanation.text.splitlines() if line and line[0] not in " #"]
    headings = [re.fullmatch(r"(\w+) \((host|container), pid \d+\)", line) for line in lines]
    assert all(headings), "something else was written to standard error"
    assert {heading[1] for heading in headings if heading} == set(GROUPS) - {"files"}
    assert {heading[2] for heading in headings if heading} == {"host", "container"}


def test_each_operation_says_why_and_how_a_shell_would_do_it(explain) -> None:
    for block in explain("-t", "-v", "/tmp:/v").blocks:
        if block.names:
            continue
        assert len(block.reasons) == 1, block.calls
        reason = block.reasons[0]
        assert not reason.endswith(".") and (reason[0].islower() or reason.split()[0].isupper() or reason[0] == "/"), (
            reason
        )
        assert block.commands or "nothing to" in reason or block.calls[0].startswith("setns("), block.calls
        for command in block.commands:
            plain = re.sub(r"…", "x", command)
            done = subprocess.run(["bash", "-n", "-c", plain], capture_output=True, text=True)
            assert done.returncode == 0, f"{command}: {done.stderr}"


def test_no_line_is_too_wide(explain, pycontainer: Pycontainer) -> None:
    root = str(pycontainer.root)
    widest = max(explain("--privileged", "-v", "/tmp:/v").text.splitlines(), key=len)
    # An installation's root is shorter than a test's, and a path cannot be folded.
    longer = len(root) - len("/var/lib/pycontainer")
    assert len(widest) <= WIDTH + longer, widest
