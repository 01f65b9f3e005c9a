"""`stats`: once, as lines, and as a table that is drawn again and again."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

from conftest import Pycontainer, is_unified

USAGE = "{{.Name}} {{.PIDs}} {{.MemUsage}} {{.BlockIO}}"


def test_once(busybox: str, pycontainer: Pycontainer) -> None:
    pycontainer("run", "-d", "--name", "web", "busybox", "sleep", "600", check=True)
    pycontainer("run", "-d", "--name", "shared", "--network", "host", "busybox", "sleep", "600", check=True)
    pycontainer("create", "--name", "later", "--network", "none", "busybox", "true", check=True)
    pycontainer("exec", "web", "ping", "-c", "1", "-s", "5000", "-w", "5", "10.99.0.1")
    try:
        result = pycontainer("stats", "-a", "--no-stream", "--format", "json", check=True)
        web, shared, later = (
            next(row for row in map(json.loads, result.stdout.splitlines()) if row["Name"] == name)
            for name in ("web", "shared", "later")
        )
        assert web["CPUPerc"].endswith("%") and web["Container"] == web["ID"] and len(web["ID"]) == 12
        # Of processors, memory and disks; a kernel without pressure stall information has no such directory.
        assert web["Pressure"].count("%") == 3 or not os.path.exists("/proc/pressure")
        assert shared["NetIO"] == "--", "it has the host's network"
        assert web["NetIO"] != "0B / 0B", "its own eth0 has sent and received"
        assert {later[name] for name in ("CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")} == {"--"}
        if not is_unified():
            assert web["MemUsage"] == web["PIDs"] == web["BlockIO"] == "--"
            assert "memory, io, pids cannot be read, on cgroup v1 (/sys/fs/cgroup/" in result.stderr
        result = pycontainer("stats", "--no-stream", "--no-trunc", "--format", "{{.Container}} {{len .ID}}", "web")
        assert (result.stdout, result.stderr) == ("web 64\n", ""), "what is not shown needs no reason"
        result = pycontainer("stats", "--no-stream", "web", "nobody")
        assert result.returncode == 1 and "nobody" in result.stderr
    finally:
        pycontainer("rm", "-f", "web", "shared", "later", check=True)


def test_lines_until_the_last_is_gone(box: Pycontainer) -> None:
    box("run", "-d", "--name", "brief", "--network", "none", "busybox", "sleep", "600", check=True)
    words = ["stats", "--format", "{{.Name}} {{.NetIO}}", "brief"]
    with box.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == process.stdout.readline() == "brief 0B / 0B\n"
        box("rm", "-f", "brief", check=True)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_table_on_a_terminal(box: Pycontainer) -> None:
    def drawn_until(text: bytes) -> bytes:
        found = b""
        while text not in found:
            found += os.read(terminal, 4096)
        return found

    terminal, end = pty.openpty()
    process = box.popen("stats", stdin=end, stdout=end, stderr=end)
    os.close(end)
    try:
        assert b"\x1b[H\x1b[JCONTAINER ID" in drawn_until(b"PIDS")
        box("run", "-d", "--name", "comes", "--network", "none", "busybox", "sleep", "600", check=True)
        drawn_until(b"comes")
        box("rm", "-f", "comes", check=True)
        drawn_until(b"\x1b[H\x1b[J")
        assert b"comes" not in drawn_until(b"PIDS")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_a_plot_until_the_container_ends(box: Pycontainer) -> None:
    terminal, end = pty.openpty()
    box("run", "-d", "--name", "drawn", "--network", "none", "busybox", "sleep", "600", check=True)
    process = box.popen("stats", "--plot", "drawn", stdin=end, stdout=end, stderr=end)
    os.close(end)
    try:
        found = b""
        while b"seconds of the run" not in found:
            found += os.read(terminal, 4096)
        text = found.decode()
        assert "drawn: 0 % of a processor" in text and any(0x2800 <= ord(each) < 0x2900 for each in text), text
        box("rm", "-f", "drawn", check=True)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_what_is_not_drawn(box: Pycontainer) -> None:
    box("create", "--name", "later", "--network", "none", "busybox", "true", check=True)
    result = box("stats", "--plot", "later")
    assert result.returncode == 1 and "draw: later: it is not running" in result.stderr
    assert "no such container" in box("stats", "--plot", "nobody").stderr
    for words in ((), ("-a", "later"), ("--format", "json", "later"), ("later", "later")):
        result = box("stats", "--plot", *words)
        assert "it draws one container" in result.stderr and result.stdout == ""
