"""linux.resources of config.json -> (file, value) of cgroup v2."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import HostError, UsageError
from pycontainer.kernel.operation import Journal
from pycontainer.runtime import limits, resources

M = 1 << 20


def table(value: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(limit.controller, limit.file, limit.value) for limit in resources.limits(value)]


LIMITS: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "nothing": ({}, []),
    "empty parts": ({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "hugepageLimits": [], "unified": {}}, []),
    "null parts": ({"memory": None, "cpu": {"shares": None}, "pids": {"limit": None}, "blockIO": None}, []),
    "memory": ({"memory": {"limit": 64 * M}}, [("memory", "memory.max", str(64 * M))]),
    "memory without limit": ({"memory": {"limit": -1, "swap": -1, "reservation": -1}}, []),
    "memory zero is not set": ({"memory": {"limit": 0, "swap": 0, "reservation": 0}}, []),
    "swap is counted apart": (
        {"memory": {"limit": 64 * M, "swap": 96 * M}},
        [("memory", "memory.max", str(64 * M)), ("memory", "memory.swap.max", str(32 * M))],
    ),
    "no swap": (
        {"memory": {"limit": 64 * M, "swap": 64 * M}},
        [("memory", "memory.max", str(64 * M)), ("memory", "memory.swap.max", "0")],
    ),
    "swap without limit": (
        {"memory": {"limit": 64 * M, "swap": -1}},
        [("memory", "memory.max", str(64 * M))],
    ),
    "reservation": (
        {"memory": {"limit": 64 * M, "reservation": 32 * M}},
        [("memory", "memory.low", str(32 * M)), ("memory", "memory.max", str(64 * M))],
    ),
    "quota": ({"cpu": {"quota": 50000, "period": 100000}}, [("cpu", "cpu.max", "50000 100000")]),
    "quota alone": ({"cpu": {"quota": 50000}}, [("cpu", "cpu.max", "50000 100000")]),
    "period alone": ({"cpu": {"period": 50000}}, []),
    "quota without limit": ({"cpu": {"quota": -1, "period": 100000}}, []),
    "nothing of the processor": ({"cpu": {"quota": 0, "shares": 0, "cpus": "", "mems": "", "idle": 0, "burst": 0}}, []),
    "burst and idle": (
        {"cpu": {"burst": 1000, "idle": 1}},
        [("cpu", "cpu.idle", "1"), ("cpu", "cpu.max.burst", "1000")],
    ),
    "shares": ({"cpu": {"shares": 1024}}, [("cpu", "cpu.weight", "39")]),
    "cpuset": (
        {"cpu": {"cpus": "0-1,3", "mems": "0"}},
        [("cpuset", "cpuset.cpus", "0-1,3"), ("cpuset", "cpuset.mems", "0")],
    ),
    "pids": ({"pids": {"limit": 5}}, [("pids", "pids.max", "5")]),
    "pids without limit": ({"pids": {"limit": -1}}, []),
    "pids zero": ({"pids": {"limit": 0}}, []),
    "io without limit": ({"blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": []}}, []),
    "io weight": ({"blockIO": {"weight": 500}}, [("io", "io.weight", "default 4950")]),
    "io throttles": (
        {
            "blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}, {"major": 9, "minor": 1, "rate": 5}],
            }
        },
        [
            ("io", "io.max", "8:0 rbps=1"),
            ("io", "io.max", "8:0 wbps=2"),
            ("io", "io.max", "8:16 riops=3"),
            ("io", "io.max", "8:0 wiops=4"),
            ("io", "io.max", "9:1 wiops=5"),
        ],
    ),
    "huge pages": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * M}, {"pageSize": "1GB", "limit": -1}]},
        [("hugetlb", "hugetlb.2MB.max", str(4 * M))],
    ),
    "unified": (
        {"unified": {"memory.high": "1000", "cgroup.max.depth": "3"}},
        [("memory", "memory.high", "1000"), ("cgroup", "cgroup.max.depth", "3")],
    ),
}


@pytest.mark.parametrize(("value", "expected"), LIMITS.values(), ids=LIMITS)
def test_limits(value: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert table(value) == expected


def test_unified_comes_after_what_it_may_overrule() -> None:
    value = {"unified": {"pids.max": "7"}, "pids": {"limit": 5}, "memory": {"limit": 64 * M}}
    assert [file for _, file, _ in table(value)] == ["memory.max", "pids.max", "pids.max"]
    assert table(value)[-1] == ("pids", "pids.max", "7")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "memory is a text": ({"memory": "64m"}, "linux.resources.memory"),
    "limit is a text": ({"memory": {"limit": "64m"}}, "linux.resources.memory.limit"),
    "limit is a truth": ({"memory": {"limit": True}}, "linux.resources.memory.limit"),
    "limit is a fraction": ({"memory": {"limit": 1.5}}, "linux.resources.memory.limit"),
    "swap without a limit": ({"memory": {"swap": 64 * M}}, "linux.resources.memory.swap"),
    "swap below the limit": ({"memory": {"limit": 64 * M, "swap": 32 * M}}, "linux.resources.memory.swap"),
    "quota is a text": ({"cpu": {"quota": "5"}}, "linux.resources.cpu.quota"),
    "cpus is a number": ({"cpu": {"cpus": 1}}, "linux.resources.cpu.cpus"),
    "pids is a text": ({"pids": {"limit": "5"}}, "linux.resources.pids.limit"),
    "io weight too small": ({"blockIO": {"weight": 5}}, "linux.resources.blockIO.weight"),
    "io weight too big": ({"blockIO": {"weight": 1001}}, "linux.resources.blockIO.weight"),
    "throttle is no array": (
        {"blockIO": {"throttleReadBpsDevice": 3}},
        "linux.resources.blockIO.throttleReadBpsDevice",
    ),
    "throttle with a text": (
        {"blockIO": {"throttleReadBpsDevice": [{"major": "8", "minor": 0, "rate": 1}]}},
        "linux.resources.blockIO.throttleReadBpsDevice[0].major",
    ),
    "huge pages without a size": ({"hugepageLimits": [{"limit": 1}]}, "linux.resources.hugepageLimits[0].pageSize"),
    "a path for a size": (
        {"hugepageLimits": [{"pageSize": "../x", "limit": 1}]},
        "linux.resources.hugepageLimits[0].pageSize",
    ),
    "unified with a path": ({"unified": {"../memory.max": "1"}}, "linux.resources.unified.../memory.max"),
    "unified with a number": ({"unified": {"memory.max": 1}}, "linux.resources.unified.memory.max"),
}


@pytest.mark.parametrize(("value", "field"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_by_name(value: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        resources.limits(value)
    assert caught.value.path == field


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"memory": {"kernel": 1}}, "memory.kernel"),
        ({"memory": {"kernelTCP": 1}}, "memory.kernelTCP"),
        ({"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller"),
        ({"cpu": {"realtimeRuntime": 1}}, "cpu.realtimeRuntime"),
        ({"cpu": {"realtimePeriod": 1}}, "cpu.realtimePeriod"),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 5}]}}, "blockIO.weightDevice"),
        ({"network": {"classID": 1}}, "network"),
        ({"memory": {"swappiness": 0}}, "memory.swappiness"),
        ({"memory": {"swappiness": 60}}, "memory.swappiness"),
        ({"rdma": {"mlx5": {}}}, "rdma"),
    ],
)
def test_what_version_2_has_not_is_refused_and_not_ignored(value: dict[str, Any], field: str) -> None:
    with pytest.raises(HostError) as caught:
        resources.limits(value)
    assert caught.value.path == f"linux.resources.{field}"
    assert caught.value.hint


@given(st.integers(0, 300_000))
def test_weights_stay_in_the_kernels_range_and_in_order(shares: int) -> None:
    assert 1 <= resources.cpu_weight(shares) <= 10_000
    assert resources.cpu_weight(shares) <= resources.cpu_weight(shares + 1)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 1), (1 << 30, 10000)])
def test_cpu_weight(shares: int, weight: int) -> None:
    assert resources.cpu_weight(shares) == weight


@pytest.mark.parametrize(("weight", "expected"), [(10, 1), (500, 4950), (1000, 10000)])
def test_io_weight(weight: int, expected: int) -> None:
    assert resources.io_weight(weight) == expected


def test_bfq_takes_the_weight_as_it_is() -> None:
    (limit,) = resources.limits({"blockIO": {"weight": 300}})
    assert limit.instead is not None
    assert (limit.instead.file, limit.instead.value) == ("io.bfq.weight", "300")


@pytest.mark.parametrize(
    ("files", "written"),
    [(["io.weight"], "io.weight"), (["io.bfq.weight"], "io.bfq.weight"), (["io.weight", "io.bfq.weight"], "io.weight")],
)
def test_a_weight_is_written_where_the_kernel_has_it(tmp_path: pathlib.Path, files: list[str], written: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    (limit,) = resources.limits({"blockIO": {"weight": 300}})
    limits.write(str(tmp_path), limit, Journal())
    assert {name: (tmp_path / name).read_text() for name in files if (tmp_path / name).read_text()} == {
        written: {"io.weight": "default 2930", "io.bfq.weight": "300"}[written]
    }


def test_a_kernel_without_weights_is_named(tmp_path: pathlib.Path) -> None:
    (limit,) = resources.limits({"blockIO": {"weight": 300}})
    with pytest.raises(HostError, match=r"neither io\.weight nor io\.bfq\.weight"):
        limits.write(str(tmp_path), limit, Journal())
