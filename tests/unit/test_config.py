"""The command line's words as values: sizes, limits, capabilities, names, environment."""

from __future__ import annotations

import os
import pathlib
import resource
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.cli import request
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.config.quantity import parse_size
from pycontainer.errors import UsageError
from pycontainer.kernel import capability, signals
from pycontainer.runtime.defaults import CAPABILITIES


def make(**values: Any) -> ContainerConfig:
    return ContainerConfig.from_request(request.container("busybox", [], values))


def refused(**values: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        make(**values)
    error = caught.value
    assert error.step.lstrip("read ").startswith("--"), "the error names the flag"
    assert "\n" not in error.message
    return error


SIZES = {
    "0": 0,
    "1": 1,
    "512": 512,
    "64k": 64 << 10,
    "64K": 64 << 10,
    "64m": 64 << 20,
    "64M": 64 << 20,
    "64mb": 64 << 20,
    "64MiB": 64 << 20,
    "1g": 1 << 30,
    "1.5g": 3 << 29,
    "0.5k": 512,
    "1.g": 1 << 30,
    "2t": 2 << 40,
    "1p": 1 << 50,
    "100b": 100,
    " 64m ": 64 << 20,
    "-1": -1,
    "9007199254740993": 9007199254740993,  # more digits than a float holds
}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes(text: str, size: int) -> None:
    assert parse_size("--memory", text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "m", "b", "12x", "x12", "1e3", "-5", "-1m", "--1", "+5", "0x10", "1_000", "1,5g", "1.2.3", ".5g", ".",
     "64 m", "6mm", "nan", "inf", "\u0663", "\u00b2", "9" * 400 + ".0g", "9" * 5000],
)  # fmt: skip
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size("--memory", text)
    assert caught.value.step == "--memory"
    assert caught.value.cause == "not a size"


