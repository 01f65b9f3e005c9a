"""config.json for a set of flags and an image, checked part by part and against the rules of the OCI runtime-spec."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from pycontainer import json_text
from pycontainer.cli import request
from pycontainer.engine import bundle
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.user import User
from pycontainer.errors import HostError, UsageError
from pycontainer.kernel import capability
from pycontainer.kernel.id_map import IdMap
from pycontainer.kernel.namespace import TYPES
from pycontainer.runtime.defaults import CAPABILITIES
from pycontainer.runtime.spec import Spec

ID = "0123456789abcdef" * 4
FILES = {
    "/etc/resolv.conf": "/state/resolv.conf",
    "/etc/hosts": "/state/hosts",
    "/etc/hostname": "/state/hostname",
}
ROOT = User(0, 0, [10], "/root")
ALICE = User(1000, 1000, [29], "/home/alice")


def build(
    image: dict[str, Any] | None = None, *command: str, user: User = ROOT, base: int | None = None, **values: Any
) -> dict[str, Any]:
    config = ContainerConfig.from_request(request.container("busybox", list(command) or ["sh"], values))
    base = base if base is not None else (1 << 30 if config.security.user_namespace else 0)
    result = bundle.build(
        config,
        image or {},
        root="/state/rootfs",
        cgroup=f"/pycontainer/{ID}",
        user=user,
        hostname="box",
        maps=[IdMap(0, base, 65536)] if base else [],
        files=FILES,
        mounts=config.mounts.asked + config.mounts.tmpfs,
    )
    check_rules(result)
    return result


def check_rules(value: dict[str, Any]) -> None:
    """The specification's MUSTs that concern what we write: config.md, config-linux.md."""
    assert json.loads(json_text.dumps(value)) == value, "it is JSON, and reads back as it was"
    assert value["ociVersion"].startswith("1.")
    process, linux = value["process"], value["linux"]
    assert process["args"]
    assert process["cwd"].startswith("/")
    assert all("=" in entry for entry in process["env"])
    assert all(entry["type"].startswith("RLIMIT_") for entry in process["rlimits"])
    types = [entry["type"] for entry in process["rlimits"]]
    assert len(types) == len(set(types)), "duplicated entries must generate an error"
    sets = process["capabilities"]
    assert set(sets["effective"]) <= set(sets["permitted"]) <= set(sets["bounding"])
    kinds = [entry["type"] for entry in linux["namespaces"]]
    assert len(kinds) == len(set(kinds)) and set(kinds) <= set(TYPES)
    assert ("uidMappings" in linux) == ("gidMappings" in linux) == ("user" in kinds)
    for entry in value["mounts"]:
        assert entry["destination"].startswith("/")
        if entry["type"] == "bind":
            assert {"bind", "rbind"} & set(entry["options"])
            assert entry["source"].startswith("/")
        assert ("uidMappings" in entry) == ("gidMappings" in entry)
    for device in linux["devices"]:
        assert device["type"] in "cb"
        assert device["path"].startswith("/dev/")
    Spec(value, "/bundle")  # and our own runtime understands it


def mount(value: dict[str, Any], destination: str) -> dict[str, Any]:
    found = [entry for entry in value["mounts"] if entry["destination"] == destination]
    assert len(found) == 1, destination
    entry: dict[str, Any] = found[0]
    return entry


BOTH = {"Entrypoint": ["/entry", "-x"], "Cmd": ["default", "arguments"]}
COMMAND_LINES = {
    "cmd": ({"Cmd": ["sh"]}, [], None, ["sh"]),
    "entrypoint and cmd": (BOTH, [], None, ["/entry", "-x", "default", "arguments"]),
    "arguments replace cmd": (BOTH, ["mine"], None, ["/entry", "-x", "mine"]),
    "arguments without entrypoint": ({"Cmd": ["sh"]}, ["ls", "-l"], None, ["ls", "-l"]),
    "--entrypoint drops cmd": (BOTH, [], "/other", ["/other"]),
    "--entrypoint with arguments": (BOTH, ["a", "b"], "/other", ["/other", "a", "b"]),
    "--entrypoint is one word": (BOTH, [], "/other -x", ["/other -x"]),
    "empty --entrypoint": (BOTH, ["ls"], "", ["ls"]),
    "entrypoint alone": ({"Entrypoint": ["/entry"], "Cmd": None}, [], None, ["/entry"]),
    "nulls": ({"Entrypoint": None, "Cmd": None}, ["ls"], None, ["ls"]),
    "an empty argument counts": ({"Cmd": ["sh"]}, [""], None, [""]),
}


