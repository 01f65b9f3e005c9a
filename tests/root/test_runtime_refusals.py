"""What a config.json asks for and cannot have: one line that names the field, status 1, and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from conftest import SESSION, mounts
from test_runtime import RUNTIME, Runtime, rootfs, runtime  # noqa: F401

from pycontainer.kernel import cgroup

# The field, and what is there as JSON.
WRONG: dict[str, tuple[str, str]] = {
    "half a surrogate pair in an argument": ("process.args", '["echo", "\\ud800"]'),
    "the other half": ("process.env", '["A=\\udfff"]'),
    "a NUL": ("process.cwd", '"/a\\u0000b"'),
    "a NUL in a variable": ("process.env", '["A=\\u0000"]'),
    "a variable without a name": ("process.env", '["=x"]'),
    "a variable without a value": ("process.env", '["A"]'),
    "a huge umask": ("process.user.umask", "1" + 30 * "0"),
    "a negative umask": ("process.user.umask", "-1"),
    "a negative id": ("process.user.uid", "-1"),
    "a huge id": ("process.user.gid", "4294967295"),
    "an id as a fraction": ("process.user.uid", "1.0"),
    "an id as a text": ("process.user.gid", '"0"'),
    "a name": ("process.user.username", '"nobody"'),
    "an argument that is too long": ("process.args", json.dumps(["x" * 200_000])),
    "a path that is too long": ("process.cwd", json.dumps("/" + "x" * 5000)),
    "a null argument": ("process.args", "[null]"),
    "a number for an array": ("process.args", "0"),
    "an object for an array": ("mounts", "{}"),
    "an array for an object": ("process.user", "[]"),
    "what is too deep": ("process.args", "[" * 500 + "]" * 500),
    "a limit below the other": ("process.rlimits[0].soft", '[{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]'),
    "a huge limit": ("process.rlimits[0].hard", f'[{{"type": "RLIMIT_CORE", "soft": 0, "hard": {1 << 64}}}]'),
    "a huge terminal": ("process.consoleSize.height", "70000"),
    "a scheduler": ("process.scheduler.policy", '"SCHED_BOGUS"'),
    "an I/O class": ("process.ioPriority.class", '"best"'),
    "processors": ("process.execCPUAffinity.initial", '"a-b"'),
    "a label": ("process.selinuxLabel", '"x"'),
    "a profile": ("process.apparmorProfile", '"x"'),
    "a host name that is too long": ("hostname", json.dumps("x" * 65)),
    "a mount option": (
        "mounts[0].options",
        '[{"destination": "/x", "type": "bind", "source": "/", "options": ["x=1"]}]',
    ),
    "a mount without a path": ("mounts[0].destination", '[{"type": "tmpfs"}]'),
    "propagation": ("linux.rootfsPropagation", '"sideways"'),
    "a memory policy": ("linux.memoryPolicy", '{"mode": "MPOL_BIND", "nodes": "0"}'),
    "a device of a network": ("linux.netDevices", '{"eth0": {}}'),
    "cache allocation": ("linux.intelRdt", '{"closID": "x"}'),
    "a personality": ("linux.personality", '{"domain": "LINUX32"}'),
    "a clock": ("linux.timeOffsets", '{"boottime": {"secs": 1}}'),
    "swappiness": ("linux.resources.memory.swappiness", "0"),
    "kernel memory": ("linux.resources.memory.kernel", "4096"),
    "a negative limit": ("linux.resources.memory.limit", "-2"),
    "a limit as a text": ("linux.resources.pids.limit", '"5"'),
    "a device rule": ("linux.resources.devices[0].major", '[{"allow": true, "major": "1"}]'),
    "a cgroup whose name is too long": ("linux.cgroupsPath", json.dumps("/pyc-refused/" + "x" * 256)),
    "another system": ("windows", '{"layerFolders": ["x"]}'),
}


def mounted() -> list[str]:
    """In this session's directories, because other sessions mount something meanwhile."""
    return sorted(place for place in mounts() if SESSION in place)


def text(config: Any, field: str, value: str) -> str:
    """The config.json with this JSON at the field, or at the array that the field is in."""
    node = config
    *parents, last = field.partition("[")[0].split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = "HERE"
    return json.dumps(config).replace('"HERE"', value)


@pytest.mark.parametrize("kind", WRONG)
def test_it_is_refused(runtime: Runtime, kind: str) -> None:  # noqa: F811
    field, value = WRONG[kind]
    runtime.config["linux"]["namespaces"].append({"type": "time"})
    (runtime.bundle / "config.json").write_text(text(runtime.config, field, value))
    log = runtime.bundle / "log"
    before = mounted()
    message = runtime("--log", str(log), "--log-format=json", "create", "-b", str(runtime.bundle), "c", status=1)
    first, *rest = message.splitlines()
    assert first.startswith(f"pycontainer-runtime: read config.json: {field}: ")
    assert not rest or rest[0].startswith("hint: ")
    assert len(message) < 500
    assert first.endswith(json.loads(log.read_text())["msg"])
    assert not runtime.root.exists() or os.listdir(runtime.root) == []
    assert mounted() == before
    hierarchy = cgroup.find_hierarchy()
    assert hierarchy is None or not os.path.exists(hierarchy.mountpoint + runtime.config["linux"]["cgroupsPath"])
    assert hierarchy is None or not os.path.exists(f"{hierarchy.mountpoint}/pyc-refused")