@given(st.integers(0, 1 << 40), st.sampled_from(["", "k", "m", "g"]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_size("-m", f"{number}{unit}") == number << {"": 0, "k": 10, "m": 20, "g": 30}[unit]


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        assert parse_size("-m", text) >= -1
    except UsageError:
        pass


@pytest.mark.parametrize(
    ("values", "memory", "swap"),
    [
        ({}, None, None),
        ({"memory": "64m"}, 64 << 20, None),
        ({"memory": "64m", "memory_swap": "64m"}, 64 << 20, 64 << 20),
        ({"memory": "64m", "memory_swap": "-1"}, 64 << 20, -1),
        ({"memory_swap": "-1"}, None, -1),
        ({"memory": "6m"}, 6 << 20, None),
        ({"memory": "0"}, None, None),
        ({"memory": "64m", "memory_swap": "0"}, 64 << 20, None),
    ],
)
def test_memory(values: dict[str, str], memory: int | None, swap: int | None) -> None:
    found = make(**values)
    assert (found.resources.memory.limit, found.resources.memory.swap) == (memory, swap)


@pytest.mark.parametrize(
    "values",
    [
        {"memory": "5m"},
        {"memory": "-1"},
        {"memory_swap": "64m"},
        {"memory": "64m", "memory_swap": "32m"},
    ],
)
def test_memory_that_makes_no_sense(values: dict[str, str]) -> None:
    refused(**values)


@pytest.mark.parametrize(("text", "cpus"), [("0.01", 0.01), ("0.5", 0.5), ("1", 1.0), ("1.0", 1.0), (".5", 0.5)])
def test_cpus(text: str, cpus: float) -> None:
    assert make(cpus=text).resources.processor.cpus == cpus


@pytest.mark.parametrize("text", ["", "0.009", "-1", "x", "nan", "inf", "1,5", "100000"])
def test_what_is_no_number_of_cpus(text: str) -> None:
    refused(cpus=text)


def test_cpus_end_where_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert make(cpus="4").resources.processor.cpus == 4
    assert "0.01 to 4" in refused(cpus="4.01").hint
    assert make(cpus="0").resources.processor.cpus is None


def test_a_container_outlives_the_processors_that_it_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr("pycontainer.engine.config.processor._online", lambda: set(range(8)))
    text = make(cpus="8", cpuset_cpus="7").to_json()
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr("pycontainer.engine.config.processor._online", lambda: set(range(4)))
    refused(cpus="8")
    refused(cpuset_cpus="7")
    assert ContainerConfig.from_json(text).resources.processor.cpus == 8


@pytest.mark.parametrize("text", ["0", "1-2", "0,1-2,5", "5,5", ""])
def test_cpuset(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycontainer.engine.config.processor._online", lambda: {0, 1, 2, 5})
    assert make(cpuset_cpus=text).resources.processor.cpuset_cpus == text


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("9", "no processor 9"),
        ("0-9", "no processor 3-4,6-9"),
        ("x", "not a list"),
        ("2-1", "not a list"),
        ("1-", "not a list"),
        ("1,,2", "not a list"),
        ("-1", "not a list"),
        ("999999", "not a list"),
    ],
)
def test_what_is_no_cpuset(text: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycontainer.engine.config.processor._online", lambda: {0, 1, 2, 5})
    error = refused(cpuset_cpus=text)
    assert cause in error.cause
    assert error.hint in ("there are 0-2,5", "numbers and ranges, such as 0-2,4")


@pytest.mark.parametrize("text", ["nofile=0", "nofile=2:1024", "nofile=1"])
def test_too_few_files(text: str) -> None:
    assert "three files" in refused(ulimit=[text]).cause
    assert make(ulimit=["nofile=3"]).resources.ulimits == [("RLIMIT_NOFILE", 3, 3)]


@pytest.mark.parametrize("option", ["bind", "rbind", "remount", "bogus", "size", "ro=1", "private", "lowerdir=/"])
def test_what_is_no_option_of_tmpfs(option: str) -> None:
    assert refused(tmpfs=[f"/x:ro,{option}"]).cause == f"no option of tmpfs: {option!r}"


def test_options_of_tmpfs() -> None:
    make(tmpfs=["/x:rw,exec,suid,size=64m,mode=1777,uid=1,gid=1,nr_inodes=100,noatime,,", "/y"])


@pytest.mark.parametrize(("text", "limit"), [("100", 100), ("-1", -1), ("0", 0)])
def test_pids_limit(text: str, limit: int) -> None:
    assert make(pids_limit=text).resources.pids_limit == limit


@pytest.mark.parametrize("text", ["", "x", "1.5", "0x10"])
def test_what_is_no_pids_limit(text: str) -> None:
    refused(pids_limit=text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024", ("RLIMIT_NOFILE", 1024, 1024)),
        ("nofile=1024:2048", ("RLIMIT_NOFILE", 1024, 2048)),
        ("NPROC=5", ("RLIMIT_NPROC", 5, 5)),
        ("core=0", ("RLIMIT_CORE", 0, 0)),
        ("core=-1", ("RLIMIT_CORE", -1, -1)),
        ("core=5:-1", ("RLIMIT_CORE", 5, -1)),
        ("stack=8388608:", ("RLIMIT_STACK", 8388608, 8388608)),
    ],
)
def test_ulimits(text: str, limit: tuple[str, int, int]) -> None:
    assert make(ulimit=[text]).resources.ulimits == [limit]


@pytest.mark.parametrize(
    "text",
    ["nofile", "nofile=", "nofile=:5", "=5", "bogus=1", "nofile=x", "nofile=5:x", "nofile=2:1", "nofile=-1:5",
     "nofile=-5", "nofile=5:-7", "nofile=1:2:3", "nofile=99999999999999999999", "infinity=1"],
)  # fmt: skip
def test_what_is_no_ulimit(text: str) -> None:
    refused(ulimit=[text])


@given(st.from_regex(r"[a-z]{0,6}=?-?[0-9]{0,25}(:-?[0-9]{0,25})?", fullmatch=True))
def test_any_accepted_ulimit_is_one_that_the_interpreter_takes(text: str) -> None:
    try:
        name, soft, hard = make(ulimit=[text]).resources.ulimits[0]
    except UsageError:
        return
    assert isinstance(getattr(resource, name), int)
    assert all(-1 <= value < 1 << 63 for value in (soft, hard))


EVERY = set(capability.available(True))
DEFAULT = set(CAPABILITIES)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, DEFAULT),
        ({"cap_add": ["NET_ADMIN"]}, DEFAULT | {"CAP_NET_ADMIN"}),
        ({"cap_add": ["cap_net_admin", "CHOWN"]}, DEFAULT | {"CAP_NET_ADMIN"}),
        ({"cap_drop": ["chown", "CAP_KILL"]}, DEFAULT - {"CAP_CHOWN", "CAP_KILL"}),
        ({"cap_drop": ["ALL"]}, set()),
        ({"cap_drop": ["all"], "cap_add": ["CHOWN"]}, {"CAP_CHOWN"}),
        ({"cap_add": ["ALL"]}, EVERY),
        ({"cap_add": ["ALL"], "cap_drop": ["SYS_ADMIN"]}, EVERY - {"CAP_SYS_ADMIN"}),
        ({"cap_drop": ["SYS_ADMIN"]}, DEFAULT),
    ],
)
def test_capabilities(values: dict[str, list[str]], expected: set[str]) -> None:
    found = make(**values).security.capabilities
    assert set(found) == expected
    assert len(found) == len(set(found))


