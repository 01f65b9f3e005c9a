"""`stats` where every controller is in cgroup v2."""

from __future__ import annotations

import json

from conftest import Pycontainer, wait_until


def test_memory_and_processor(box: Pycontainer) -> None:
    take = "dd if=/dev/zero of=/tmp/cache bs=1M count=20; dd if=/dev/zero of=/dev/shm/kept bs=1M count=8"
    work = f"{take}; while :; do :; done"
    options = ["-d", "--name", "busy", "--network", "none", "-m", "64m", "busybox", "sh", "-c", work]
    box("run", *options, check=True)
    try:
        wait_until(lambda: "8388608" in box("exec", "busy", "ls", "-l", "/dev/shm").stdout)
        result = box("stats", "--no-stream", "--format", "json", "busy", check=True)
        (found,) = map(json.loads, result.stdout.splitlines())
        # The clock of the guest and the time that it gets are the host's business, and so the least is low.
        assert 50 < float(found["CPUPerc"].removesuffix("%")) < 110
        used, limit = found["MemUsage"].split(" / ")
        assert limit == "64MiB" and 8 <= float(used.removesuffix("MiB")) < 20, "the page cache does not count"
        assert "shmem 8MiB" in found["MemParts"] and found["Swap"] == "0B"
        assert (found["PIDs"], result.stderr) == ("1", "")
        assert float(found["MemPeak"].removesuffix("MiB")) >= 28
        assert "--" not in found["BlockIO"]
    finally:
        box("rm", "-f", "busy", check=True)


def test_the_plot_of_memory(box: Pycontainer) -> None:
    take = "sleep 1; dd if=/dev/zero of=/dev/shm/kept bs=1M count=40; sleep 600"
    options = ["-d", "--name", "grows", "--network", "none", "-m", "64m", "busybox", "sh", "-c", take]
    box("run", *options, check=True)
    try:
        wait_until(lambda: "41943040" in box("exec", "grows", "ls", "-l", "/dev/shm").stdout)
        lines = box("stats", "--plot", "--no-stream", "grows", check=True).stdout.splitlines()
        title, plot = lines[0].strip(), lines[1:]
        assert title.startswith("grows: memory 4") and title.endswith("m of 64m, with the page cache")
        # Its scale goes up to the limit, where the line is.
        assert any(line.startswith("64.0├──") for line in plot), plot
        assert any(0x2800 < ord(each) < 0x2900 for line in plot for each in line)
        assert "% of a processor" in lines[-1]
    finally:
        box("rm", "-f", "grows", check=True)
