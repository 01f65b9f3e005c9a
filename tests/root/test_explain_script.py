"""`run --explain=script`: the script makes by itself what `run` makes, as seen from inside."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import pytest
from conftest import Pycontainer, new_directory

# What a container looks like from inside; each part behind a line with its name.
PROBE = r"""
echo == maps; cat /proc/self/uid_map /proc/self/gid_map
echo == cgroup; cat /proc/self/cgroup
echo == status; grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status
echo == mounts; cat /proc/self/mountinfo
echo == name; hostname
echo == address; ip -4 addr show dev eth0 2>/dev/null
echo == routes; ip -4 route 2>/dev/null
echo == links; ls /sys/class/net
echo == limits; ulimit -a
echo == environment; env
echo == place; pwd; umask; ls -ln /dev
echo == files; ls -lnd / /tmp /root /etc/* /v /t 2>/dev/null
echo == open; ls /proc/$$/fd
"""
HELD = {"ro", "nosuid", "nodev", "noexec"}


def parts(output: str) -> dict[str, list[str]]:
    """What a probe has said, without what differs between any two runs."""
    found: dict[str, list[str]] = {}
    for part in output.split("== ")[1:]:
        name, *lines = part.splitlines()
        found[name] = lines
    mounts = []
    for line in found["mounts"]:
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        mounts.append(f"{words[4]} {rest.split()[0]} {','.join(sorted(HELD.intersection(words[5].split(','))))}")
    found["mounts"] = sorted(mounts)
    found["address"] = re.findall(r"inet 10\.\d+\.\d+\.\d+(/\d+)", "\n".join(found["address"]))
    found["routes"] = [re.sub(r"10\.\d+\.\d+\.\d+", "ADDRESS", line) for line in found["routes"] if "eth0" in line]
    # With the host's network, bridges come and go.
    found["links"] = [name for name in found["links"] if name in ("eth0", "lo")]
    # A range of ids and a name are each container's own.
    found["maps"] = [re.sub(r"^( *0 +)\d{6,}", r"\1BASE", line) for line in found["maps"]]
    found["name"] = ["ID" if re.fullmatch(r"[0-9a-f]{12}", name) else name for name in found["name"]]
    environment = "\n".join(sorted(found["environment"]))
    found["environment"] = [re.sub(r"^HOSTNAME=[0-9a-f]{12}$", "HOSTNAME=ID", environment, flags=re.MULTILINE)]
    for name in ("place", "files"):
        # Sizes and times of directories, and times of nodes.
        found[name] = [re.sub(r" +\d+ \w{3} +\d+ [\d:]+ ", " ", line) for line in found[name]]
    # Nobody's, where the namespace of message queues is older than its maker's ids.
    found["place"] = [line for line in found["place"] if "mqueue" not in line]
    return found


def run_script(text: str, directory: str | os.PathLike[str] = "") -> subprocess.CompletedProcess:
    # No variables but these, because it is to need nothing of pycontainer's.
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(directory) or os.environ.get("TMPDIR", "/var/tmp")}
    return subprocess.run(["bash", "-c", text], env=environment, input="", capture_output=True, text=True, timeout=60)


def script(pycontainer: Pycontainer, *words: str) -> str:
    return pycontainer("run", "--rm", "--explain=script", *words, check=True).stdout


VARIANTS = [
    ("--network", "bridge"),
    ("--network", "none"),
    ("--network", "host"),
    ("-v", "kept:/v"),
    ("-v", "/usr:/v:ro", "-v", "/etc/passwd:/file:ro"),
    ("--tmpfs", "/t:size=1m", "--tmpfs", "/tmp"),
    ("--read-only", "-e", "WORDS=it's two", "-w", "/new/place"),
    ("--user", "1000:1000"),
    ("--ulimit", "nofile=100:200", "--ulimit", "core=0", "--shm-size", "1m", "--pids-limit", "-1"),
    ("--userns", "host"),
    ("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--security-opt", "no-new-privileges"),
]


@pytest.mark.parametrize("words", VARIANTS, ids=lambda words: words[0].strip("-") + words[1])
def test_it_makes_the_same(busybox: str, pycontainer: Pycontainer, words: tuple[str, ...]) -> None:
    if "--network" not in words:
        words = ("--network", "none", *words)
    command = [*words, "busybox", "sh", "-c", PROBE]
    ran = pycontainer("run", "--rm", *command, check=True)
    text = script(pycontainer, *command)
    assert pycontainer("ps", "-aq", check=True).stdout == ""
    mine = run_script(text)
    assert mine.returncode == 0, mine.stderr + text
    assert mine.stderr == ran.stderr
    expected, found = parts(ran.stdout), parts(mine.stdout)
    # Its owner is root with pycontainer and nobody with mount(8), which maps ids only since 2.39.
    for each in (expected, found):
        each["files"] = [line for line in each["files"] if not line.endswith(" /v")]
    for name in expected:
        assert found[name] == expected[name], name


def test_nothing_is_left_of_a_program_that_cannot_be_started(box: Pycontainer) -> None:
    text = script(box, "--network", "none", "busybox", "no-such-program")
    (cgroup,) = re.findall(r"^cgroup=(.*)/", text, re.MULTILINE)
    before = set(os.listdir(cgroup))
    result = run_script(text)
    assert result.returncode == 127 and "no-such-program" in result.stderr
    assert not {name for name in set(os.listdir(cgroup)) - before if name.startswith("script")}


def test_nothing_is_left_although_somebody_is_in_there(box: Pycontainer) -> None:
    """As a process that has been killed and has not ended yet."""
    begin = "mkfifo ready go\n"
    text = script(box, "--network", "none", "busybox", "true")
    assert begin in text
    directory = new_directory()
    directory.chmod(0o711)
    result = run_script(text.replace(begin, f"{begin}sleep 2 <&- >&- 2>&- &\n"), directory)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    # Without what is mounted or in it, or it could not be removed.
    directory.rmdir()


def test_status_input_and_file(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "script"
    words = ["--network", "none", "--explain-to", path, "busybox", "sh", "-c", "cat; exit 7"]
    result = box("run", "--explain=script", *words, check=True)
    assert result.stdout == result.stderr == "" and box("ps", "-aq", check=True).stdout == ""
    done = subprocess.run(["bash", path], input="passed on", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (7, "passed on"), done.stderr


def test_anonymous_volume(box: Pycontainer) -> None:
    """It is the script's own, and has what the image has there."""
    command = "cat /etc/passwd; touch /etc/new"
    result = run_script(script(box, "--network", "none", "-v", "/etc", "busybox", "sh", "-c", command))
    assert result.returncode == 0 and "root:" in result.stdout, result.stderr
    assert box("volume", "ls", "-q", check=True).stdout == ""


def test_other_commands_print_none(box: Pycontainer) -> None:
    box("create", "--name", "made", "--network", "none", "busybox", "true", check=True)
    for words in (("start", "--explain=script", "made"), ("exec", "--explain=script", "made", "true")):
        result = box(*words)
        assert result.returncode != 0 and "only `run` and `create`" in result.stderr, result.stderr
    box("rm", "made", check=True)


def test_create_prints_the_same_and_explains_nothing_else(box: Pycontainer) -> None:
    words = ["--network", "none", "--hostname", "told", "busybox", "true"]
    # But for the range of ids.
    made, ran = (
        re.sub(r"\b\d{7,}\b", "BASE", box(verb, "--explain=script", *words, check=True).stdout)
        for verb in ("create", "run")
    )
    assert made == ran
    result = box("create", "--explain", *words)
    assert result.returncode != 0 and "nothing is done to explain" in result.stderr
    assert box("ps", "-aq", check=True).stdout == ""
