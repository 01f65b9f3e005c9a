"""Whatever stands at whatever place of a config.json: it is taken, or refused in one line that names the place."""

from __future__ import annotations

import copy
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from pycontainer import json_text
from pycontainer.errors import HostError, PycontainerError, UsageError
from pycontainer.kernel import device_filter, mount
from pycontainer.runtime import spec

M = 1 << 20
IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
# Every field that is implemented.
FULL: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 50, "width": 120},
        "user": {"uid": 1000, "gid": 1001, "umask": 0o77, "additionalGids": [5, 6]},
        "args": ["/bin/ls", "-l"],
        "env": ["A=1"],
        "cwd": "/srv",
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
        "capabilities": {
            kind: ["CAP_CHOWN", "CAP_KILL"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 10}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "nice": 5,
            "priority": 0,
            "runtime": 1,
            "deadline": 2,
            "period": 3,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0-3,7", "final": "0"},
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "box",
    "domainname": "example",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "rnosuid"]},
        {
            "destination": "/v",
            "type": "bind",
            "source": "/v",
            "options": ["rbind", "ro"],
            "uidMappings": IDS,
            "gidMappings": IDS,
        },
    ],
    "annotations": {"a": "b"},
    "hooks": {"prestart": []},
    "linux": {
        "namespaces": [{"type": kind} for kind in ("mount", "user", "uts", "ipc")]
        + [{"type": "network", "path": "/run/netns/x"}],
        "uidMappings": IDS,
        "gidMappings": IDS,
        "devices": [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1, "gid": 2}
        ],
        "cgroupsPath": "/x/y",
        "resources": {
            "devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
            "memory": {
                "limit": 64 * M,
                "swap": 96 * M,
                "reservation": 32 * M,
                "kernel": -1,
                "kernelTCP": 0,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1024,
                "quota": 50000,
                "period": 100000,
                "burst": 5,
                "idle": 1,
                "cpus": "0-1",
                "mems": "0",
                "realtimeRuntime": 0,
                "realtimePeriod": 0,
            },
            "pids": {"limit": 5},
            "blockIO": {
                "weight": 100,
                "leafWeight": 0,
                "weightDevice": [],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": M}],
            "network": {"classID": 0, "priorities": []},
            "rdma": {},
            "unified": {"memory.high": "max"},
        },
        "sysctl": {"kernel.shmmax": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "rootfsPropagation": "slave",
        "seccomp": {},
        "intelRdt": {"closID": ""},
        "personality": {"domain": "LINUX", "flags": []},
        "timeOffsets": {"boottime": {"secs": 0, "nanosecs": 0}},
        "memoryPolicy": {"mode": "MPOL_DEFAULT"},
        "netDevices": {},
        "mountLabel": "",
    },
}
Place = tuple[str | int, ...]


def deep(kind: type) -> Any:
    value: Any = kind()
    for _ in range(5000):
        value = [value] if kind is list else {"x": value}
    return value


HOSTILE: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "0": 0,
    "-1": -1,
    "-2": -2,
    "1.0": 1.0,
    "-0.5": -0.5,
    "2**31": 1 << 31,
    "2**32": 1 << 32,
    "2**63": 1 << 63,
    "2**64-1": (1 << 64) - 1,
    "2**64": 1 << 64,
    "10**30": 10**30,
    "-10**30": -(10**30),
    "10**3999": 10**3999,
    "empty text": "",
    "x": "x",
    "digits": "5",
    "NUL": "a\0b",
    "high surrogate": "/\ud800",
    "low surrogate": "/\udfff",
    "a byte": "/\udcff",
    "control": "/\n\x1b[31m",
    "up": "/../..",
    "long text": "/" + "x" * 200_000,
    "other digits": "\u0663",
    "empty list": [],
    "null in a list": [None],
    "list in a list": [[]],
    "object in a list": [{}],
    "texts": ["x", "x"],
    "surrogate in a list": ["\udfff"],
    "up in a list": ["/../.."],
    "long list": [0] * 100_000,
    "empty object": {},
    "null in an object": {"x": None},
    "object in an object": {"": {}},
    "surrogate key": {"\udfff": "x"},
    "NUL key": {"\0": "x"},
    "long key": {"x." * 50_000: "x"},
    "deep list": deep(list),
    "deep object": deep(dict),
}


def places(node: object, at: Place = ()) -> Iterator[Place]:
    """Every place below a node, its own too."""
    yield at
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, item in items:
        yield from places(item, (*at, name))


FULL_TEXT = json.dumps(FULL)