def test_without_a_user_namespace_all_means_what_we_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "own_masks", lambda: {"CapBnd": 0b11})
    assert make(privileged=True).security.capabilities == ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]
    assert make(userns="host", cap_add=["ALL"]).security.capabilities == ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]


@pytest.mark.parametrize("flag", ["cap_add", "cap_drop"])
@pytest.mark.parametrize("text", ["", "CAP_", "NET_ADMI", "CAP_CAP_CHOWN", "ALL,CHOWN"])
def test_what_is_no_capability(flag: str, text: str) -> None:
    assert refused(**{flag: [text]}).step == "--" + flag.replace("_", "-")


def test_the_default_capabilities_are_dockers() -> None:
    assert len(DEFAULT) == 14
    assert not DEFAULT & {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_BPF"}


@pytest.mark.parametrize(
    ("values", "namespace"),
    [
        ({}, True),
        ({"userns": ""}, True),
        ({"userns": "private"}, True),
        ({"userns": "host"}, False),
        ({"privileged": True}, False),
    ],
)
def test_user_namespace(values: dict[str, Any], namespace: bool) -> None:
    found = make(**values)
    assert found.security.user_namespace is namespace


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], False),
        (["no-new-privileges"], True),
        (["no-new-privileges:true"], True),
        (["no-new-privileges=true"], True),
        (["no-new-privileges=false"], False),
        (["no-new-privileges", "no-new-privileges=false"], False),
    ],
)
def test_security_options(options: list[str], expected: bool) -> None:
    assert make(security_opt=options).security.no_new_privileges is expected


@pytest.mark.parametrize("option", ["", "no-new-privileges=yes", "apparmor=x", "seccomp=profile.json"])
def test_a_security_option_that_would_be_ignored_is_refused(option: str) -> None:
    refused(security_opt=[option])


@pytest.mark.parametrize(
    ("text", "name"), [(None, "bridge"), ("", "bridge"), ("default", "bridge"), ("none", "none"), ("host", "host")]
)
def test_networks(text: str | None, name: str) -> None:
    assert make(network=text).network.mode == name


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("network", "a b"),
        ("network", "container:"),
        ("userns", "keep-id"),
        ("workdir", "srv"),
        ("workdir", "./srv"),
        ("stop_signal", "BOGUS"),
        ("stop_signal", "0"),
        ("stop_signal", "65"),
        ("stop_signal", ""),
        ("hostname", "a b"),
        ("hostname", "a/b"),
        ("hostname", "a\n127.0.0.1 bank.example"),
        ("hostname", "x" * 65),
    ],
)
def test_texts_that_are_refused(flag: str, text: str) -> None:
    assert refused(**{flag: text}).step == "--" + flag.replace("_", "-")


@pytest.mark.parametrize("text", ["ab", "a1", "1a", "a.b-c_d", "A" * 128])
def test_names(text: str) -> None:
    assert make(name=text).name == text


@pytest.mark.parametrize(
    "text", ["", "a", "-a", "_a", ".a", "a b", "a/b", "..", "a\n", "\u00e9\u00e9", "A" * 129, "a:b"]
)
def test_what_is_no_name(text: str) -> None:
    refused(name=text)


def test_stop_signal_and_labels() -> None:
    found = make(stop_signal="quit", label=["a=1", "b", "c=d=e", "a=2"])
    assert found.process.stop_signal == signals.NUMBERS["SIGQUIT"]
    assert found.labels == {"a": "2", "b": "", "c": "d=e"}
    refused(label=["=x"])


