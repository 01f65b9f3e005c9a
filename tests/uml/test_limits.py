"""What the kernel does with the limits that `run` sets: memory, processor time, number of processes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, wait_until

from pycontainer.kernel import block_device

# The disk that holds what the containers write, and its number.
_FINDMNT = ["findmnt", "--noheadings", "--output", "SOURCE", "--target"]
_PLACE = os.environ.get("PYCONTAINER_TEST_DISK", "/var/tmp")
DISK = os.path.realpath(subprocess.run([*_FINDMNT, _PLACE], capture_output=True, text=True).stdout.strip())
NUMBER = ":".join(map(str, block_device.whole_disk(DISK))) if DISK.startswith("/dev/") else ""
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Not more, because the guest has some thousand page faults for each ten.
TAKE_30_MB = ["dd", "if=/dev/zero", "of=/dev/null", "bs=30M", "count=1"]


@contextlib.contextmanager
def running(box: Pycontainer, *arguments: str) -> Iterator[pathlib.Path]:
    """A container in the background; its cgroup directory. It is ended at the end."""
    cidfile = box.state / f"cid-{time.monotonic_ns()}"
    process = box.popen(
        "run", "--rm", "--network", "none", "--cidfile", str(cidfile), *arguments, stdin=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: cidfile.exists() and cidfile.read_text())
        directory = CGROUPS / box.state.name / cidfile.read_text()
        wait_until(lambda: (directory / "cgroup.procs").exists() and (directory / "cgroup.procs").read_text())
        yield directory
    finally:
        process.terminate()
        process.wait(30)
        cidfile.unlink(missing_ok=True)


def value(path: pathlib.Path, key: str) -> int:
    """One number of a cgroup file of `key value` lines."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[0] == key)


def run(box: Pycontainer, *arguments: str) -> subprocess.CompletedProcess:
    return box("run", "--rm", "--network", "none", *arguments)


def test_a_program_above_its_memory_limit_is_killed(box: Pycontainer) -> None:
    assert run(box, "-m", "16m", "busybox", *TAKE_30_MB).returncode == 137
    assert run(box, "-m", "60m", "busybox", *TAKE_30_MB).returncode == 0
    assert os.getloadavg()  # and the host lives


def test_a_child_above_the_limit_is_killed_and_its_parent_lives(box: Pycontainer) -> None:
    script = f"{' '.join(TAKE_30_MB)} 2>/dev/null; echo status $?; exit 3"
    result = run(box, "-m", "16m", "busybox", "sh", "-c", script)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (3, "status 137")


def test_memory_swap_counts_both(box: Pycontainer) -> None:
    if len(pathlib.Path("/proc/swaps").read_text().splitlines()) < 2:
        pytest.skip("this machine has no swap")
    assert run(box, "-m", "16m", "--memory-swap", "48m", "busybox", *TAKE_30_MB).returncode == 0
    assert run(box, "-m", "16m", "--memory-swap", "24m", "busybox", *TAKE_30_MB).returncode == 137