def replaced(at: Place, value: Any) -> Any:
    if not at:
        return value
    # Not deepcopy(), which keeps one value that stands at two places one.
    config = json.loads(FULL_TEXT)
    node: Any = config
    for name in at[:-1]:
        node = node[name]
    node[at[-1]] = value
    return config


def path_of(at: Place) -> str:
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in at).lstrip(".")


# What is wrong only because of what stands elsewhere now.
CONSEQUENCES = {
    "linux": ["hostname"],
    "linux.namespaces": ["hostname", "domainname", "linux.sysctl", "linux.uidMappings"],
}
PLACES = list(places(FULL))


def names(error: PycontainerError, at: Place) -> bool:
    """Whether it names the place, what is around or in it, or what stands beside it."""
    path, parent = path_of(at), path_of(at[:-1])
    found = error.path
    if not at or (path.startswith(found) and found):
        return True
    related = any(path.startswith(where) and found.startswith(to) for where, tos in CONSEQUENCES.items() for to in tos)
    return found.startswith(path) or related or (bool(parent) and found.startswith(parent))


def test_the_whole_is_accepted() -> None:
    found = spec.Spec(FULL, "/bundle")
    assert found.warnings == []
    assert len(found.limits) == 14


@pytest.mark.parametrize("at", PLACES, ids=path_of)
def test_it_is_taken_or_refused_by_name(at: Place) -> None:
    for kind, value in HOSTILE.items():
        try:
            found = spec.Spec(replaced(at, value), "/bundle")
        except PycontainerError as error:
            assert isinstance(error, UsageError | HostError)
            assert error.step == "read config.json"
            assert names(error, at), (kind, error.path)
            assert len(str(error).splitlines()) <= 2, kind
            assert len(str(error)) < 600, kind
            str(error).encode()
        else:
            # What it is used for needs no further look.
            device_filter.compile_rules(found.device_rules)
            for limit in found.limits:
                f"{limit.file}{limit.value}".encode("ascii")
            for text in (*found.process.args, *found.process.env, found.hostname, found.cgroups_path, found.root):
                text.encode(errors="surrogateescape")


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("process.args", ["0", "false", "empty text", "empty object", "null in a list", "texts with NUL"]),
        ("process.user.umask", ["-1", "10**30", "1.0", "digits", "true", "2**32"]),
        ("process.user.uid", ["-1", "10**30", "1.0", "digits", "2**64-1"]),
        ("process.oomScoreAdj", ["10**30", "2**31", "empty text", "empty list"]),
        ("process.consoleSize.height", ["-1", "2**31", "1.0"]),
        ("process.cwd", ["x", "NUL", "high surrogate", "low surrogate", "long text", "empty list", "empty object"]),
        ("mounts", ["0", "false", "empty text", "empty object", "texts"]),
        ("mounts[0].options", ["empty text", "0", "empty object", "surrogate in a list"]),
        ("hostname", ["long text", "NUL", "low surrogate", "0"]),
        ("hooks", ["0", "false", "empty text", "empty list", "a hook"]),
        ("linux.readonlyPaths", ["up in a list"]),
        ("process.user.additionalGids", ["long list", "list in a list", "empty object"]),
        ("root.path", ["empty text", "0", "NUL", "long text"]),
        ("linux.seccomp", ["0", "false", "empty list", "x"]),
        ("linux.mountLabel", ["0", "false", "empty list", "x"]),
        ("annotations", ["surrogate key", "NUL key", "null in a list", "empty list"]),
        ("linux.cgroupsPath", ["long text", "control", "NUL"]),
        ("linux.maskedPaths", ["empty text", "texts", "surrogate in a list"]),
        ("linux.sysctl", ["surrogate key", "NUL key", "long key", "empty list"]),
        ("linux.resources.pids.limit", ["-2", "2**63", "1.0", "digits"]),
        ("linux.resources.memory.limit", ["-2", "2**63", "2**64-1", "10**30", "empty text"]),
        ("linux.resources.cpu.cpus", ["x", "NUL", "a byte", "0"]),
        ("linux.resources.unified", ["x", "long key", "surrogate key"]),
    ],
)
def test_what_must_be_refused(path: str, kinds: list[str]) -> None:
    at = next(at for at in PLACES if path_of(at) == path)
    for kind in kinds:
        value = HOSTILE.get(kind, ["a\0"] if kind == "texts with NUL" else {"prestart": [{"path": "/x"}]})
        with pytest.raises((UsageError, HostError)):
            spec.Spec(replaced(at, value), "/bundle")