ENV_FILES = {
    "plain": ("A=1\nB=two words\n", [("A", "1"), ("B", "two words")]),
    "no newline at the end": ("A=1", [("A", "1")]),
    "empty": ("", []),
    "comments and empty lines": ("# x\n\n  # y\nA=1\n#B=2\n", [("A", "1")]),
    "leading space goes, trailing stays": ("  A= 1 \n", [("A", " 1 ")]),
    "a # in a value": ("A=1#2\n", [("A", "1#2")]),
    "quotes are kept": ("A=\"x\"\nB='y'\n", [("A", '"x"'), ("B", "'y'")]),
    "equals in the value": ("A=B=C\n", [("A", "B=C")]),
    "empty value": ("A=\n", [("A", "")]),
    "byte order mark": ("\ufeffA=1\n", [("A", "1")]),
    "carriage return": ("A=1\r\nB=2\r\n", [("A", "1"), ("B", "2")]),
    "separators of Unicode's end no line": ("A=x\u2028y\x0cz\x85\n", [("A", "x\u2028y\x0cz\x85")]),
    "from the caller": ("FROM_CALLER\nNOT_THERE\n", [("FROM_CALLER", "here")]),
    "the same twice": ("A=1\nA=2\n", [("A", "1"), ("A", "2")]),
}


