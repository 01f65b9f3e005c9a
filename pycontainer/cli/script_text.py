"""The words of `run --explain=script`: config.json as a shell script, one function for each step, in order.

outside                                        inside, in the container's namespaces
-------                                        -------------------------------------
layers, cgroup, ids, network
unshare                                    ->  mounts, host name
                                               the program's shell, with no more rights than the program
exchanges the root, takes the old one away <-  "ready"
waits                                      ->  execve

The root is exchanged from outside, because afterwards no program of the host's can be found inside, and none with few
rights could exchange it.
"""

from __future__ import annotations

import ipaddress
import os

from pycontainer.cli import script_inside
from pycontainer.cli.script_plan import Plan, bind_option
from pycontainer.kernel.operation import word
from pycontainer.runtime.resources import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.engine.bundle import Json


def text(plan: Plan, image: str) -> str:
    """The whole script. `image` is what the user called it."""
    outside = [_head(plan, image), _layers(plan), _files(plan), _cgroup(plan), _namespaces(plan), _network(plan)]
    parts = [
        *outside,
        _sources(plan),
        [*_start(plan), *_joined(script_inside.parts(plan)), "INSIDE", *_started()],
        _exchange(),
    ]
    return "".join(f"{line}\n" for line in _joined(parts))


def _joined(parts: list[list[str]]) -> list[str]:
    """Their lines, with an empty one between two parts."""
    lines: list[str] = []
    for part in filter(None, parts):
        lines += [*([""] if lines else []), *part]
    return lines


def _head(plan: Plan, image: str) -> list[str]:
    cgroup = ['    [ ! -d "$cgroup" ] || { echo 1 >"$cgroup/cgroup.kill"; rmdir "$cgroup"; }'] if plan.hierarchy else []
    holder = ['    [ -z "$holder" ] || kill "$holder"'] if plan.held else []
    network = ['    nft delete table ip "$bridge"', '    ip link delete "$bridge"'] if plan.mode == "bridge" else []
    named = ["bridge=script$$"] if plan.mode == "bridge" else []
    return [
        "#!/bin/bash",
        f"# A container of {image} as `pycontainer run` makes it, by util-linux, ip, nft and tar. Run it as root.",
        "# Not the same: a shell has no command for the filter of devices (BPF) nor for one of system calls (seccomp).",
        "# Links in the image are followed on the host here: run it only with an image that you trust.",
        *([f"# Left out here: {', '.join(plan.omitted)}."] if plan.omitted else []),
        "set -eu",
        "PATH=$PATH:/usr/sbin:/sbin",
        "",
        "# Everything is made in here, and goes at the end, however that comes. Not in /tmp, which may be memory: then",
        "# what the container writes would count as its own.",
        "work=$(mktemp -d --tmpdir=${TMPDIR:-/var/tmp} container.XXXXXX) container= holder=",
        *([f"cgroup={word(plan.hierarchy)}/script$$"] if plan.hierarchy else []),
        *named,
        "clean_up() {",
        "    set +e",
        "    cd /",
        *cgroup,
        '    [ -z "$container" ] || wait "$container"',
        *holder,
        *network,
        "    # Lazily, because what was killed just now may still be in there.",
        '    umount -R -l "$work"',
        '    rm -rf --one-file-system "$work"',
        "}",
        "trap 'clean_up 2>/dev/null' EXIT",
        "# Others may enter, because root of the container is somebody else on the host.",
        'chmod 711 "$work"',
        "# Private, because a mount in a shared one appears in other mount namespaces, too.",
        'mount --bind "$work" "$work"',
        'mount --make-private "$work"',
        'cd "$work"',
        "mkdir empty image lower upper overlay root bind",
        "mkfifo ready go",
    ]


def _holds(plan: Plan, kind: str) -> bool:
    return f"--{kind}" in plan.held


def _layers(plan: Plan) -> list[str]:
    names = [f"layer{number}" for number in range(len(plan.layers), 0, -1)]
    lines = ["# The image: its layers, one upon the other. overlayfs shows the uppermost file of each name."]
    lines += [f"{name}={word(path)}" for name, path in zip(names, plan.layers[::-1], strict=True)]
    lower = ":".join(f"${name}" for name in names)
    if plan.base is None:
        return [
            *lines,
            "# Above them an empty directory, where everything goes that the container writes. No devices: none of the",
            "# image's can be opened.",
            f'mount -t overlay -o nodev,lowerdir="{lower}:empty",upperdir=upper,workdir=overlay overlay root',
        ]
    return [
        *lines,
        f'mount -t overlay -o ro,lowerdir="{lower}:empty" overlay image',
    ]


def _files(plan: Plan) -> list[str]:
    lines = []
    owner = "" if plan.base is None else f"{plan.base}:{plan.base}"
    for path, content in plan.files.items():
        name = os.path.basename(path)
        lines += [f"cat >{name} <<'END'", *content.splitlines(), "END"]
    if owner:
        lines.append(f"chown {owner} {' '.join(os.path.basename(path) for path in plan.files)}")
    return ["# Files that tell the container who and where it is.", *lines]


def _cgroup(plan: Plan) -> list[str]:
    if not plan.hierarchy:
        return []
    asked = limits(plan.linux["resources"])
    lines = ["# A cgroup: what the container's processes use is counted there, and limited.", 'mkdir "$cgroup"']
    if asked:
        names = " ".join(f"+{name}" for name in dict.fromkeys(limit.controller for limit in asked))
        lines.insert(1, f"echo {word(names)} >{word(plan.hierarchy)}/cgroup.subtree_control")
    for limit in asked:
        value = limit.value
        if limit.file == "pids.max":
            # The one that waits for the container is in there, too.
            lines.append("# One more than was asked for, because unshare waits in there, too.")
            value = str(int(value) + 1)
        lines.append(f'echo {word(value)} >"$cgroup/{limit.file}"')
    return lines