@pytest.mark.parametrize(("image", "command", "entrypoint", "expected"), COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_command_line(image: dict[str, Any], command: list[str], entrypoint: str | None, expected: list[str]) -> None:
    config = ContainerConfig("busybox", command, {} if entrypoint is None else {"entrypoint": entrypoint})
    before = json.dumps(image)
    assert bundle.command_line(config, image) == expected
    assert json.dumps(image) == before, "the image's own lists are not changed"


@pytest.mark.parametrize(
    ("image", "entrypoint"),
    [({}, None), ({"Cmd": []}, None), ({"Cmd": None, "Entrypoint": None}, None), (BOTH, "")],
)
def test_no_command_at_all(image: dict[str, Any], entrypoint: str | None) -> None:
    config = ContainerConfig("busybox", [], {} if entrypoint is None else {"entrypoint": entrypoint})
    with pytest.raises(UsageError, match="names no command"):
        bundle.command_line(config, image)


PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize(
    ("image", "values", "expected"),
    [
        ({}, {}, [PATH, "HOSTNAME=box", "HOME=/root"]),
        ({}, {"tty": True}, [PATH, "HOSTNAME=box", "TERM=xterm", "HOME=/root"]),
        ({"Env": ["PATH=/x", "A=i=j"]}, {}, ["PATH=/x", "HOSTNAME=box", "A=i=j", "HOME=/root"]),
        ({"Env": ["A=i", "B=i"]}, {"env": ["A=e"]}, [PATH, "HOSTNAME=box", "A=e", "B=i", "HOME=/root"]),
        ({"Env": ["HOME=/image"]}, {}, [PATH, "HOSTNAME=box", "HOME=/image"]),
        ({}, {"env": ["HOME=/mine", "PATH="]}, ["PATH=", "HOSTNAME=box", "HOME=/mine"]),
        ({}, {"env": ["A=1", "A=2"]}, [PATH, "HOSTNAME=box", "A=2", "HOME=/root"]),
        ({"Env": None}, {"env": ["TERM=dumb"], "tty": True}, [PATH, "HOSTNAME=box", "TERM=dumb", "HOME=/root"]),
        ({"Env": ["novalue"]}, {}, [PATH, "HOSTNAME=box", "HOME=/root"]),
        ({"Env": ["=x", "", "A=i"]}, {}, [PATH, "HOSTNAME=box", "A=i", "HOME=/root"]),
        ({"Env": ["A=i", "UNSET=i"]}, {"env": ["UNSET"]}, [PATH, "HOSTNAME=box", "A=i", "HOME=/root"]),
        ({}, {"env": ["UNSET"]}, [PATH, "HOSTNAME=box", "HOME=/root"]),
        ({}, {"env": ["UNSET", "UNSET=e"]}, [PATH, "HOSTNAME=box", "UNSET=e", "HOME=/root"]),
    ],
)
def test_environment(
    image: dict[str, Any], values: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    assert build(image, **values)["process"]["env"] == expected


def test_files_come_before_assignments(tmp_path: pathlib.Path) -> None:
    (tmp_path / "env").write_text("A=file\nB=file\n")
    found = build({"Env": ["B=image", "C=image"]}, env_file=[str(tmp_path / "env")], env=["A=flag"])["process"]["env"]
    assert found[2:] == ["B=file", "C=image", "A=flag", "HOME=/root"]


def test_the_default_container() -> None:
    value = build()
    process, linux = value["process"], value["linux"]
    assert process["terminal"] is False
    assert process["user"] == {"uid": 0, "gid": 0, "additionalGids": [10]}
    assert process["cwd"] == "/"
    assert process["noNewPrivileges"] is False
    assert process["rlimits"] == []
    for kind in ("bounding", "effective", "permitted"):
        assert set(process["capabilities"][kind]) == set(CAPABILITIES)
    assert process["capabilities"]["inheritable"] == process["capabilities"]["ambient"] == []
    assert value["root"] == {"path": "/state/rootfs", "readonly": False}
    assert value["hostname"] == "box"
    assert {entry["type"] for entry in linux["namespaces"]} == {
        "pid", "ipc", "uts", "mount", "cgroup", "network", "user",
    }  # fmt: skip
    assert all("path" not in entry for entry in linux["namespaces"])
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 1 << 30, "size": 65536}]
    assert linux["cgroupsPath"] == f"/pycontainer/{ID}"
    assert linux["resources"] == {"devices": [{"allow": False, "access": "rwm"}]}
    assert linux["devices"] == []
    assert linux["sysctl"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 65535",
    }
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(linux["readonlyPaths"])