def io_limits(**known: int) -> str:
    """A line of io.max."""
    return " ".join([NUMBER, *(f"{key}={known.get(key, 'max')}" for key in ("rbps", "wbps", "riops", "wiops"))])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            "-m 64m --cpus 0.5 --pids-limit 20 --oom-group --cpu-shares 0",
            {
                "memory.max": str(64 << 20), "memory.swap.max": "0", "memory.low": "0", "memory.high": "max",
                "memory.oom.group": "1", "cpu.max": "50000 100000", "cpu.weight": "100", "pids.max": "20", "io.max": "",
            },
        ),
        (
            "-m 64m --memory-swap 96m --memory-reservation 32m --memory-high 48m"
            " --cpu-quota 20000 --cpu-period 50000 --cpu-shares 512"
            f" --device-read-bps {DISK}:1m --device-write-iops {DISK}:40",
            {
                "memory.max": str(64 << 20), "memory.swap.max": str(32 << 20), "memory.low": str(32 << 20),
                "memory.high": str(48 << 20), "memory.oom.group": "0", "cpu.max": "20000 50000", "cpu.weight": "20",
                "pids.max": "max", "io.max": io_limits(rbps=1 << 20, wiops=40),
            },
        ),
        (
            "-m 64m --memory-swap -1 --pids-limit -1 --oom-group=false --cpu-quota 20000 --cpu-shares 1"
            f" --device-write-bps {DISK}:2m --device-read-iops {DISK}:30",
            {
                "memory.swap.max": "max", "memory.oom.group": "0", "cpu.max": "20000 100000", "cpu.weight": "1",
                "pids.max": "max", "io.max": io_limits(wbps=2 << 20, riops=30),
            },
        ),
        ("--cpu-quota -1", {"memory.max": "max", "memory.swap.max": "max", "cpu.max": "max 100000"}),
    ],
)  # fmt: skip
def test_each_flag_is_in_its_file(box: Pycontainer, flags: str, expected: dict[str, str]) -> None:
    with running(box, *flags.split(), "busybox", "sleep", "60") as cgroup:
        assert {file: (cgroup / file).read_text().strip() for file in expected} == expected


def test_a_process_has_its_oom_score(box: Pycontainer) -> None:
    result = run(box, "--oom-score-adj", "-300", "busybox", "cat", "/proc/self/oom_score_adj")
    assert result.stdout == "-300\n"


def test_shared_memory_has_its_size(box: Pycontainer) -> None:
    result = run(box, "--shm-size", "3m", "busybox", "df", "-k", "/dev/shm")
    assert result.stdout.splitlines()[-1].split()[1] == "3072"


def test_a_cgroup_of_ones_own_choice(box: Pycontainer) -> None:
    parent = CGROUPS / f"{box.state.name}-batch"
    parent.mkdir()
    name = f"{parent.name}/nightly"
    box("run", "-d", "--name", "chosen", "--network", "none", "--pids-limit", "20",
        "--cgroup-parent", f"/{name}", "busybox", "sleep", "60", check=True)  # fmt: skip
    try:
        (cgroup,) = (CGROUPS / name).glob("*/cgroup.procs")
        assert cgroup.read_text()
        assert (cgroup.parent / "pids.max").read_text() == "20\n"
        assert box("inspect", "-f", "{{.HostConfig.CgroupParent}}", "chosen").stdout == f"/{name}\n"
    finally:
        box("rm", "-f", "chosen", check=True)
    assert not (CGROUPS / name).exists(), "what was made for it goes with it"
    options = ["--name", "killed", "--network", "none", "--cgroup-parent", f"/{name}", "-m", "16m"]
    assert box("run", *options, "busybox", *TAKE_30_MB).returncode == 137
    assert box("inspect", "-f", "{{.State.OOMKilled}}", "killed", check=True).stdout == "true\n"
    box("rm", "killed", check=True)
    # And what was there stays.
    parent.rmdir()


def test_half_a_processor(box: Pycontainer) -> None:
    with running(box, "--cpus", "0.5", "busybox", "sh", "-c", "while :; do :; done") as cgroup:
        begin, used = time.monotonic(), value(cgroup / "cpu.stat", "usage_usec")
        time.sleep(3)
        share = (value(cgroup / "cpu.stat", "usage_usec") - used) / 1e6 / (time.monotonic() - begin)
        assert 0.45 <= share <= 0.55
        assert value(cgroup / "cpu.stat", "nr_throttled") > 0


def test_a_fork_bomb_is_contained(box: Pycontainer) -> None:
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 60"
    with running(box, "--pids-limit", "20", "busybox", "sh", "-c", bomb) as cgroup:
        wait_until(lambda: value(cgroup / "pids.events", "max") > 0)
        assert int((cgroup / "pids.current").read_text()) <= 20
        assert subprocess.run(["true"]).returncode == 0


