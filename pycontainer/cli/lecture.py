"""`--explain`: what was done, told in about a dozen steps. CONTENTS is the table of contents.

Each step is a group of operations as they follow each other, and takes its words from what they say of themselves; what
is said here is what they have in common.
"""

from __future__ import annotations

import os
import shlex
import textwrap
from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Record = dict[str, Any]

_MARGIN = 15  # columns: number, side and line


class Chapter:
    """One step.

    title    what happens; {NAME} is how many operations of that class there were
    why      sentences, each with the operation that has to have been there for it, "" for always
    shown    the operation whose shell command is shown, the first one that was there
    check    a command that shows it while the container runs, with the names that `Lecture` defines; the first whose
             operation was there
    others   operations that belong to it besides those that are named above
    """

    def __init__(
        self, title: str, *, why: list[tuple[str, str]], shown: str, check: list[tuple[str, str]], others: str = ""
    ) -> None:
        self.title = title
        self.why = why
        self.shown = shown.split()
        self.check = check
        self.operations = {*self.shown, *others.split(), *(name for name, _ in [*why, *check] if name)}


CONTENTS = [
    Chapter(
        "Make sure of the network",
        why=[
            ("FindLink", "A switch in the kernel; the host's address on it is the way out."),
            ("ReservePort", "Ports of the host's are kept meanwhile, so that nobody else takes them."),
        ],
        shown="CreateBridge",
        check=[("FindLink", "ip -br address show {bridge}")],
        others="""FindAddress ReadWithoutIPv6 FindTable FindRules ReadForwarding EnableForwarding DisableIPv6 SurveyHost
            FindAddress6 FindRules6 RefuseRouters ReadForwarding6 EnableForwarding6 AddAddress6
            AddBridgeAddress SetBridgeUp SetMaster ListRules ApplyRules ReadLocalRouting EnableLocalRouting
            ListElements""",
    ),
    Chapter(
        "Make one file system of the image's layers",
        why=[
            ("MountOverlay", "Reads fall through to the layers, the first write copies a file up."),
            ("MapLayer", "Their ids are mapped: no file of theirs is touched."),
        ],
        shown="MountOverlay",
        check=[("MountOverlay", "findmnt -N $PID -o FSTYPE,OPTIONS /")],
        others="PrivateMounts NewUserNamespace MountScratch",
    ),
    Chapter(
        "Make a cgroup",
        why=[
            ("MakeCgroup", "It is counted, limited and killed as a whole; else a fork bomb is the host's."),
            ("AttachDeviceFilter", "A filter in the kernel shuts devices out."),
        ],
        shown="MakeCgroup",
        check=[("MakeCgroup", "cat {cgroup}/cgroup.procs")],
        others="WriteFile",
    ),
    Chapter(
        "Clone the first process into namespaces of its own",
        why=[
            ("Clone", "It sees its own processes, mounts, network and names."),
            ("WriteIdMaps", "Its root is an ordinary id on the host, with no rights there."),
        ],
        shown="Clone",
        check=[("Clone", "lsns -p $PID")],
        others="CloneTree CopyUp LeaveRoot JoinNamespace WriteFile RaiseHardLimit",
    ),
    Chapter(
        "Become somebody: root, a name, a session",
        why=[
            ("BecomeRoot", "Root here rules its own namespaces only."),
            ("RaiseLoopback", "A new network is empty, and even its 127.0.0.1 is down."),
        ],
        shown="SetName RaiseLoopback NewSession",
        check=[("SetName", "nsenter -t $PID -u hostname"), ("", "ps -o sid,pid -p $PID")],
        others="NewCgroupNamespace NewSessionKeyring",
    ),
    Chapter(
        "Mount what programs expect: {MountFileSystem} kinds, {AttachTree} binds, {devices} devices",
        why=[
            ("MountFileSystem", "proc shows its own processes, for it is mounted in its PID namespace."),
            ("BindDevice", "It may make no nodes, so the host's are bound."),
            ("MakeDevice", "Only the usual harmless nodes are made."),
        ],
        shown="MountFileSystem",
        check=[("MountFileSystem", "findmnt -N $PID -o TARGET,FSTYPE -t proc,sysfs,tmpfs")],
        others="SetPropagation AttachRoot AttachTree LinkDevices OpenConsole OpenTerminal ReopenNull",
    ),
    Chapter(
        "Hide what tells too much: {MaskPath} paths; make {MakeReadOnly} read-only",
        why=[
            ("MaskPath", "Much in /proc and /sys is the host's, whoever looks."),
            ("SetSysctl", "Low ports and ping are its own."),
            ("MakeRootReadOnly", "The root itself comes last: mount points were made in it."),
        ],
        shown="MaskPath MakeReadOnly MakeRootReadOnly",
        check=[("MaskPath", "grep ' /proc/' /proc/$PID/mountinfo")],
        others="MakeMountReadOnly MakeDirectory",
    ),
    Chapter(
        "Exchange the root: what was / is gone",
        why=[("PivotRoot", "After chroot(2) the old root would still be mounted, to be found.")],
        shown="PivotRoot",
        check=[("PivotRoot", "ls /proc/$PID/root")],
        others="SetPropagation",
    ),
    Chapter(
        "Plug the cable in",
        why=[
            ("CreateVeth", "What goes into one end of a veth pair comes out at the other."),
            ("LimitRate", "A token bucket at each end holds it to the rate."),
            ("AddElements", "What comes to a published port of the host's is sent on to it."),
        ],
        shown="CreateVeth",
        check=[("CreateVeth", "nsenter -t $PID -n ip -br address")],
        others="""FindLink DeleteLink OpenSocket AddAddress AddAddress6 SetLinkUp AddDefaultRoute AddDefaultRoute6
            AwaitCarrier SetHairpin LiftRate
            ListElements RemoveElements ForgetFlowsTo ForgetFlowsFrom FindTable ApplyRules""",
    ),
    Chapter(
        "Send a process into the container",
        why=[
            ("CloneJoiner", "It is born in the container's cgroup, so its limits hold at once."),
            ("EnterNamespaces", "By a descriptor of PID 1 it enters all namespaces in one call."),
        ],
        shown="EnterNamespaces",
        check=[],
        others="BecomeRoot NewSessionKeyring OpenTerminal WriteFile RaiseHardLimit",
    ),
    Chapter(
        "Give up what the program shall not have",
        why=[
            ("SetCapabilities", "{capabilities} capabilities(7) stay;"),
            ("DropBounding", "no setuid program brings others back."),
            ("SetRlimit", "Limits of a single process come last, or they would bind the steps above."),
        ],
        shown="SetUser",
        check=[("SetCapabilities", "grep Cap /proc/$PID/status")],
        others="TakeTerminal SetNoNewPrivileges ChangeDirectory SetScheduler SetIoPriority SetAffinity EnterNamespaces",
    ),
    Chapter(
        "Become the program",
        why=[
            ("CloneProgram", "Only a new process is in the PID namespace: the one that entered is not."),
            ("Execute", "execve(2) loads it into this process: {role}."),
        ],
        shown="Execute",
        check=[("Execute", "tr '\\0' ' ' </proc/$PID/cmdline")],
        others="CloneProgram NewSession TakeTerminal",
    ),
    Chapter(
        "Put it away when it has ended",
        why=[("RemoveCgroup", "Namespaces, mounts and cable went with the last of its processes.")],
        shown="RemoveCgroup",
        check=[("RemoveCgroup", "ls -d {cgroup}")],
        others="EndProcesses",
    ),
]
# What commands do that start nothing.
AT_REST = [
    Chapter(
        "Take in what the archive holds",
        why=[
            ("ReadArchive", "Hashed on its way: what is not what its name says is refused, and nobody has read it."),
            ("CopyTarball", "Hashed on its way: as it is, it will be the image's only layer, under that name."),
        ],
        shown="ReadArchive CopyTarball",
        check=[("ReadArchive", "{list}"), ("CopyTarball", "{list}")],
    ),
    Chapter(
        "Ask what the image is made of",
        why=[
            ("FetchManifest", "Its manifest names config and layers by their sha256, so it does not matter who keeps"),
            ("", "them, and each has to be fetched once only. An index names a manifest for each platform."),
        ],
        shown="FetchManifest",
        check=[],
    ),
    Chapter(
        "Fetch what is not here: {amount}",
        why=[
            (
                "FetchBlobs",
                "By a process of its own, three at a time: what has come is unpacked meanwhile. It is hashed",
            ),
            ("", "on its way, and what a pull that is killed has of it serves the next one."),
        ],
        shown="FetchBlobs",
        check=[("FetchBlobs", "ls -l {blobs}")],
    ),
    Chapter(
        "Unpack layers: {unpacked}",
        why=[
            ("UnpackLayers", "A child for each has chrooted into the layer's directory: no path leads out of it."),
            ("", "What a layer deletes becomes a character device 0:0, and a directory that hides all below gets"),
            ("", "trusted.overlay.opaque: so overlayfs reads it. The hash must be what the image says."),
        ],
        shown="UnpackLayers",
        check=[("UnpackLayers", "du -sh {layers}/*")],
    ),
    Chapter(
        "Store it",
        why=[
            ("StoreImages", "First onto the disk, then renamed into place in the transaction that writes its row:"),
            ("", "a layer is there as a whole or not at all, whoever is killed."),
        ],
        shown="StoreImages",
        check=[("StoreImages", "ls {store}/layers")],
        others="AwaitBlobs ForgetDownloads",
    ),
    Chapter(
        "Make a volume",
        why=[("MakeVolume", "A directory of the host's. Its row is written with it: a kill leaves both or none.")],
        shown="MakeVolume",
        check=[("MakeVolume", "ls -ld {volume}")],
    ),
    Chapter(
        "End it",
        why=[("KillContainer", "Its monitor does, and then returns cgroup, mounts and network, by SIGKILL at once.")],
        shown="KillContainer",
        check=[],
    ),
    Chapter(
        "Ask it to end",
        why=[
            ("AskToEnd", "Its monitor sends {signal} through a pidfd: no other process can have got its number."),
            ("AwaitEnd", "It waits {patience} before SIGKILL. Then it returns cgroup, mounts and network itself, and"),
            ("AwaitEnd", "explains that only to who started the container."),
        ],
        shown="AskToEnd",
        check=[],
    ),
    Chapter(
        "Pack what the container has changed",
        why=[
            ("PackChanges", "Overlayfs has all of it in the upper directory, which is read through a mount that maps"),
            ("", "the container's ids back to the image's. What it has deleted becomes .wh.NAME in the layer, and"),
            ("", ".wh..wh..opq in a directory says that nothing below it is to be seen."),
        ],
        shown="PackChanges",
        check=[("PackChanges", "ls -A {upper}")],
    ),
    Chapter(
        "Remove containers: {ForgetContainer}",
        why=[
            ("ForgetContainer", "Rows, name and address lease go in one transaction, the files after it."),
            ("RemoveContainerFiles", "Only what it has written goes: the image's layers are shared and stay."),
            ("DestroyVolume", "So do its volumes without a name: {DestroyVolume}."),
        ],
        shown="RemoveContainerFiles",
        check=[("RemoveContainerFiles", "ls {containers}")],
    ),
    Chapter(
        "Remove volumes: {ForgetVolume}",
        why=[
            ("ForgetVolume", "Row and directory's name go in one transaction, so nobody can mount it any more;"),
            ("DestroyVolume", "the files may take longer. Who is killed in between leaves them to the next command."),
        ],
        shown="DestroyVolume",
        check=[("ForgetVolume", "ls -A {volumes}")],
    ),
]
CONTENTS += AT_REST
LEGEND = "$ is how a shell does it, ? a command to look at it while the container runs\n"
LEGEND_AT_REST = "$ is how a shell does it, ? a command to look at it afterwards\n"
_LAST_OF_A_PROCESS = "Execute"


