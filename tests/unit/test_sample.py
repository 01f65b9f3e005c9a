"""What `stats` makes of the kernel's files."""

from __future__ import annotations

import os
import pathlib

import pytest

from pycontainer.cli.table import binary_size
from pycontainer.engine.stats import Sample
from pycontainer.kernel.cgroup import Hierarchy

MIB = 1 << 20
FILES = {
    "memory.current": f"{30 * MIB}\n",
    "memory.stat": f"anon {8 * MIB}\nfile {20 * MIB}\nkernel {2 * MIB}\nshmem {MIB}\ninactive_file {15 * MIB}\n",
    "memory.max": "max\n",
    "memory.peak": f"{40 * MIB}\n",
    "memory.swap.current": "4096\n",
    "cpu.stat": "usage_usec 500000\nuser_usec 1\n",
    "io.stat": "8:0 rbytes=1000 wbytes=20 rios=1 wios=1 dbytes=7 dios=1\n8:16 rbytes=500 wbytes=1 rios=3 wios=9\n7:0\n",
    "pids.current": "3\n",
    "cpu.pressure": "some avg10=0.00 avg60=0.00 total=1000\nfull avg10=0.00 avg60=0.00 total=9\n",
}


@pytest.fixture
def cgroup(tmp_path: pathlib.Path) -> pathlib.Path:
    """A container's cgroup `above/own` in a hierarchy; the one above it has a limit."""
    own = tmp_path / "above/own"
    own.mkdir(parents=True)
    for name, text in FILES.items():
        (own / name).write_text(text)
    (tmp_path / "above/memory.max").write_text(f"{64 * MIB}\n")
    return own


def look(cgroup: pathlib.Path, pid: int = 0, at: float = 0) -> Sample:
    found = Sample(Hierarchy(str(cgroup.parent.parent), frozenset(), {}), str(cgroup), pid or os.getpid())
    found.time = at
    return found


def test_what_is_counted(cgroup: pathlib.Path) -> None:
    found = look(cgroup)
    assert (found.memory, found.limit, found.peak, found.swap) == (15 * MIB, 64 * MIB, 40 * MIB, 4096)
    assert found.parts == {"anon": 8 * MIB, "file": 20 * MIB, "kernel": 2 * MIB, "shmem": MIB}
    assert (found.block, found.pids, found.pressure) == ((1500, 21), 3, {"cpu": 1000})
    assert found.memory_percent() == 100 * 15 / 64
    assert found.network is None, "this process has the host's network"


def test_without_a_limit_it_is_the_machines_memory(cgroup: pathlib.Path) -> None:
    (cgroup.parent / "memory.max").write_text("max\n")
    assert look(cgroup).limit == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_is_not_there_is_not_known(cgroup: pathlib.Path) -> None:
    for name in FILES:
        (cgroup / name).unlink()
    found = look(cgroup)
    assert (found.memory, found.limit, found.peak, found.swap, found.block, found.pids, found.cpu) == (None,) * 7
    assert (found.memory_percent(), found.cpu_percent(found), found.pressure) == (None, None, {})


def test_rates(cgroup: pathlib.Path) -> None:
    before = look(cgroup, at=10)
    (cgroup / "cpu.stat").write_text("usage_usec 3500000\n")
    (cgroup / "cpu.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=501000\n")
    after = look(cgroup, at=12)
    assert after.cpu_percent(before) == pytest.approx(150)
    assert after.pressure_percent(before) == {"cpu": pytest.approx(25)}
    assert (after.cpu_percent(None), after.pressure_percent(None)) == (None, {})
    other_run = look(cgroup, pid=1, at=12)
    assert (other_run.cpu_percent(before), other_run.pressure_percent(before)) == (None, {})


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1 << 20, "1MiB"), (1023.99 * 1024, "1MiB"), (7.6543 * (1 << 30), "7.654GiB")],
)
def test_dockers_units(size: float, text: str) -> None:
    assert binary_size(int(size)) == text