def _namespaces(plan: Plan) -> list[str]:
    if not plan.held:
        return []
    holding = " ".join(plan.held)
    lines = [
        "# The first namespaces, held by a process that sleeps: what is in them is set up from outside.",
        f"read -r holder < <(exec unshare {holding} sh -c 'echo $$; exec sleep infinity >&-')",
    ]
    if plan.base is None:
        return lines
    return [
        *lines,
        "# Root of the container is an ordinary user of the host's. By hand, because newuidmap(1), which unshare asks,",
        "# gives only what /etc/subuid says.",
        f"echo 0 {plan.base} {plan.ids} >/proc/$holder/uid_map",
        f"echo 0 {plan.base} {plan.ids} >/proc/$holder/gid_map",
        "",
        "# The image once more, with its owners shifted to that range. A copy, because mount(8) maps ids only since",
        "# 2.39; pycontainer copies nothing. Without device nodes, which nobody may make in a user namespace.",
        f"chown {plan.base}:{plan.base} lower upper overlay",
        "(cd image && find . ! -type b ! -type c -print0 |",
        "    tar -c --null --no-recursion -T - --numeric-owner --xattrs --xattrs-include=security.capability) |",
        "    nsenter --target $holder --user \\",
        "    tar -C lower -xp --numeric-owner --xattrs --xattrs-include=security.capability",
        "# Above it an empty directory, where everything goes that the container writes.",
        "mount -t overlay -o nodev,lowerdir=lower,upperdir=upper,workdir=overlay overlay root",
    ]


def _network(plan: Plan) -> list[str]:
    if not _holds(plan, "net"):
        return []
    enter = "nsenter --target $holder --net"
    lines = ["# A new network namespace has a loopback that is down, and nothing else.", f"{enter} ip link set lo up"]
    if plan.mode != "bridge":
        return lines
    network = ipaddress.IPv4Network(plan.subnet)
    gateway, address = network[1], network[2]
    length = network.prefixlen
    name = plan.config["hostname"]
    return [
        *lines,
        "",
        "# A bridge, and a cable from it into the namespace: one end is called eth0 there.",
        'ip link add "$bridge" type bridge',
        f'ip address add {gateway}/{length} dev "$bridge"',
        'ip link set "$bridge" up',
        'ip link add "veth$$" master "$bridge" up type veth peer name eth0 netns $holder',
        f"{enter} ip address add {address}/{length} dev eth0",
        f"{enter} ip link set eth0 up",
        f"{enter} ip route add default via {gateway}",
        f"printf '%s\\t%s\\n' {address} {word(name)} >>hosts",
        "# Outside nobody knows the subnet: what leaves takes the host's address.",
        "[ $(cat /proc/sys/net/ipv4/ip_forward) = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward",
        "nft -f - <<END",
        "table ip $bridge {",
        "    chain postrouting {",
        "        type nat hook postrouting priority srcnat;",
        f'        ip saddr {plan.subnet} oifname != "$bridge" masquerade',
        "    }",
        "}",
        "END",
    ]


def _sources(plan: Plan) -> list[str]:
    lines = []
    for number, mount in enumerate(plan.binds):
        if mount["source"] not in plan.files:
            lines += _source(plan, mount, f"bind/{number}")
    if not lines:
        return []
    unmapped = ["# What belongs to root there is nobody's inside: mount(8) maps ids only since 2.39, pycontainer does."]
    return [
        "# Volumes: put where the container's root, who is somebody else on the host, finds them.",
        *(unmapped if any("uidMappings" in mount for mount in plan.binds) else []),
        *lines,
    ]


def _source(plan: Plan, mount: Json, place: str) -> list[str]:
    if mount["source"] in plan.anonymous:
        owner = [] if plan.base is None else [f"chown {plan.base}:{plan.base} {place}"]
        held = word(f"root{mount['destination']}")
        return [f"mkdir {place}", *owner, f"[ ! -d {held} ] || cp -a {held}/. {place}"]
    make = "mkdir" if os.path.isdir(mount["source"]) else "touch"
    return [f"{make} {place}", f"mount {bind_option(mount)} {word(mount['source'])} {place}"]


def _start(plan: Plan) -> list[str]:
    entered = [f"nsenter --target $holder {' '.join(plan.held)}"] if plan.held else []
    unshare = "unshare --fork --pid --mount --uts --ipc --cgroup --propagation slave"
    return [
        "# The other namespaces. From within the cgroup, because a new cgroup namespace begins where its maker is.",
        "export work",
        "(",
        *(['    echo $BASHPID >"$cgroup/cgroup.procs"'] if plan.hierarchy else []),
        *(f"    {'' if number else 'exec '}{line} \\" for number, line in enumerate([*entered, unshare])),
        "    bash -euc \"$(cat <<'INSIDE'",
    ]


def _started() -> list[str]:
    return [')"', ') <&0 3>"$work/ready" 4<>"$work/go" &', "container=$!"]


def _exchange() -> list[str]:
    return [
        "# Outside again. When the shell in there waits, the image becomes its /, with the host's root on top of it.",
        'read -r _ <"$work/ready"',
        'nsenter --target $container --mount pivot_root "$work/root" "$work/root"',
        "# Who enters now comes out on top, where there is still an umount: the host's root goes.",
        "nsenter --target $container --mount umount --lazy /",
        'echo >"$work/go"',
        "",
        "# The container's exit status is that of its program, and of this script.",
        "status=0",
        "wait $container || status=$?",
        "container=",
        "exit $status",
    ]
