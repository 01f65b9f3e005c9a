"""`features` says what the runtime does: what it lists is taken by the code that reads it, the rest is refused."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from typing import Any

import pytest

from pycontainer.errors import HostError, PycontainerError, UsageError
from pycontainer.kernel import capability, namespace
from pycontainer.runtime import features, mounts, resources, spec, state

MINIMAL: dict[str, Any] = {
    "ociVersion": "1.1.0",
    "process": {"args": ["sh"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}]},
}
FOUND: dict[str, Any] = json.loads(features.show())
LINUX = FOUND["linux"]


def parse(part: str, value: dict[str, Any]) -> spec.Spec:
    """MINIMAL with more in one of its objects."""
    config = copy.deepcopy(MINIMAL)
    config[part] = {**config.get(part, {}), **value}
    return spec.Spec(config, "/bundle")


@pytest.mark.parametrize("version", [FOUND["ociVersionMin"], FOUND["ociVersionMax"]])
def test_both_versions_are_accepted(version: str) -> None:
    assert spec.Spec({**MINIMAL, "ociVersion": version}, "/bundle").version == version


def test_versions_are_in_order_and_the_last_one_is_that_of_the_state() -> None:
    assert FOUND["ociVersionMin"] < FOUND["ociVersionMax"]
    assert state.State("/c", 0, 0, "/b", {}).to_json()["ociVersion"] == FOUND["ociVersionMax"]


@pytest.mark.parametrize(
    "name", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
def test_a_hook_is_run_or_refused(name: str) -> None:
    hooks = {name: [{"path": "/bin/true"}]}
    if name in FOUND["hooks"]:
        parse("hooks", hooks)
    else:
        with pytest.raises(HostError, match="hooks"):
            parse("hooks", hooks)


@pytest.mark.parametrize("option", FOUND["mountOptions"])
def test_a_mount_option_is_no_file_systems_own(option: str) -> None:
    assert mounts.Options([option]).data == ""


@pytest.mark.parametrize("option", ["idmap", "ridmap", "tmpcopyup", "size=1m", "uid=0", "rbogus", "ratime", "rsync"])
def test_what_is_no_mount_option_is_not_listed(option: str) -> None:
    assert option not in FOUND["mountOptions"]
    try:
        assert mounts.Options([option]).data == option
    except UsageError:
        pass


def test_mount_options_are_sorted_and_stand_once() -> None:
    assert FOUND["mountOptions"] == sorted(set(FOUND["mountOptions"]))
    assert {"bind", "rbind", "ro", "rro", "rshared", "nosymfollow"} <= set(FOUND["mountOptions"])


def test_namespaces_and_capabilities_are_those_that_are_read() -> None:
    assert LINUX["namespaces"] == sorted(namespace.TYPES)
    assert LINUX["capabilities"] == list(capability.NUMBERS)


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts", "bogus"])
def test_a_namespace_is_known_where_it_is_listed(kind: str) -> None:
    extents = [{"containerID": 0, "hostID": 1, "size": 1}] if kind == "user" else []
    namespaces = [{"type": each} for each in {"mount": 1, kind: 1}]
    value = {"namespaces": namespaces, "uidMappings": extents, "gidMappings": extents}
    if kind in LINUX["namespaces"]:
        assert namespace.TYPES[kind] in parse("linux", value).namespaces
    else:
        with pytest.raises(UsageError):
            parse("linux", value)


@pytest.mark.parametrize(
    ("enabled", "part", "value"),
    [
        (LINUX["seccomp"]["enabled"], "linux", {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}),
        (LINUX["selinux"]["enabled"], "process", {"selinuxLabel": "system_u:system_r:container_t:s0"}),
        (LINUX["apparmor"]["enabled"], "process", {"apparmorProfile": "unconfined"}),
        (LINUX["intelRdt"]["enabled"], "linux", {"intelRdt": {"closID": "guaranteed"}}),
    ],
)
def test_what_is_not_enabled_is_refused(enabled: bool, part: str, value: dict[str, Any]) -> None:
    if enabled:
        parse(part, value)
    else:
        with pytest.raises(HostError, match=next(iter(value))):
            parse(part, value)


def test_rdma_is_written_or_refused() -> None:
    if LINUX["cgroup"]["rdma"]:
        assert resources.limits({"rdma": {"mlx5_1": {"hcaHandles": 3}}})
    else:
        with pytest.raises(PycontainerError, match="rdma"):
            resources.limits({"rdma": {"mlx5_1": {"hcaHandles": 3}}})


def test_ids_of_a_mount_are_read() -> None:
    assert LINUX["mountExtensions"] == {"idmap": {"enabled": True}}
    extents = [{"containerID": 0, "hostID": 1 << 30, "size": 1}]
    entry = {"destination": "/a", "type": "bind", "source": "/", "uidMappings": extents, "gidMappings": extents}
    (mount,) = spec.Spec({**MINIMAL, "mounts": [entry]}, "/bundle").mounts
    assert str(mount.uid_mappings[0]) == f"0 {1 << 30} 1"


def shape(value: object) -> object:
    """Names and types: an object's by name, an array as what it holds."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return type(value[0]).__name__ if isinstance(value, list) and value else type(value).__name__


def test_it_has_the_shape_of_runcs() -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed")
    result = subprocess.run(["runc", "features"], capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip("this runc has no features")
    theirs = json.loads(result.stdout)

    def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        for name in ours.keys() & theirs.keys():
            if isinstance(ours[name], dict):
                compare(ours[name], theirs[name])
            elif ours[name]:
                assert shape(ours[name]) == shape(theirs[name]), name
            else:
                assert type(ours[name]) is type(theirs[name]), name

    compare(FOUND, theirs)
    assert theirs.keys() - {"annotations"} <= FOUND.keys() | {"potentiallyUnsafeConfigAnnotations"}
    assert theirs["linux"].keys() - {"netDevices", "memoryPolicy"} <= LINUX.keys()