def test_the_usual_mounts() -> None:
    value = build()
    for destination, kind, options in (
        ("/proc", "proc", {"nosuid", "noexec", "nodev"}),
        ("/dev", "tmpfs", {"nosuid", "mode=755"}),
        ("/dev/pts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "gid=5"}),
        ("/dev/shm", "tmpfs", {"nosuid", "noexec", "nodev", "mode=1777"}),
        ("/dev/mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
        ("/sys", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
        ("/sys/fs/cgroup", "cgroup", {"nosuid", "noexec", "nodev", "ro"}),
    ):
        entry = mount(value, destination)
        assert entry["type"] == kind
        assert options <= set(entry["options"]), destination
    for destination, source in FILES.items():
        entry = mount(value, destination)
        assert (entry["type"], entry["source"]) == ("bind", source)


def test_a_mount_below_another_comes_after_it() -> None:
    value = build(volume=["/a:/data/x/y", "/b:/data", "/etc:/etc"], tmpfs=["/data/x", "/dev/shm/x"])
    order = [entry["destination"] for entry in value["mounts"]]
    for position, destination in enumerate(order):
        for later in order[position + 1 :]:
            assert not destination.startswith(f"{later}/"), f"{destination} would be hidden by {later}"


def test_a_user_other_than_root_has_capabilities_only_to_gain() -> None:
    process = build(user=ALICE)["process"]
    assert process["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [29]}
    assert process["capabilities"]["effective"] == process["capabilities"]["permitted"] == []
    assert set(process["capabilities"]["bounding"]) == set(CAPABILITIES)
    assert "HOME=/home/alice" in process["env"]


@pytest.mark.parametrize(
    ("image", "values", "cwd"),
    [
        ({}, {}, "/"),
        ({"WorkingDir": ""}, {}, "/"),
        ({"WorkingDir": "/srv"}, {}, "/srv"),
        ({"WorkingDir": "/srv"}, {"workdir": "/w"}, "/w"),
        ({"WorkingDir": "srv/www"}, {}, "/srv/www"),
        ({"WorkingDir": "//srv"}, {}, "/srv"),
    ],
)
def test_working_directory(image: dict[str, Any], values: dict[str, Any], cwd: str) -> None:
    assert build(image, **values)["process"]["cwd"] == cwd


def test_volumes_carry_the_hosts_ids() -> None:
    value = build(volume=["/srv:/data:ro"])
    entry = mount(value, "/data")
    assert (entry["type"], entry["source"]) == ("bind", "/srv")
    assert {"rbind", "ro", "rro"} <= set(entry["options"])
    assert entry["uidMappings"] == entry["gidMappings"] == [{"containerID": 0, "hostID": 1 << 30, "size": 65536}]
    assert "uidMappings" not in mount(build(volume=["/srv:/data"], userns="host"), "/data")


def test_userns_host() -> None:
    linux = build(userns="host")["linux"]
    assert "uidMappings" not in linux
    assert {"type": "user"} not in linux["namespaces"]
    assert linux["sysctl"]["net.ipv4.ping_group_range"] == "0 2147483647"
    assert linux["maskedPaths"]
    assert linux["resources"]["devices"][0]["allow"] is False


def test_privileged(monkeypatch: pytest.MonkeyPatch) -> None:
    value = build(privileged=True)
    linux = value["linux"]
    assert {"type": "user"} not in linux["namespaces"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert value["process"]["capabilities"]["bounding"] == capability.available(False)
    assert "ro" not in mount(value, "/sys")["options"]
    assert "ro" not in mount(value, "/sys/fs/cgroup")["options"]
    paths = {device["path"] for device in linux["devices"]}
    assert "/dev/null" in paths
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in paths)
    null = next(device for device in linux["devices"] if device["path"] == "/dev/null")
    status = os.stat("/dev/null")
    assert (null["type"], null["major"], null["minor"]) == ("c", 1, 3)
    assert null["fileMode"] == status.st_mode & 0o7777


@pytest.mark.parametrize("userns", ["host", ""])
def test_network_host(userns: str) -> None:
    value = build(network="host", userns=userns)
    assert {"type": "network"} not in value["linux"]["namespaces"]
    assert value["linux"]["sysctl"] == {}, "they would be the host's"
    sys_ = mount(value, "/sys")
    if userns == "host":
        assert sys_["type"] == "sysfs"
    else:
        # A sysfs of the host's network namespace cannot be mounted from another user namespace.
        assert (sys_["type"], sys_["source"]) == ("bind", "/sys")
        assert {"rbind", "rro", "ro"} <= set(sys_["options"])


def test_network_none_has_a_namespace_of_its_own() -> None:
    assert {"type": "network"} in build(network="none")["linux"]["namespaces"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"memory": "64m"}, {"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
        ({"memory": "64m", "memory_swap": "64m"}, {"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
        ({"memory": "64m", "memory_swap": "-1"}, {"memory": {"limit": 64 << 20, "swap": -1}}),
        ({"cpus": "0.5"}, {"cpu": {"quota": 50000, "period": 100000}}),
        ({"cpus": "0.01"}, {"cpu": {"quota": 1000, "period": 100000}}),
        ({"cpuset_cpus": "0-1"}, {"cpu": {"cpus": "0-1"}}),
        ({"cpus": "1", "cpuset_cpus": "0"}, {"cpu": {"quota": 100000, "period": 100000, "cpus": "0"}}),
        ({"memory_reservation": "32m"}, {"memory": {"reservation": 32 << 20}}),
        (
            {"memory": "64m", "memory_reservation": "32m"},
            {"memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20}},
        ),
        ({"memory_high": "32m"}, {"unified": {"memory.high": str(32 << 20)}}),
        ({"oom_group": True}, {"unified": {"memory.oom.group": "1"}}),
        ({"cpu_shares": "512"}, {"cpu": {"shares": 512}}),
        ({"cpu_shares": "0"}, {}),
        ({"cpu_quota": "50000"}, {"cpu": {"quota": 50000, "period": 100000}}),
        ({"cpu_quota": "5000", "cpu_period": "10000"}, {"cpu": {"quota": 5000, "period": 10000}}),
        ({"cpu_quota": "-1", "cpu_period": "10000"}, {}),
        ({"cpu_period": "10000"}, {}),
        ({"cpuset_mems": "0"}, {"cpu": {"mems": "0"}}),
        ({"blkio_weight": "300"}, {"blockIO": {"weight": 300}}),
        ({"blkio_weight": "0"}, {}),
        ({"pids_limit": "50"}, {"pids": {"limit": 50}}),
        ({"pids_limit": "-1"}, {}),
        ({"pids_limit": "0"}, {}),
    ],
)
def test_resources(values: dict[str, str], expected: dict[str, Any]) -> None:
    found = build(**values)["linux"]["resources"]
    del found["devices"]
    assert found == expected


@pytest.mark.parametrize(
    ("option", "rate", "field", "expected"),
    [
        ("device_read_bps", "1m", "throttleReadBpsDevice", 1 << 20),
        ("device_write_bps", "2k", "throttleWriteBpsDevice", 2048),
        ("device_read_iops", "300", "throttleReadIOPSDevice", 300),
        ("device_write_iops", "400", "throttleWriteIOPSDevice", 400),
    ],
)
def test_a_disk_is_named_by_its_numbers(
    option: str, rate: str, field: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycontainer.kernel.block_device.whole_disk", lambda path: (8, len(path)))
    found = build(**{option: [f"/dev/sda:{rate}", "/dev/b:9", "/dev/b:0"]})["linux"]["resources"]["blockIO"]
    assert found == {field: [{"major": 8, "minor": 8, "rate": expected}]}, "and 0 is no limit"


@pytest.mark.parametrize(
    ("values", "size"), [({}, "65536k"), ({"shm_size": "0"}, "65536k"), ({"shm_size": "1g"}, "1048576k"),
                         ({"shm_size": "5000"}, "5000")],
)  # fmt: skip
def test_the_size_of_shared_memory(values: dict[str, str], size: str) -> None:
    assert f"size={size}" in mount(build(**values), "/dev/shm")["options"]


def test_the_oom_score() -> None:
    assert build()["process"]["oomScoreAdj"] == 0
    assert build(oom_score_adj="-300")["process"]["oomScoreAdj"] == -300


def test_flags_that_are_copied() -> None:
    value = build(
        None,
        "ls",
        "-l",
        tty=True,
        read_only=True,
        ulimit=["nofile=5:6", "core=-1"],
        security_opt=["no-new-privileges"],
        stop_signal="SIGQUIT",
        tmpfs=["/run:size=1m"],
        cap_drop=["ALL"],
        cap_add=["CHOWN"],
    )
    process = value["process"]
    assert process["terminal"] is True
    assert process["args"] == ["ls", "-l"]
    assert value["root"]["readonly"] is True
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6},
        {"type": "RLIMIT_CORE", "soft": -1, "hard": -1},
    ]
    assert process["noNewPrivileges"] is True
    assert value["annotations"] == {"org.opencontainers.image.stopSignal": "SIGQUIT"}
    assert mount(value, "/run")["options"] == ["nosuid", "nodev", "noexec", "size=1m"]
    assert process["capabilities"]["bounding"] == ["CAP_CHOWN"]


def test_the_same_ulimit_twice_is_one_entry() -> None:
    value = build(ulimit=["nofile=5", "nofile=7"])
    assert value["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 7, "hard": 7}]


def test_init(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    program = tmp_path / "tini"
    program.touch()
    monkeypatch.setattr(bundle, "_INIT", str(program))
    value = build({"Entrypoint": ["/entry"]}, "x", init=True)
    assert value["process"]["args"] == ["/sbin/docker-init", "--", "/entry", "x"]
    entry = mount(value, "/sbin/docker-init")
    assert entry["source"] == str(program)
    assert "ro" in entry["options"]


def test_init_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_INIT", "/nonexistent/tini")
    with pytest.raises(HostError) as caught:
        build(init=True)
    assert caught.value.hint


def test_bytes_that_are_no_text_survive() -> None:
    value = build({}, "echo", "\udcff", env=["A=\udcfe"])
    again = json_text.loads(json_text.dumps(value))
    assert os.fsencode(again["process"]["args"][1]) == b"\xff"
    assert "A=\udcfe" in again["process"]["env"]


def test_maps_of_another_base() -> None:
    assert build(base=65536 * 20000)["linux"]["uidMappings"][0]["hostID"] == 65536 * 20000
    assert str(IdMap(0, 5, 6)) == "0 5 6"
