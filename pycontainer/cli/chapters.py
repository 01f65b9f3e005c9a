"""What `--explain` tells, step by step: CONTENTS of a container's start, AT_REST of commands that start nothing."""

from __future__ import annotations


class Chapter:
    """One step.

    title    what happens; {NAME} is how many operations of that class there were
    why      sentences, each with the operation that has to have been there for it, "" for always
    shown    the operation whose shell command is shown, the first one that was there
    check    a command that shows it while the container runs, or afterwards, with the names that `Lecture` defines; the
             first whose operation was there
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


_NAME_SERVER = Chapter(
    "Start the network's name server",
    why=[
        ("StartNameServer", "One process for each network, at the gateway's address, as long as somebody is in it: it"),
        ("StartNameServer", "answers with the address that a container of that name has now, and asks others for the"),
        ("StartNameServer", "rest."),
        ("ReservePort", "Ports of the host's are kept meanwhile, so that nobody else takes them."),
    ],
    shown="StartNameServer",
    check=[("StartNameServer", "nslookup {member} {gateway}")],
)
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
            FindAddress6 FindRules6 SwitchOff6 ReadForwarding6 EnableForwarding6 AddAddress6
            AddBridgeAddress SetBridgeUp SetMaster ListRules ApplyRules ReadLocalRouting EnableLocalRouting
            ListElements""",
    ),
    _NAME_SERVER,
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
        others="""OpenNamespace FindLink DeleteLink OpenSocket AddAddress AddAddress6 SetLinkUp AddDefaultRoute
            AddDefaultRoute6 AwaitCarrier
            SetHairpin LiftRate ListElements RemoveElements ForgetFlowsTo ForgetFlowsFrom FindTable ApplyRules""",
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
    # Those of networks: who begins with a link that goes away pulls a cable out.
    Chapter(
        "Pull the cable out",
        why=[
            (
                "DeleteLink",
                "Both its ends go at once, and in the container address and routes with them. Only then the",
            ),
            ("DeleteLink", "address is free for others."),
            ("RemoveElements", "Before that, nothing is led to its published ports any more."),
        ],
        shown="DeleteLink",
        check=[("DeleteLink", "ip -br link show type veth")],
        others="ListElements ForgetFlowsFrom",
    ),
    Chapter(
        "Look at what is there",
        why=[
            ("SurveyHost", "The subnet may hide no network that the host can reach, and is no other's."),
            ("FindTable", "Where somebody has taken bridge, address or rules away, they are made again."),
        ],
        shown="SurveyHost FindLink",
        check=[("SurveyHost", "ip -4 route"), ("FindTable", "ip -br address show {bridge}")],
        others="""FindLink FindAddress ReadWithoutIPv6 FindRules ReadForwarding EnableForwarding FindAddress6 FindRules6
            ReadForwarding6 EnableForwarding6""",
    ),
    Chapter(
        "Make a bridge, with an address on it",
        why=[
            ("CreateBridge", "A switch in the kernel: those that are plugged in reach each other."),
            ("AddBridgeAddress", "By its address the host is in it too, and is the way out."),
        ],
        shown="CreateBridge",
        check=[("CreateBridge", "ip -br address show {bridge}")],
        others="FindLink DisableIPv6 SwitchOff6 AddAddress6 DeleteLink",
    ),
    Chapter(
        "Have packets translated and filtered",
        why=[
            (
                "ApplyRules",
                "Outside nobody knows the subnet: what leaves takes the host's address. And networks are kept",
            ),
            ("ApplyRules", "apart. All networks' rules are one table, exchanged as a whole."),
            ("SetBridgeUp", "The bridge comes up last: one that is up is taken as complete."),
        ],
        # The rules are longer than all the rest, and the check shows them.
        shown="SetBridgeUp",
        check=[("ApplyRules", "nft list table ip {table}")],
        others="""SetMaster ListRules FindLink FindAddress FindAddress6 FindRules6 ReadForwarding6 EnableForwarding6
            ReadWithoutIPv6 FindTable FindRules ReadForwarding
            EnableForwarding DeleteLink""",
    ),
    Chapter(
        "Remove networks: {DeleteBridge}",
        why=[
            ("DeleteBridge", "Address and route go with the bridge."),
            ("ApplyRules", "Its rules go: all networks' are one table, exchanged as a whole."),
        ],
        shown="DeleteBridge",
        check=[("DeleteBridge", "ip -br link show type bridge")],
    ),
    _NAME_SERVER,
    Chapter(
        "Wire it inside the running container",
        why=[
            ("CreateVeth", "A cable: one end in the bridge, the other is made in the container's network namespace."),
            ("OpenSocket", "A netlink socket that was opened in there sets it up from outside."),
            ("AddDefaultRoute", "One of its networks is the way to everything else."),
            ("LimitRate", "A token bucket at each end holds it to the rate."),
            ("AddElements", "What comes to a published port of the host's is sent on to it."),
        ],
        shown="CreateVeth AddDefaultRoute",
        check=[("OpenNamespace", "nsenter -t $PID -n ip -br address")],
        others="""FindLink DeleteLink AddAddress AddAddress6 AddDefaultRoute6 SetLinkUp AwaitCarrier SetHairpin
            LiftRate ReadLocalRouting
            EnableLocalRouting ListElements RemoveElements ForgetFlowsTo ForgetFlowsFrom FindTable ApplyRules""",
    ),
    Chapter(
        "Tell it which name server to ask",
        why=[
            (
                "ExchangeServer",
                "Its resolv.conf is a file of the host's, mounted in there: what is written is there at once.",
            )
        ],
        shown="ExchangeServer",
        check=[("ExchangeServer", "cat {resolv}")],
    ),
]