def test_a_limit_that_this_kernel_lacks_is_refused(box: Pycontainer) -> None:
    if "cpuset" in pathlib.Path("/sys/fs/cgroup/cgroup.controllers").read_text():
        pytest.skip("this kernel has every controller")
    result = run(box, "--cpuset-cpus", "0", "busybox", "true")
    assert result.returncode == 125
    assert "cpuset" in result.stderr and "hint:" in result.stderr


def test_the_container_sees_its_own_limits(box: Pycontainer) -> None:
    result = run(box, "-m", "64m", "busybox", "cat", "/sys/fs/cgroup/memory.max")
    assert result.stdout == f"{64 << 20}\n"


def test_above_the_high_mark_it_is_slowed_down_and_lives(box: Pycontainer) -> None:
    script = "dd if=/dev/zero of=/dev/null bs=30M count=1 2>/dev/null && cat /sys/fs/cgroup/memory.events"
    result = run(box, "--memory-high", "16m", "busybox", "sh", "-c", script)
    assert result.returncode == 0
    found = {key: int(number) for key, number in map(str.split, result.stdout.splitlines())}
    assert found["oom_kill"] == 0
    assert found["high"] > 0, "the kernel has slowed it down, and taken back what it had"


def test_three_times_the_shares_are_three_times_the_processor(box: Pycontainer) -> None:
    # On one processor, because they compete only there.
    one = ["--cpuset-cpus", "0"] if os.cpu_count() != 1 else []
    loop = [*one, "busybox", "sh", "-c", "while :; do :; done"]
    with (
        running(box, "--cpu-shares", "3072", *loop) as more,
        running(box, "--cpu-shares", "1024", *loop) as less,
    ):
        before = [value(cgroup / "cpu.stat", "usage_usec") for cgroup in (more, less)]
        wait_until(lambda: value(less / "cpu.stat", "usage_usec") - before[1] > 500_000)
        used = [
            value(cgroup / "cpu.stat", "usage_usec") - begin for cgroup, begin in zip((more, less), before, strict=True)
        ]
        assert 3 * 0.85 <= used[0] / used[1] <= 3 * 1.15


@pytest.mark.parametrize(
    ("flag", "program", "key"),
    [
        ("--device-write-bps", "while :; do dd if=/dev/zero of=/file bs=64k count=160 oflag=direct; done", "wbytes"),
        ("--device-read-bps", "while :; do dd if=/file of=/dev/null bs=64k iflag=direct; done", "rbytes"),
    ],
)
def test_a_disk_is_no_faster_than_allowed(box: Pycontainer, flag: str, program: str, key: str) -> None:
    prepare = "dd if=/dev/zero of=/file bs=64k count=160 conv=fsync 2>/dev/null; "
    script = (prepare if key == "rbytes" else "") + program
    with running(box, flag, f"{DISK}:4m", "busybox", "sh", "-c", script) as cgroup:

        def moved() -> int:
            for line in (cgroup / "io.stat").read_text().splitlines():
                if line.startswith(f"{NUMBER} "):
                    return int(dict(word.split("=") for word in line.split()[1:]).get(key, 0))
            return 0

        wait_until(lambda: moved() > 1 << 20)
        first, begin = moved(), time.monotonic()
        wait_until(lambda: moved() - first >= 8 << 20)
        rate = (moved() - first) / (time.monotonic() - begin)
        assert 0.8 <= rate / (4 << 20) <= 1.2


def test_the_script_that_explains_sets_the_same_limits(box: Pycontainer) -> None:
    limits = ["memory.max", "memory.swap.max", "cpu.max"]
    show = " && ".join(f"cat /sys/fs/cgroup/{name}" for name in limits)
    words = ["--network", "none", "-m", "64m", "--cpus", "0.5", "busybox", "sh", "-c", show]
    ran = box("run", "--rm", *words, check=True)
    script = box("run", "--explain=script", *words, check=True).stdout
    variables = {**os.environ, "TMPDIR": _PLACE}
    done = subprocess.run(["bash", "-c", script], input="", env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ran.stdout), done.stderr
    assert ran.stdout.startswith("67108864\n")