@pytest.mark.parametrize("value", ["null", "[]", '"x"', "5", '{"args": [1], "cwd": "/"}', '{"args": ["x"], "user": 5}'])
def test_a_process_of_exec_is_refused(runtime: Runtime, value: str) -> None:  # noqa: F811
    runtime.write("sleep", "600")
    runtime.create()
    runtime("start", "c")
    file = runtime.bundle / "process.json"
    file.write_text(value)
    message = runtime("exec", "--process", str(file), "c", status=255)
    assert message.startswith("pycontainer-runtime: read config.json: process")
    (runtime.bundle / "config.json").write_text(value)
    message = runtime("exec", "c", "true", status=0 if value.startswith("{") or value == "null" else 255)
    assert not message or "must be an object" in message
    runtime("delete", "--force", "c")


def test_bytes_that_are_no_text_are_an_argument(runtime: Runtime) -> None:  # noqa: F811
    runtime.write("echo", "\udcff\udc80")
    command = [*RUNTIME, "--root", runtime.root, "run", "-b", runtime.bundle, "c"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"\xff\x80\n"


NONE: dict[str, Any] = {
    "pids": {"limit": -1},
    "memory": {"limit": -1, "swap": -1, "reservation": -1, "kernel": -1, "kernelTCP": -1},
    "cpu": {"quota": -1, "period": 100000, "shares": 0, "cpus": "", "mems": "", "realtimeRuntime": 0},
    "hugepageLimits": [],
    "blockIO": {"weight": 0},
    "network": {},
    "rdma": {},
    "unified": {},
}


@pytest.mark.parametrize("pids", [-1, 0])
def test_limits_that_are_none_need_no_controller(runtime: Runtime, pids: int) -> None:  # noqa: F811
    runtime.config["linux"]["resources"] = {**NONE, "pids": {"limit": pids}}
    runtime.write("echo", "ran")
    assert runtime.run() == "ran\n"


def test_a_program_may_be_granted_no_more_than_three_descriptors(runtime: Runtime) -> None:  # noqa: F811
    runtime.write("true", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}])
    assert runtime.run() == ""


def test_the_engines_own_interpreter_is_found_without_a_descriptor(runtime: Runtime) -> None:  # noqa: F811
    """Whatever the program may open, what it is has been looked at before."""
    script = runtime.bundle / "script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    bind = {"destination": "/tmp", "type": "bind", "source": str(runtime.bundle), "options": ["bind"]}
    runtime.config["mounts"].append(bind)
    runtime.write("/tmp/script", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 0, "hard": 0}])
    assert "it is the container engine's own interpreter" in runtime.run(status=126)


class TestWarnings:
    NAMES = {"bounding": ["CAP_X", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}

    def run(self, runtime: Runtime, *words: str) -> subprocess.CompletedProcess[str]:  # noqa: F811
        log = runtime.bundle / "log"
        command = [*RUNTIME, "--root", runtime.root, "--debug", "--log", log, "--log-format", "json", *words]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def test_an_unknown_capability(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("cat", "/proc/self/status", capabilities=self.NAMES)
        result = self.run(runtime, "run", "-b", str(runtime.bundle), "c")
        warning = "process.capabilities.bounding: 'CAP_X' is unknown, and left out"
        assert (result.returncode, result.stderr) == (0, f"pycontainer-runtime: warning: {warning}\n")
        assert "CapBnd:\t0000000000000020" in result.stdout
        entry = json.loads((runtime.bundle / "log").read_text())
        assert (entry["level"], entry["msg"]) == ("warning", warning)
        assert sorted(entry) == ["level", "msg", "time"]

    def test_one_of_exec(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("sleep", "600")
        runtime.create()
        runtime("start", "c")
        file = runtime.bundle / "process.json"
        file.write_text(json.dumps({"args": ["true"], "cwd": "/", "capabilities": {"ambient": ["CAP_X"]}}))
        result = self.run(runtime, "exec", "-p", str(file), "c")
        warning = "process.capabilities.ambient: 'CAP_X' is unknown, and left out"
        assert (result.returncode, result.stderr) == (0, f"pycontainer-runtime: warning: {warning}\n")
        assert json.loads((runtime.bundle / "log").read_text())["level"] == "warning"
        result = self.run(runtime, "exec", "--cap", "CAP_X", "c", "true")
        assert (result.returncode, result.stderr.splitlines()[0]) == (
            255,
            "pycontainer-runtime: --cap: 'CAP_X': unknown capability",
        )
        runtime("delete", "--force", "c")