class Lecture:
    """Writes the steps as they are done, folded to `width` columns.

    write   takes text
    pause   is called after each step
    """

    def __init__(self, write: Callable[[str], None], pause: Callable[[], None], *, width: int, bold: bool) -> None:
        self._write = write
        self._pause = pause
        self._width = width
        self._bold = bold
        self._number = 0
        self._at = -1  # index of the chapter
        self._records: list[Record] = []
        self._names: dict[str, str] = {}
        self._places: dict[str, str] = {}

    def take(self, record: Record) -> None:
        """What Journal says of an operation, with `pid`, the process's."""
        if "define" in record:
            self._names[record["define"]] = record["value"]
            # From the edge, because with a margin it is too long for a line.
            self._write(f"{record['define']}={record['value']}\n")
            return
        self._note_pid(record)
        place = self._chapter_of(record["operation"])
        if not self._number and not self._records:
            self._write(LEGEND_AT_REST if CONTENTS[place] in AT_REST else LEGEND)
        if place != self._at:
            self.flush()
            self._at = place
        self._records.append(record)
        if record["operation"] == _LAST_OF_A_PROCESS:
            self.flush()

    def flush(self) -> None:
        """Write the step that is being collected, if there is one."""
        if not self._records:
            return
        records, self._records = self._records, []
        self._number += 1
        side = f"{self._number:2} {records[0]['side']:>9}"
        lines = _lines(CONTENTS[self._at], records, self._places, self._names, self._width - _MARGIN)
        for number, line in enumerate(lines):
            text = f"\033[1m{line}\033[0m" if self._bold and number == 0 else line
            self._write(f"{side if number == 0 else '':{_MARGIN - 3}} │ {text}\n")
        self._pause()

    def _note_pid(self, record: Record) -> None:
        """Keep the program's pid. Of `exec` a first process enters the container and another one is the program."""
        if record["operation"] == "CloneJoiner":
            self._places["role"] = "one more beside PID 1"
        elif record["side"] == "container" and ("role" not in self._places or record["operation"] == "Execute"):
            self._places["pid"] = str(record["pid"])

    def _chapter_of(self, operation: str) -> int:
        """The first from the present one on that has it: an operation may belong to several."""
        order = [*range(max(self._at, 0), len(CONTENTS)), *range(self._at)]
        return next((place for place in order if operation in CONTENTS[place].operations), max(self._at, 0))


