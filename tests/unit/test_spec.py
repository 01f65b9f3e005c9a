"""config.json as the runtime reads it: what is taken, what is refused, and that errors name the field."""

from __future__ import annotations

import copy
import json
import pathlib
import resource
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import HostError, PycontainerError, UsageError
from pycontainer.kernel.mount import MS_NOSUID
from pycontainer.kernel.namespace import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from pycontainer.runtime import spec

MINIMAL: dict[str, Any] = {
    "ociVersion": "1.1.0",
    "process": {"args": ["sh"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/run/netns/x"}]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """MINIMAL with one field set: "process.user.uid"."""
    config = copy.deepcopy(MINIMAL)
    *parents, last = path.split(".")
    place = config
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return config


def parse(config: object) -> spec.Spec:
    return spec.Spec(config, "/bundle")


def test_minimal() -> None:
    found = parse(MINIMAL)
    assert found.root == "/bundle/rootfs"
    assert found.namespaces == {CLONE_NEWNS: "", CLONE_NEWUTS: "", CLONE_NEWNET: "/run/netns/x"}
    process = found.process
    assert (process.args, process.cwd, process.uid, process.gid, process.additional_gids) == (["sh"], "/", 0, 0, [])
    assert (process.terminal, process.no_new_privileges, process.umask, process.oom_score_adj) == (
        False, False, None, None,
    )  # fmt: skip
    assert process.capabilities == {
        "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [],
    }  # fmt: skip
    assert (found.root_readonly, found.hostname, found.mounts, found.devices) == (False, "", [], [])


def test_everything() -> None:
    config = copy.deepcopy(MINIMAL)
    config["process"] = {
        "terminal": True,
        "consoleSize": {"height": 50, "width": 120},
        "user": {"uid": 1000, "gid": 1001, "umask": 0o77, "additionalGids": [5, 6]},
        "args": ["/bin/ls", "-l"],
        "env": ["A=1"],
        "cwd": "/srv",
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
        "capabilities": {"bounding": ["CAP_CHOWN"], "effective": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 10}],
    }
    config["root"] = {"path": "/abs/root", "readonly": True}
    config["hostname"], config["domainname"] = "box", "example"
    config["mounts"] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "rel", "type": "none", "source": "data", "options": ["rbind"]},
        {
            "destination": "/v",
            "type": "bind",
            "source": "/v",
            "uidMappings": [{"containerID": 0, "hostID": 7, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 7, "size": 1}],
        },
    ]
    config["annotations"] = {"a": "b"}
    config["linux"] = {
        "namespaces": [{"type": kind} for kind in ("mount", "user", "uts", "ipc", "network")],
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 65536}],
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1}],
        "cgroupsPath": "/x/y",
        "resources": {"pids": {"limit": 5}},
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "rootfsPropagation": "slave",
    }
    found = parse(config)
    process = found.process
    assert process.terminal and process.no_new_privileges
    assert process.console_size == (50, 120)
    assert (process.uid, process.gid, process.umask, process.additional_gids) == (1000, 1001, 0o77, [5, 6])
    assert (process.oom_score_adj, process.env, process.cwd) == (-5, ["A=1"], "/srv")
    assert process.capabilities == {
        "bounding": ["CAP_CHOWN"], "effective": [], "permitted": [], "inheritable": [], "ambient": [],
    }  # fmt: skip
    assert process.rlimits == [(resource.RLIMIT_NOFILE, 5, 10)]
    assert (found.root, found.root_readonly) == ("/abs/root", True)
    assert (found.hostname, found.domainname) == ("box", "example")
    proc, relative, volume = found.mounts
    assert (proc.destination, proc.type, proc.source, proc.options.flags, proc.is_bind) == (
        "/proc", "proc", "proc", MS_NOSUID, False,
    )  # fmt: skip
    assert (relative.destination, relative.source, relative.is_bind) == ("/rel", "/bundle/data", True)
    assert [str(extent) for extent in volume.uid_mappings] == ["0 7 1"]
    assert found.namespaces == dict.fromkeys((CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET), "")
    assert [str(extent) for extent in found.gid_mappings] == ["0 200000 65536"]
    device = found.devices[0]
    assert (device.path, device.type, device.major, device.minor, device.mode, device.uid, device.gid) == (
        "/dev/fuse", "c", 10, 229, 0o600, 1, 0,
    )  # fmt: skip
    assert (found.cgroups_path, found.resources, found.sysctl) == (
        "/x/y", {"pids": {"limit": 5}}, {"/proc/sys/net/ipv4/ip_forward": "1"},
    )  # fmt: skip
    assert (found.masked_paths, found.readonly_paths, found.rootfs_propagation) == (
        ["/proc/kcore"], ["/proc/sys"], "slave",
    )  # fmt: skip
    assert found.annotations == {"a": "b"}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ([], ""),
        ("x", ""),
        (changed("ociVersion", 1), "ociVersion"),
        (changed("ociVersion", "0.9"), "ociVersion"),
        (changed("ociVersion", "2.0.0"), "ociVersion"),
        (changed("process", []), "process"),
        (changed("process.args", "sh"), "process.args"),
        (changed("process.args", [1]), "process.args"),
        (changed("process.args", []), "process.args"),
        (changed("process.args", [""]), "process.args"),
        (changed("process.args", ["a\0b"]), "process.args"),
        (changed("process.env", {"A": "1"}), "process.env"),
        (changed("process.env", ["A=\0"]), "process.env"),
        (changed("process.cwd", "srv"), "process.cwd"),
        (changed("process.cwd", 1), "process.cwd"),
        (changed("process.terminal", "yes"), "process.terminal"),
        (changed("process.terminal", 1), "process.terminal"),
        (changed("process.user", "root"), "process.user"),
        (changed("process.user.uid", "0"), "process.user.uid"),
        (changed("process.user.uid", True), "process.user.uid"),
        (changed("process.user.uid", 0.5), "process.user.uid"),
        (changed("process.user.uid", -1), "process.user.uid"),
        (changed("process.user.uid", 4294967295), "process.user.uid"),
        (changed("process.user.gid", -1), "process.user.gid"),
        (changed("process.user.additionalGids", 5), "process.user.additionalGids"),
        (changed("process.user.additionalGids", ["5"]), "process.user.additionalGids"),
        (changed("process.user.additionalGids", [True]), "process.user.additionalGids"),
        (changed("process.user.additionalGids", [-1]), "process.user.additionalGids"),
        (changed("process.consoleSize", 5), "process.consoleSize"),
        (changed("process.consoleSize", {"height": "5"}), "process.consoleSize.height"),
        (changed("process.oomScoreAdj", "5"), "process.oomScoreAdj"),
        (changed("process.capabilities", ["CAP_CHOWN"]), "process.capabilities"),
        (changed("process.rlimits", [{"type": "RLIMIT_BOGUS"}]), "process.rlimits[0].type"),
        (changed("process.rlimits", [{"type": "RLIM_INFINITY"}]), "process.rlimits[0].type"),
        (changed("process.rlimits", [{"type": "RLIMIT_CORE", "soft": "1"}]), "process.rlimits[0].soft"),
        (changed("process.rlimits", {}), ""),
        (changed("process.apparmorProfile", "x"), "process.apparmorProfile"),
        (changed("process.selinuxLabel", "x"), "process.selinuxLabel"),
        (changed("root", "rootfs"), "root"),
        (changed("root.path", 5), "root.path"),
        (changed("root.readonly", "true"), "root.readonly"),
        (changed("hostname", 5), "hostname"),
        (changed("mounts", {"destination": "/x"}), "mounts"),
        (changed("mounts", ["/proc"]), "mounts[0]"),
        (changed("mounts", [{"destination": "/a", "type": "tmpfs"}, {"destination": 5}]), "mounts[1].destination"),
        (changed("mounts", [{"destination": "/a", "options": "ro"}]), "mounts[0].options"),
        (changed("annotations", {"a": 1}), "annotations.a"),
        (changed("hooks", {"prestart": [{"path": "/x"}]}), "hooks"),
        (changed("linux", 5), "linux"),
        (changed("linux.namespaces", []), "linux.namespaces"),
        (changed("linux.namespaces", ["mount"]), "linux.namespaces[0]"),
        (changed("linux.namespaces", [{"type": "mount"}, {"type": "bogus"}]), "linux.namespaces[1].type"),
        (changed("linux.namespaces", [{"type": "mount"}, {"type": "mount"}]), "linux.namespaces[1].type"),
        (changed("linux.namespaces", [{"type": "mount", "path": "/x"}]), "linux.namespaces"),
        (changed("linux.namespaces", [{"type": "mount"}, {"type": "user", "path": "/x"}]), "linux.namespaces"),
        (changed("linux.namespaces", [{"type": "mount"}, {"type": "user"}]), "linux.uidMappings"),
        (changed("linux.uidMappings", [{"containerID": 0, "hostID": 1, "size": 1}]), None),
        (changed("linux.uidMappings", [{"containerID": "0"}]), "linux.uidMappings[0].containerID"),
        (changed("linux.devices", [{"path": "/dev/x", "type": "x"}]), "linux.devices[0].type"),
        (changed("linux.devices", [{"path": "/etc/x", "type": "p"}]), "linux.devices[0].path"),
        (changed("linux.devices", [{"path": "/dev/../etc/x", "type": "p"}]), "linux.devices[0].path"),
        (changed("linux.devices", [{"path": "/dev/x", "type": "c", "major": "1"}]), "linux.devices[0].major"),
        (changed("linux.cgroupsPath", 5), "linux.cgroupsPath"),
        (changed("linux.resources", 5), "linux.resources"),
        (changed("linux.resources.devices", {}), None),
        (changed("linux.resources.devices", 5), "linux.resources.devices"),
        (changed("linux.resources.devices", ["a"]), "linux.resources.devices[0]"),
        (changed("linux.sysctl", {"a": 1}), "linux.sysctl.a"),
        (changed("linux.maskedPaths", "/proc"), "linux.maskedPaths"),
        (changed("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW"}), "linux.seccomp"),
        (changed("linux.mountLabel", "x"), "linux.mountLabel"),
        (changed("linux.intelRdt", {"closID": "x"}), "linux.intelRdt"),
    ],
)
def test_what_is_wrong_is_refused_by_name(config: object, field: str | None) -> None:
    if field is None or (field == "" and isinstance(config, dict)):
        # Empty where something else could stand, or half of what belongs together: fine, or an error, never a crash.
        try:
            parse(config)
        except PycontainerError:
            pass
        return
    with pytest.raises((UsageError, HostError)) as caught:
        parse(config)
    assert caught.value.step == "read config.json"
    assert caught.value.path == field


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (0, 0),
        ((1 << 63) - 1, (1 << 63) - 1),
        ((1 << 64) - 1, -1),
        (-1, -1),
        (1 << 63, None),
        (1 << 64, None),
        (-2, None),
    ],
)
def test_a_limits_infinity_is_all_ones(said: int, limit: int | None) -> None:
    config = changed("process.rlimits", [{"type": "RLIMIT_CORE", "soft": said, "hard": said}])
    if limit is not None:
        assert parse(config).process.rlimits == [(resource.RLIMIT_CORE, limit, limit)]
        return
    with pytest.raises(UsageError) as caught:
        parse(config)
    assert caught.value.path == "process.rlimits[0].soft"


def test_hostname_without_its_namespace() -> None:
    config = changed("linux.namespaces", [{"type": "mount"}])
    for name in ("hostname", "domainname"):
        with pytest.raises(UsageError) as caught:
            parse({**config, name: "box"})
        assert caught.value.path == name


def test_null_is_what_is_not_there() -> None:
    """Other engines are written in Go, where null, absent and empty are one."""
    config = copy.deepcopy(MINIMAL)
    config["process"].update(env=None, rlimits=None, user=None, terminal=None, capabilities=None, consoleSize=None)
    config["process"]["oomScoreAdj"] = None
    config.update(mounts=None, annotations=None, hooks=None, hostname=None, root={"path": None, "readonly": None})
    config["linux"].update(resources=None, devices=None, sysctl=None, seccomp=None, maskedPaths=None, cgroupsPath=None)
    found = parse(config)
    assert found.root == "/bundle/rootfs"
    assert (found.mounts, found.devices, found.resources, found.sysctl) == ([], [], {}, {})
    assert (found.process.uid, found.process.oom_score_adj, found.hostname) == (0, None, "")
    assert list(found.process.capabilities.values()) == [[]] * 5


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 33) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = [
    "ociVersion", "process", "process.args", "process.env", "process.cwd", "process.user", "process.user.uid",
    "process.user.additionalGids", "process.capabilities", "process.capabilities.bounding", "process.rlimits",
    "process.consoleSize", "root", "root.path", "mounts", "annotations", "hooks", "linux", "linux.namespaces",
    "linux.uidMappings", "linux.devices", "linux.resources", "linux.resources.devices", "linux.sysctl",
    "linux.maskedPaths", "linux.seccomp",
]  # fmt: skip


@given(st.sampled_from(_FIELDS), _JSON)
def test_whatever_a_field_holds_it_is_taken_or_refused_with_an_error(path: str, value: Any) -> None:
    try:
        parse(changed(path, value))
    except PycontainerError as error:
        assert error.step == "read config.json"


class TestLoad:
    def test_reads_the_file(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(MINIMAL))
        found = spec.load(str(tmp_path))
        assert found.bundle == str(tmp_path)
        assert found.root == f"{tmp_path}/rootfs"

    @pytest.mark.parametrize(
        ("data", "cause"),
        [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"{} x", "not JSON"),
            (b'{"a": NaN}', "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"9" * 5_000, "not JSON"),
        ],
    )
    def test_what_is_no_json_is_refused_with_the_files_name(
        self, tmp_path: pathlib.Path, data: bytes, cause: str
    ) -> None:
        (tmp_path / "config.json").write_bytes(data)
        with pytest.raises(UsageError) as caught:
            spec.load(str(tmp_path))
        assert caught.value.path == f"{tmp_path}/config.json"
        assert cause in caught.value.cause

    def test_a_missing_file_says_what_a_bundle_is(self, tmp_path: pathlib.Path) -> None:
        for bundle in (tmp_path, tmp_path / "missing"):
            with pytest.raises(UsageError) as caught:
                spec.load(str(bundle))
            assert caught.value.cause == "no such file or directory"
            assert "bundle" in caught.value.hint
        (tmp_path / "config.json").mkdir()
        with pytest.raises(UsageError, match="is a directory"):
            spec.load(str(tmp_path))
