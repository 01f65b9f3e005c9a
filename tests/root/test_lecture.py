"""`--explain` as a lecture: what it tells to look at is there while the container runs."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from conftest import REPOSITORY, Pycontainer, wait_until

from pycontainer.cli.lecture import Lecture

MOST_LINES, WIDTH = 60, 80


def commands(text: str, sign: str) -> list[str]:
    """Those after the sign, unfolded."""
    joined = re.sub(r" \\\n +│ +", " ", text)
    return re.findall(rf"│ {re.escape(sign)} (.*)$", joined, re.MULTILINE)


def steps(text: str) -> list[tuple[int, str]]:
    """Number and side of each."""
    return [(int(number), side) for number, side in re.findall(r"^ ?(\d+) +(host|container) │", text, re.MULTILINE)]


def read_terminal(terminal: int) -> bytes:
    assert select.select([terminal], [], [], 60)[0], "nothing more comes"
    return os.read(terminal, 4096)


def explained(pycontainer: Pycontainer, *words: str) -> str:
    return pycontainer("run", "--rm", *words, "busybox", "true", check=True).stderr


def as_installed(pycontainer: Pycontainer, *words: str) -> str:
    """What is told where root and bridge have the names that they have in an installation."""
    explained(pycontainer)
    text = explained(pycontainer, *words, "--explain=json")
    for mine, theirs in (
        (str(pycontainer.root), "/var/lib/pycontainer"),
        (str(pycontainer.state), "/run/pycontainer"),
        (f"/{pycontainer.state.name}/", "/pycontainer/"),
        (pycontainer.environment["PYCONTAINER_BRIDGE"], "pyc0"),
    ):
        text = text.replace(mine, theirs)
    found: list[str] = []
    lecture = Lecture(found.append, lambda: None, width=WIDTH, bold=False)
    for line in text.splitlines():
        lecture.take(json.loads(line))
    lecture.flush()
    return "".join(found)


def test_it_is_short(busybox: str, pycontainer: Pycontainer) -> None:
    text = as_installed(pycontainer)
    lines = text.splitlines()
    assert len(lines) <= MOST_LINES, text
    assert max(map(len, lines)) <= WIDTH
    assert [number for number, _ in steps(text)] == [*range(1, 13)]
    sides = [side for _, side in steps(text)]
    assert sides == ["host"] * 4 + ["container"] * 4 + ["host"] + ["container"] * 2 + ["host"]
    assert "\033" not in text and "{" not in text


def test_the_readme_shows_it(busybox: str, pycontainer: Pycontainer) -> None:
    spec = importlib.util.spec_from_file_location("explain", REPOSITORY / "docs/explain.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    today = script.page(as_installed(pycontainer))
    assert script.shape(script.shown()) == script.shape(today), f"sudo {script.COMMAND} 2>&1 | docs/explain.py"


# What a command prints, by how it begins: the step's own claim.
SHOWN = {
    "ip -br address show": r"10\.99\.",
    "findmnt -N $PID -o FSTYPE,OPTIONS": r"overlay .*lowerdir=",
    "cat": r"^\d+$",
    "PID=": r"(?s)mnt.*pid|pid.*mnt",
    "nsenter -t $PID -u hostname": r"^told$",
    "findmnt -N $PID -o TARGET": r"(?s)(?=.*/proc +proc)(?=.*/sys +sysfs)",
    "grep ' /proc/'": r" /proc/\w+ ",
    "ls /proc": r"(?s)bin.*proc",
    "nsenter -t $PID -n ip": r"eth0@.* UP .*10\.99\.",
    "grep Cap": r"CapEff:\s+00000000a80425fb",
    "tr": r"sleep 600",
}


@pytest.mark.parametrize("options", [(), ("--userns=host",), ("--network", "none", "--read-only")])
def test_each_look_shows_what_the_step_says(busybox: str, pycontainer: Pycontainer, options: tuple[str, ...]) -> None:
    words = ["run", "-d", "--name", "told", "--hostname", "told", "--explain", *options, "busybox", "sleep", "600"]
    text = pycontainer(*words, check=True).stderr
    try:
        looks = commands(text, "?")
        assert len(looks) == (9 if "none" in options else 11)
        names = "\n".join(re.findall(r"^(ID=\w+)$|(PID=\d+);", text, re.MULTILINE)[0]).strip()
        pid = re.findall(r"PID=(\d+);", text)[0]
        for look in looks:
            wanted = next(pattern for begin, pattern in SHOWN.items() if look.startswith(begin))
            # More than once, because lsns(1) shows nothing when any process of the machine ends while it is read.
            for _ in range(5):
                done = subprocess.run(["bash", "-c", f"PID={pid}; {names}; {look}"], capture_output=True, text=True)
                if done.stdout:
                    break
            assert re.search(wanted, done.stdout, re.MULTILINE), f"{look}: {done.stdout}{done.stderr}"
    finally:
        pycontainer("rm", "-f", "told", check=True)


def test_commands_can_be_parsed(pycontainer: Pycontainer, busybox: str) -> None:
    text = explained(pycontainer, "--explain", "--privileged", "-v", "/tmp:/v")
    for command in (*commands(text, "$"), *commands(text, "?")):
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0 and "…" not in command, f"{command}: {done.stderr}"


def test_the_end_is_told(box: Pycontainer) -> None:
    text = explained(box, "--explain", "--network", "none")
    assert steps(text)[-1] == (10, "host") and "Put it away" in text
    assert commands(text, "$")[-1].startswith("rmdir ")


def test_a_container_that_is_left_running_has_no_end(box: Pycontainer) -> None:
    words = ["run", "-d", "--explain", "--name", "left", "--network", "none", "busybox", "sleep", "600"]
    text = box(*words, check=True).stderr
    assert "Become the program" in text and "Put it away" not in text
    box("rm", "-f", "left", check=True)


def test_what_the_program_says_comes_after(box: Pycontainer) -> None:
    result = box("run", "--rm", "--explain", "--network", "none", "busybox", "sh", "-c", "echo mine >&2", check=True)
    before, _, after = result.stderr.partition("mine\n")
    assert before.splitlines()[-1].endswith("cmdline") and "Put it away" in after


def test_to_a_file(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    words = ["--network", "none", "--explain-to", str(tmp_path / "told")]
    assert explained(box, *words) == ""
    assert "Become the program" in (tmp_path / "told").read_text()
    assert explained(box, *words, "--explain=calls") == ""
    assert "pivot_root(" in (tmp_path / "told").read_text()
    result = box("run", "--rm", "--explain-to", "/no/such/file", "busybox", "true")
    assert result.returncode == 125 and "--explain-to: /no/such/file: no such file" in result.stderr


def test_as_json(box: Pycontainer) -> None:
    records = [json.loads(line) for line in explained(box, "--network", "none", "--explain=json").splitlines()]
    assert {record["side"] for record in records if "side" in record} == {"host", "container"}
    clone = next(record for record in records if record.get("operation") == "Clone")
    assert clone["calls"][0].startswith("clone3(") and clone["shell"] and clone["reason"]
    assert len({record["pid"] for record in records}) >= 2 and 1 not in {record["pid"] for record in records}


def test_a_start_is_told_too(box: Pycontainer) -> None:
    box("create", "--name", "again", "--network", "none", "busybox", "true", check=True)
    text = box("start", "-a", "--explain", "again", check=True).stderr
    assert [number for number, _ in steps(text)] == [*range(1, 11)]
    box("rm", "again", check=True)


@pytest.mark.parametrize("options", [(), ("-t",), ("-d",), ("-u", "nobody")])
def test_one_more_program_is_told_too(box: Pycontainer, options: tuple[str, ...]) -> None:
    box("run", "-d", "--name", "host", "--network", "none", "busybox", "sleep", "600", check=True)
    words = ["exec", "--explain", *options, "host", "sleep", "5"]
    process = box.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        text = ""
        while "cmdline" not in text:
            text += process.stderr.readline()
        assert [side for _, side in steps(text)] == ["host", "container", "container"]
        assert any(command.startswith("nsenter -") for command in commands(text, "$")), text
        assert "beside PID 1" in " ".join(text.replace("│", "").split())
        (look,) = commands(text, "?")
        assert look.startswith("PID=")

        def shown() -> bool:
            # What is explained stands before what happens, and so the program may not be there yet.
            return subprocess.run(["bash", "-c", look], capture_output=True, text=True).stdout == "sleep 5 "

        wait_until(shown)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        box("rm", "-f", "host", check=True)


def test_a_failure_comes_after_the_step_in_which_it_was(box: Pycontainer) -> None:
    result = box("run", "--rm", "--explain", "--network", "none", "busybox", "no-such-program")
    assert result.returncode == 127
    assert "Exchange the root" in result.stderr and "Become the program" not in result.stderr
    assert result.stderr.splitlines()[-2].startswith("pycontainer: ") or "not found" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--explain=loud",), "no such style"),
        (("--explain=step",), "standard input is no terminal"),
        (("-i", "--explain=step"), "the program reads the keys"),
    ],
)
def test_what_is_refused(box: Pycontainer, words: tuple[str, ...], cause: str) -> None:
    result = box("run", "--rm", *words, "busybox", "true")
    assert result.returncode == 125 and cause in result.stderr


def test_step_by_step(box: Pycontainer) -> None:
    terminal, end = pty.openpty()
    words = ["run", "--rm", "--network", "none", "--explain=step", "busybox", "true"]
    process = box.popen(*words, stdin=end, stdout=end, stderr=end)
    os.close(end)
    try:
        text = b""
        for number in range(1, 11):
            while text.count(b"(any key)") < number:
                text += read_terminal(terminal)
            assert f"{number:2} ".encode() in text and f"\n{number + 1:2} ".encode() not in text
            os.write(terminal, b" ")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_killed_while_it_waits_for_a_key(box: Pycontainer) -> None:
    """The client and who explains are killed: the start goes on, and nothing of it is left."""
    terminal, end = pty.openpty()
    words = ["run", "--rm", "--network", "none", "--explain=step", "busybox", "true"]
    process = box.popen(*words, stdin=end, stdout=end, stderr=end)
    os.close(end)
    try:
        while b"(any key)" not in read_terminal(terminal):
            pass
        for child in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        process.kill()
        process.wait()
        wait_until(lambda: box("ps", "-aq", check=True).stdout == "")
    finally:
        os.close(terminal)


def test_nobody_reads_it(box: Pycontainer) -> None:
    read, write = os.pipe()
    process = box.popen("run", "--rm", "--network", "none", "--explain", "busybox", "true", stderr=write)
    os.close(write)
    os.close(read)
    started = time.monotonic()
    assert process.wait(60) == 0, time.monotonic() - started