def _lines(
    chapter: Chapter, records: list[Record], places: dict[str, str], names: dict[str, str], width: int
) -> Iterator[str]:
    """Title, reasons, a shell command, and one to look at it."""
    absent = [record for record in records if record["absent"]]
    there = [record for record in records if record not in absent]
    counts = Counter(record["operation"] for record in there)
    _note_places(there, places)
    fields = _Fields(counts, places)
    yield from textwrap.wrap(chapter.title.format_map(fields), width)
    why = [text for name, text in chapter.why if not name or counts[name]]
    if absent:
        why.append(f"{len(absent)} more are not on this host.")
    yield from textwrap.wrap(" ".join(why).format_map(fields), width)
    for record in there:
        if record["operation"] == "WriteFile" and record["group"] == "cgroup":
            yield from textwrap.wrap(f"{record['step']}: {record['reason']}", width, subsequent_indent="  ")
    shell = next((each for name in chapter.shown if (each := _shell(there, name))), "")
    check = next((text for name, text in chapter.check if not name or counts[name]), "").format_map(fields)
    if "$PID" in check and "role" in places and "pid" not in places:
        check = ""  # whose pid it will be is not known yet
    if "$PID" in check and "pid" in places and "PID" not in names:
        names["PID"] = ""
        check = f"PID={places['pid']}; {check}"
    for sign, command in (("$", shell), ("?", check)):
        for name, value in names.items():
            command = command.replace(value, f"${name}") if value else command
        yield from _command(sign, command, width)


