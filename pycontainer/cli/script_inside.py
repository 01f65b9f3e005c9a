"""The inner half of the script of `run --explain=script`: from a process in new namespaces to the program."""

from __future__ import annotations

import os
import textwrap

from pycontainer.cli.script_plan import Plan, bind_option
from pycontainer.kernel.operation import word
from pycontainer.runtime.init import DEFAULT_DEVICES
from pycontainer.runtime.operations.devices import LinkDevices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.engine.bundle import Json

_DEVICES = " ".join(device.path.removeprefix("/dev/") for device in DEFAULT_DEVICES)
_UNLIMITED = (1 << 64) - 1
# Of a bind's options those that mount(8) sets by a remount.
_BIND_FLAGS = ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "strictatime", "nosymfollow")


def parts(plan: Plan) -> list[list[str]]:
    """Its steps, in order, each as lines."""
    return [_root(), *_mounts(plan), _devices(plan), _restricted(plan), _program(plan)]


def _root() -> list[str]:
    return [
        "# From here on inside, as PID 1. The root once more, because only a mount of its own can become / here.",
        "umask 0",
        'cd "$work"',
        "mount --rbind root root",
        "mount --make-rprivate root",
        "cd root",
    ]


def _mounts(plan: Plan) -> list[list[str]]:
    own = ["# File systems of the container's own, each showing its own namespaces only."]
    bound = ["# Its files and volumes."]
    sources = {mount["destination"]: number for number, mount in enumerate(plan.binds)}
    found: list[str] = own
    lines: list[list[str]] = [found]
    # In the order of config.json, in which a mount comes after the one that it is in.
    for mount in plan.config["mounts"]:
        wanted = bound if mount["type"] == "bind" else own
        if wanted[0] != found[0]:
            found = wanted[:1]
            lines.append(found)
        if mount["type"] == "bind":
            name = os.path.basename(mount["source"]) if mount["source"] in plan.files else ""
            source = f"../{name}" if name else f"../bind/{sources.get(mount['destination'])}"
            is_directory = os.path.isdir(mount["source"]) or mount["source"] in plan.anonymous
            found += _bind(mount, "/sys" if mount["source"] == "/sys" else source, is_directory=is_directory)
        else:
            found += _file_system(plan, mount)
    return [part for part in lines if len(part) > 1]


def _file_system(plan: Plan, mount: Json) -> list[str]:
    place = mount["destination"]
    # The container's own /dev gets its nodes first.
    options = [option for option in mount["options"] if not (option == "ro" and place == "/dev")]
    if mount["type"] == "tmpfs" and place in plan.modes and not any(each.startswith("mode=") for each in options):
        options.append(f"mode={plan.modes[place]:04o}")
    kind = "cgroup2" if mount["type"] == "cgroup" else mount["type"]
    data = f" -o {word(','.join(options))}" if options else ""
    return [
        f"mkdir -p {_inside(place)}",
        f"mount -t {kind}{data} {word(mount['source'])} {_inside(place)}",
    ]


def _bind(mount: Json, source: str, *, is_directory: bool) -> list[str]:
    place = _inside(mount["destination"])
    parent = _inside(os.path.dirname(mount["destination"]))
    lines = [
        f"mkdir -p {place}" if is_directory else f"mkdir -p {parent} && touch {place}",
        f"mount {bind_option(mount)} {source} {place}",
    ]
    flags = ",".join(option for option in mount["options"] if option in _BIND_FLAGS)
    if flags and "rro" in mount["options"]:
        lines += [
            f"findmnt --submounts --noheadings --list --output TARGET --target {place} | while read -r each; do",
            '    mount -o remount,bind,ro "$each"',
            "done",
        ]
    if flags:
        lines.append(f"mount -o remount,bind,{flags} {place}")
    return lines


def _inside(path: str) -> str:
    """A path of the container's, from its root, where the script is."""
    return word(os.path.normpath(f"./{path}"))