def test_bytes_that_are_no_utf8_are_accepted() -> None:
    """The engine writes them so into the files that it makes itself."""
    config = replaced(("process", "args"), ["/bin/\udcff"])
    config["mounts"][2]["source"] = "/v\udc80"
    found = spec.Spec(json_text.loads(json_text.dumps(config)), "/bundle")
    assert found.process.args == ["/bin/\udcff"]
    assert found.mounts[2].source == "/v\udc80"


REFUSED: list[tuple[str, Any]] = [
    ("process.apparmorProfile", "x"),
    ("process.selinuxLabel", "x"),
    ("process.commandLine", "cmd.exe"),
    ("process.user.username", "nobody"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ERRNO"}),
    ("linux.mountLabel", "x"),
    ("linux.intelRdt", {"closID": "x"}),
    ("linux.intelRdt", {"enableCMT": True}),
    ("linux.personality", {"domain": "LINUX32"}),
    ("linux.personality", {"domain": "LINUX", "flags": ["x"]}),
    ("linux.timeOffsets", {"monotonic": {"secs": 5}}),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0"}),
    ("linux.netDevices", {"eth0": {}}),
    ("linux.rootfsPropagation", "sideways"),
    ("linux.resources.memory.swappiness", 0),
    ("linux.resources.memory.kernel", 1),
    ("linux.resources.memory.kernelTCP", 1),
    ("linux.resources.memory.disableOOMKiller", True),
    ("linux.resources.cpu.realtimeRuntime", 1),
    ("linux.resources.network", {"priorities": [{"name": "eth0", "priority": 1}]}),
    ("linux.resources.rdma", {"mlx5": {}}),
    ("linux.resources.blockIO.leafWeight", 10),
    ("linux.resources.blockIO.weightDevice", [{"major": 8, "minor": 0, "weight": 10}]),
    ("windows", {"layerFolders": ["x"]}),
    ("vm", {"kernel": {"path": "/x"}}),
    ("freebsd", {"jail": {"parent": "x"}}),
    ("mounts[2].options", ["bind", "bogus"]),
    ("mounts[2].options", ["bind", "size=1m"]),
    ("mounts[2].options", ["bind", "sync"]),
    ("mounts[2].options", ["bind", "idmap"]),
    ("mounts[0].uidMappings", IDS),
]


@pytest.mark.parametrize(("path", "value"), REFUSED)
def test_what_is_not_implemented_is_refused_by_name(path: str, value: Any) -> None:
    config = copy.deepcopy(FULL)
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    node: Any = config
    for name in parents:
        node = node[int(name)] if name.isdigit() else node.setdefault(name, {})
    node[last] = value
    if path == "mounts[0].uidMappings":
        node["gidMappings"] = value
    with pytest.raises((UsageError, HostError)) as caught:
        spec.Spec(config, "/bundle")
    assert caught.value.path == path
    assert caught.value.hint or "options" in path or "Propagation" in path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("linux.personality", {"domain": "LINUX"}),
        ("linux.memoryPolicy", {"mode": "MPOL_DEFAULT", "nodes": ""}),
        ("linux.intelRdt", None),
        ("linux.timeOffsets", {"monotonic": {"secs": 0}}),
        ("windows", {}),
        ("unknown", {"x": 1}),
        ("linux.resources.memory", {"swappiness": -1}),
    ],
)
def test_what_asks_for_nothing_is_accepted(path: str, value: Any) -> None:
    at = tuple(path.split("."))
    spec.Spec(replaced(at, value), "/bundle")


def test_unknown_words_are_a_file_systems_own() -> None:
    found = spec.Spec(replaced(("mounts", 1, "options"), ["bogus=1", "rro"]), "/bundle")
    options = found.mounts[1].options
    assert (options.data, options.flags, options.recursive_set) == ("bogus=1", mount.MS_RDONLY, 0)


@pytest.mark.parametrize("kind", ["bounding", "effective", "permitted", "inheritable", "ambient"])
def test_an_unknown_capability_is_a_warning(kind: str) -> None:
    config = replaced(("process", "capabilities", kind), ["CAP_X", "CAP_KILL", "CAP_X", "chown\n"])
    found = spec.Spec(config, "/bundle")
    assert found.process.capabilities[kind] == ["CAP_KILL"]
    assert found.warnings == [
        f"process.capabilities.{kind}: 'CAP_X' is unknown, and left out",
        f"process.capabilities.{kind}: 'chown\\n' is unknown, and left out",
    ]