@pytest.mark.parametrize(("text", "expected"), ENV_FILES.values(), ids=ENV_FILES)
def test_env_files(
    text: str, expected: list[tuple[str, str]], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_CALLER", "here")
    monkeypatch.delenv("NOT_THERE", raising=False)
    path = tmp_path / "env"
    path.write_bytes(text.encode())
    assert make(env_file=[str(path)]).process.environment == expected


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"A=1\nB C=2\n", ":2"),
        (b"=1\n", ":1"),
        (b"A =1\n", ":1"),
        (b"A=\xff\n", "not UTF-8"),
        (b"A=\0\n", "NUL"),
    ],
)
def test_bad_env_files_name_file_and_line(data: bytes, cause: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(data)
    message = str(refused(env_file=[str(path)]))
    assert str(path) in message
    assert cause in message


def test_env_files_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    assert refused(env_file=[str(tmp_path / "missing")]).cause == "no such file or directory"
    assert refused(env_file=[str(tmp_path)]).cause == "is a directory"


def test_assignments_come_after_files_and_in_order(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("A=f1\nB=f1\n")
    second.write_text("B=f2\n")
    monkeypatch.setenv("OURS", "o")
    monkeypatch.delenv("MISSING", raising=False)
    found = make(env=["A=e", "OURS", "MISSING", "EMPTY="], env_file=[str(first), str(second)]).process.environment
    # None takes a variable away that the image has.
    assert found == [
        ("A", "f1"), ("B", "f1"), ("B", "f2"), ("A", "e"), ("OURS", "o"), ("MISSING", None), ("EMPTY", ""),
    ]  # fmt: skip
    refused(env=["=x"])


def test_defaults() -> None:
    found = ContainerConfig("alpine", ["sh"], {})
    assert (found.image, found.process.command, found.name, found.network.hostname, found.process.workdir) == (
        "alpine",
        ["sh"],
        "",
        "",
        "",
    )
    assert not any(
        (
            found.remove,
            found.process.interactive,
            found.process.tty,
            found.mounts.read_only,
            found.security.privileged,
            found.process.init,
            found.detach,
        )
    )
    assert (found.process.entrypoint, found.process.user, found.process.stop_signal, found.resources.pids_limit) == (
        None,
        None,
        None,
        None,
    )


NONSENSE: dict[str, tuple[dict[str, Any], str, str]] = {
    "reservation above the limit": ({"memory": "64m", "memory_reservation": "65m"}, "--memory-reservation", "128m"),
    "high above the limit": ({"memory": "64m", "memory_high": "65m"}, "--memory-high", "-m 128m"),
    "high is too little": ({"memory_high": "1m"}, "--memory-high", "6m"),
    "reservation of nothing": ({"memory_reservation": "-1"}, "--memory-reservation", "0"),
    "shares that are none": ({"cpu_shares": "-2"}, "--cpu-shares", "512"),
    "shares in words": ({"cpu_shares": "half"}, "--cpu-shares", "100"),
    "quota too small": ({"cpu_quota": "999"}, "--cpu-quota", "50000"),
    "period too small": ({"cpu_period": "999"}, "--cpu-period", "100000"),
    "period too long": ({"cpu_period": "1000001"}, "--cpu-period", "100000"),
    "cpus and quota": ({"cpus": "0.5", "cpu_quota": "5000"}, "--cpus", "--cpu-quota 50000"),
    "cpus and period": ({"cpus": "0.5", "cpu_period": "5000"}, "--cpus", "--cpu-period 100000"),
    "memory nodes": ({"cpuset_mems": "all"}, "--cpuset-mems", "0-2,4"),
    "a memory node that is not there": ({"cpuset_mems": "9999"}, "--cpuset-mems", "there are 0"),
    "weight too small": ({"blkio_weight": "9"}, "--blkio-weight", "300"),
    "weight too big": ({"blkio_weight": "1001"}, "--blkio-weight", "300"),
    "rate without a device": ({"device_read_bps": ["1m"]}, "--device-read-bps", "/dev/sda:10m"),
    "rate of a name": ({"device_read_bps": ["sda:1m"]}, "--device-read-bps", "/dev/sda:10m"),
    "no rate": ({"device_write_bps": ["/dev/sda:"]}, "--device-write-bps", "/dev/sda:10m"),
    "negative rate": ({"device_write_bps": ["/dev/sda:-1"]}, "--device-write-bps", "/dev/sda:10m"),
    "operations with a unit": ({"device_read_iops": ["/dev/sda:5m"]}, "--device-read-iops", "/dev/sda:500"),
    "no such device": ({"device_write_iops": ["/dev/nosuch:5"]}, "--device-write-iops", "lsblk"),
    "no block device": ({"device_write_iops": ["/dev/null:5"]}, "--device-write-iops", "lsblk"),
    "no unit of bits": ({"network_rate": "10m"}, "--network-rate", "10mbit"),
    "too slow": ({"network_rate": "1kbit"}, "--network-rate", "8kbit"),
    "too fast": ({"network_rate": "35gbit"}, "--network-rate", "34gbit"),
    "exponents": ({"network_rate": "1e3mbit"}, "--network-rate", "10mbit"),
    "a burst smaller than a packet": ({"network_rate": "10mbit:1k"}, "--network-rate", "10mbit:64k"),
    "a burst of nothing": ({"network_rate": "10mbit:"}, "--network-rate", "10mbit:64k"),
    "a rate of no network": ({"network_rate": "10mbit", "network": "none"}, "--network-rate", "--network bridge"),
    "a rate of the host's": ({"network_rate": "10mbit", "network": "host"}, "--network-rate", "--network bridge"),
    "a rate that can be lifted": ({"network_rate": "10mbit", "cap_add": ["NET_ADMIN"]}, "--network-rate", "NET_ADMIN"),
    "OOM score": ({"oom_score_adj": "1001"}, "--oom-score-adj", "500"),
    "OOM killer": ({"oom_kill_disable": True}, "--oom-kill-disable", "--memory-high"),
    "swappiness": ({"memory_swappiness": "60"}, "--memory-swappiness", "--memory-swap"),
    "shared memory": ({"shm_size": "-1"}, "--shm-size", "256m"),
    "shared memory in words": ({"shm_size": "much"}, "--shm-size", "64m"),
    "cgroup above all": ({"cgroup_parent": "/a/../.."}, "--cgroup-parent", "/batch"),
    "cgroup of systemd": ({"cgroup_parent": "a:b:c"}, "--cgroup-parent", "/batch"),
    "the root cgroup": ({"cgroup_parent": "/"}, "--cgroup-parent", "/batch"),
}


@pytest.mark.parametrize(("values", "flag", "example"), NONSENSE.values(), ids=NONSENSE)
def test_a_limit_that_makes_no_sense(values: dict[str, Any], flag: str, example: str) -> None:
    error = refused(**values)
    assert error.step == flag
    assert example in error.hint


def test_what_version_2_has_not_may_be_said_where_it_changes_nothing() -> None:
    make(memory_swappiness="-1", oom_kill_disable=False)


@pytest.mark.parametrize(("text", "parent"), [("", ""), ("/batch", "batch"), ("batch/nightly/", "batch/nightly")])
def test_cgroup_parent(text: str, parent: str) -> None:
    assert make(cgroup_parent=text).resources.cgroup_parent == parent


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", None),
        ("0", None),
        ("8kbit", (1000, 32 << 10)),
        ("1.5Mbit", (187_500, 32 << 10)),
        ("1gbit", (125_000_000, 1_250_000)),
        ("10mbit:64k", (1_250_000, 64 << 10)),
    ],
)
def test_network_rate(text: str, rate: tuple[int, int] | None) -> None:
    assert make(network_rate=text).network.rate == rate