def _devices(plan: Plan) -> list[str]:
    links = [f"ln -sf {target} dev/{name}" for target, name in LinkDevices.LINKS]
    if plan.base is not None:
        return [
            "# The devices that programs expect: the host's nodes, because a user namespace makes none.",
            f"for name in {_DEVICES}; do touch dev/$name; mount --bind /dev/$name dev/$name; done",
            *links,
        ]
    return [
        "# The devices that programs expect, and no others.",
        *(f"mknod -m 666 dev/{device.path[5:]} c {device.major} {device.minor}" for device in DEFAULT_DEVICES),
        *(line for device in plan.linux["devices"] for line in _node(device)),
        *links,
    ]


def _node(device: Json) -> list[str]:
    place = _inside(device["path"])
    made = f"mknod -m {device['fileMode']:o} {place} {device['type']} {device['major']} {device['minor']}"
    return [f"[ -e {place} ] || {{ mkdir -p {_inside(os.path.dirname(device['path']))}; {made}; }}"]


def _restricted(plan: Plan) -> list[str]:
    lines = ["# The container's name, and the kernel's knobs: first they are set, then they can only be read."]
    lines.append(f"hostname {word(plan.config['hostname'])}")
    lines += [f"echo {word(value)} >proc/sys/{name.replace('.', '/')}" for name, value in plan.linux["sysctl"].items()]
    readonly, masked = (
        " ".join(_inside(path) for path in plan.linux[name]) for name in ("readonlyPaths", "maskedPaths")
    )
    if readonly:
        lines += [
            f"for path in {readonly}; do",
            "    [ -e $path ] || continue",
            "    mount --rbind $path $path",
            "    mount -o remount,bind,ro $path",
            "done",
        ]
    if masked:
        lines += [
            "# And what tells of the host is hidden: a directory by an empty one, a file by /dev/null.",
            *_folded(f"for path in {masked}; do"),
            "    if [ -d $path ]; then",
            "        mount -t tmpfs -o ro,mode=000,size=0k tmpfs $path",
            "    elif [ -e $path ]; then",
            "        mount --bind /dev/null $path",
            "        mount -o remount,bind,ro $path",
            "    fi",
            "done",
        ]
    if _inside(plan.process["cwd"]) != ".":
        lines.append(f"mkdir -p {_inside(plan.process['cwd'])}")
    if plan.config["root"]["readonly"]:
        lines += ["# Last, because the mount points had to be made in it.", "mount -o remount,bind,ro ."]
    return lines


def _program(plan: Plan) -> list[str]:
    process = plan.process
    rlimits = [
        f"--{each['type'].removeprefix('RLIMIT_').lower()}={_limit(each['soft'])}:{_limit(each['hard'])}"
        for each in process["rlimits"]
    ]
    user = process["user"]
    groups = ",".join(map(str, user["additionalGids"]))
    names = [f"+{name.removeprefix('CAP_').lower()}" for name in process["capabilities"]["bounding"]]
    score = process["oomScoreAdj"]
    return [
        "# What the program is given, and no more: its environment, limits, user, groups, capabilities. Before the",
        "# root is exchanged, because env, prlimit and setpriv are the host's. A shell with that little power waits",
        "# until it is done, and becomes the program.",
        "kept=-all",
        *(f"kept=$kept,{','.join(names[start : start + 6])}" for start in range(0, len(names), 6)),
        "exec env -i \\",
        *(f"    {word(entry)} \\" for entry in process["env"]),
        *([f"    choom -n {score} -- \\"] if score else []),
        *([f"    prlimit {' '.join(rlimits)} \\"] if rlimits else []),
        "    setpriv --bounding-set=$kept --inh-caps=-all \\",
        f"    --reuid={user['uid']} --regid={user['gid']} {f'--groups={groups}' if groups else '--clear-groups'}"
        f"{' --no-new-privs' if process['noNewPrivileges'] else ''} \\",
        "    sh -euc 'echo >&3; exec 3>&-; read -r _ <&4; exec 4>&-",
        '        umask 022; cd "$0"; unset PWD OLDPWD; exec "$@"\' \\',
        f"    {' '.join(word(argument) for argument in [process['cwd'], *process['args']])}",
    ]


def _folded(line: str) -> list[str]:
    """A line of plain words, as several."""
    *before, last = textwrap.wrap(line, 110, subsequent_indent="        ", break_on_hyphens=False)
    return [*(f"{each} \\" for each in before), last]


def _limit(value: int) -> str:
    return "unlimited" if value in (-1, _UNLIMITED) else str(value)