def _shell(records: list[Record], name: str) -> str:
    """The last line of the first of these operations that has one."""
    lines = next((each["shell"] for each in records if each["operation"] == name and each["shell"]), [""])
    line: str = lines[-1]
    return f"{line[:-1]}sh" if line.endswith(" …") else line


def _command(sign: str, line: str, width: int) -> Iterator[str]:
    """One shell command, folded with backslashes."""
    if not line:
        return
    # An option -o stays with its value.
    kept = line.replace(" -o ", " -o\0")
    first, *more = textwrap.wrap(kept, width - 6, break_long_words=False, break_on_hyphens=False)
    pieces = [piece.replace("\0", " ") for piece in (f"{sign} {first}", *(f"    {each}" for each in more))]
    yield from (f"{piece} \\" for piece in pieces[:-1])
    yield pieces[-1]


def _note_places(records: list[Record], places: dict[str, str]) -> None:
    """Where things are that a later check names."""
    for record in records:
        if record["operation"] == "MakeCgroup":
            places["cgroup"] = shlex.quote(record["path"])
        elif record["operation"] == "FindLink" and "bridge" not in places:
            places["bridge"] = shlex.quote(record["path"])
        elif record["operation"] == "UnpackLayers":
            places["layers"] = shlex.quote(record["path"])
            places["unpacked"] = record["step"].split()[1]
        elif record["operation"] == "FetchBlobs":
            places["blobs"] = shlex.quote(record["path"])
            places["amount"] = record["step"].removeprefix("fetch ")
        elif record["operation"] in ("ReadArchive", "CopyTarball"):
            places["list"] = _list(record["path"])
        elif record["operation"] == "PackChanges":
            places["upper"] = shlex.quote(record["path"])
        elif record["operation"] == "AskToEnd":
            places["signal"] = record["path"]
        elif record["operation"] == "AwaitEnd":
            places["patience"] = record["path"]
        elif record["operation"] == "StoreImages":
            places["store"] = shlex.quote(record["path"])
        elif record["operation"] == "MakeVolume":
            places["volume"] = shlex.quote(record["path"])
        elif record["operation"] in ("ForgetVolume", "RemoveContainerFiles"):
            kind = "volumes" if record["operation"] == "ForgetVolume" else "containers"
            places[kind] = shlex.quote(record["path"].rpartition("/")[0])
        elif record["operation"] == "SetCapabilities":
            places["capabilities"] = record["path"].partition(" ")[0]


def _list(path: str) -> str:
    """A command that lists what an archive holds, or an OCI layout directory; "" for standard input."""
    if path == "-":
        return ""
    return f"ls {shlex.quote(path)}/blobs/sha256" if os.path.isdir(path) else f"tar -tf {shlex.quote(path)}"


class _Fields(dict[str, str]):
    """What stands in the texts' braces."""

    def __init__(self, counts: Counter[str], places: dict[str, str]) -> None:
        super().__init__(places)
        self._counts = counts

    def __missing__(self, name: str) -> str:
        if name == "role":
            return "PID 1, whose end ends all"
        if name == "devices":
            return str(self._counts["BindDevice"] + self._counts["MakeDevice"])
        return str(self._counts[name])
