"""The labs show what they say, and leave nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess

from conftest import Pycontainer

MOST_LINES, WIDTH = 70, 80


def nothing_is_left(box: Pycontainer) -> bool:
    return box("ps", "-aq", check=True).stdout == ""


def transcript(box: Pycontainer, name: str, most_lines: int = MOST_LINES) -> str:
    result = box("lab", name)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    print(result.stdout)
    lines = result.stdout.splitlines()
    # But for the root's name, which is longer than an ordinary one's.
    assert [line for line in lines if len(line) > WIDTH and str(box.root) not in line] == [] and len(
        lines
    ) <= most_lines
    assert "\033" not in result.stdout
    assert nothing_is_left(box)
    return result.stdout


def test_oom(box: Pycontainer) -> None:
    text = transcript(box, "oom")
    parts = text.split("\n\n")
    assert len(parts) == 6
    assert "killed: the memory limit of 16m was reached (exit 137)" in parts[1].replace("\n    ", " ")
    # Slowed down and not killed; the child alone; none, with swap; and all.
    assert [part.count("exit status 137") for part in parts[1:]] == [1, 0, 1, 0, 1]
    assert "Up" in parts[3]
    assert "memory.swap.max  83886080" in parts[4]


def test_cpu(box: Pycontainer) -> None:
    text = transcript(box, "cpu")
    assert "cpu.max" in text and "25000 100000" in text
    throttled = [int(count) for count in re.findall(r"nr_throttled (\d+)", text)]
    assert throttled and max(throttled) > 0, "the quota held it back"


def test_io(box: Pycontainer) -> None:
    assert "wbps=4194304" in transcript(box, "io")


def test_an_interrupted_lab_leaves_nothing(box: Pycontainer) -> None:
    lab = box.popen("lab", "pids", stdout=subprocess.PIPE, text=True)
    assert lab.stdout is not None
    assert any("pids.max" in line for line in lab.stdout)
    lab.send_signal(signal.SIGINT)
    lab.communicate(timeout=60)
    assert lab.returncode == 130
    assert nothing_is_left(box)