class TestScheduling:
    def parse(self, **values: Any) -> spec.Process:
        return spec.Spec({**FULL, "process": {"args": ["sh"], **values}}, "/bundle").process

    @pytest.mark.parametrize(
        ("value", "printed"),
        [
            ({"policy": "SCHED_OTHER"}, "sched_policy=SCHED_OTHER, sched_flags=0, sched_nice=0, sched_priority=0"),
            ({"policy": "SCHED_BATCH", "nice": 19}, "sched_policy=SCHED_BATCH, sched_flags=0, sched_nice=19"),
            (
                {"policy": "SCHED_FIFO", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
                "sched_policy=SCHED_FIFO, sched_flags=SCHED_FLAG_RESET_ON_FORK, sched_nice=0, sched_priority=99",
            ),
            (
                {"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 6},
                "sched_runtime=5, sched_deadline=6, sched_period=0",
            ),
        ],
    )
    def test_scheduler(self, value: dict[str, Any], printed: str) -> None:
        assert printed in str(self.parse(scheduler=value).scheduler)

    @pytest.mark.parametrize(
        ("value", "field"),
        [
            ({}, "policy"),
            ({"policy": "OTHER"}, "policy"),
            ({"policy": "SCHED_OTHER", "nice": 20}, "nice"),
            ({"policy": "SCHED_OTHER", "nice": -21}, "nice"),
            ({"policy": "SCHED_OTHER", "priority": 1}, "priority"),
            ({"policy": "SCHED_FIFO"}, "priority"),
            ({"policy": "SCHED_RR", "priority": 100}, "priority"),
            ({"policy": "SCHED_RR", "priority": 5, "period": 1}, "period"),
            ({"policy": "SCHED_IDLE", "flags": ["x"]}, "flags"),
            ({"policy": "SCHED_DEADLINE"}, "runtime"),
            ({"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 4}, "runtime"),
        ],
    )
    def test_a_wrong_scheduler(self, value: dict[str, Any], field: str) -> None:
        with pytest.raises(UsageError) as caught:
            self.parse(scheduler=value)
        assert caught.value.path == f"process.scheduler.{field}"

    @pytest.mark.parametrize(
        ("value", "field"),
        [
            ({}, "class"),
            ({"class": "IOPRIO_CLASS_NONE"}, "class"),
            ({"class": "IOPRIO_CLASS_RT", "priority": 8}, "priority"),
            ({"class": "IOPRIO_CLASS_RT", "priority": -1}, "priority"),
        ],
    )
    def test_a_wrong_io_priority(self, value: dict[str, Any], field: str) -> None:
        with pytest.raises(UsageError) as caught:
            self.parse(ioPriority=value)
        assert caught.value.path == f"process.ioPriority.{field}"

    def test_io_priority(self) -> None:
        assert self.parse(ioPriority={"class": "IOPRIO_CLASS_IDLE"}).io_priority == ("IOPRIO_CLASS_IDLE", 0)

    @pytest.mark.parametrize(
        ("text", "cpus"),
        [("", []), (" ", []), ("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), ("7, 0 - 1,1", [0, 1, 7]), (None, [])],
    )
    def test_affinity(self, text: str | None, cpus: list[int]) -> None:
        assert self.parse(execCPUAffinity={"initial": text}).affinity == (cpus, [])
        assert self.parse(execCPUAffinity={"final": text}).affinity == ([], cpus)

    @pytest.mark.parametrize("text", ["x", "-", "1-", "-1", "3-1", "0,,1", ",", "0-99999", "1-2-3", "\u0663", "8192"])
    def test_a_wrong_affinity(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            self.parse(execCPUAffinity={"final": text})
        assert caught.value.path == "process.execCPUAffinity.final"


def test_ids_of_a_mount_are_of_both_kinds() -> None:
    with pytest.raises(UsageError) as caught:
        spec.Spec(replaced(("mounts", 2, "gidMappings"), []), "/bundle")
    assert caught.value.path == "mounts[2].uidMappings"


@pytest.mark.parametrize(
    ("rlimits", "field"),
    [
        ([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}], "[0].soft"),
        ([{"type": "RLIMIT_CORE", "soft": -1, "hard": 1}], "[0].soft"),
        ([{"type": "RLIMIT_CORE", "hard": 1}], "[0].soft"),
        ([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2, "[1].type"),
    ],
)
def test_limits_that_are_none(rlimits: list[Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        spec.Spec(replaced(("process", "rlimits"), rlimits), "/bundle")
    assert caught.value.path == f"process.rlimits{field}"


def test_a_file_of_json_that_python_itself_would_write(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FULL, indent=1))
    assert spec.load(str(tmp_path)).hostname == "box"
