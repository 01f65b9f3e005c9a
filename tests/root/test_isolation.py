"""What a container can see and do: little. And what --privileged, --cap-add and --userns=host change."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
import tiny_elf
from conftest import Pycontainer
from tiny_elf import needs_x86_64

from pycontainer.kernel import capability
from pycontainer.runtime.defaults import CAPABILITIES, MASKED_PATHS, READONLY_PATHS


def run(box: Pycontainer, script: str, *options: str) -> subprocess.CompletedProcess:
    return box("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", script)


def output(box: Pycontainer, script: str, *options: str) -> str:
    result = run(box, script, *options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_only_its_own_processes(box: Pycontainer) -> None:
    # The pattern is the shell's own, so that no second process is there.
    assert output(box, "echo /proc/[0-9]*; cat /proc/1/comm; true") == "/proc/1\nsh\n"
    assert output(box, "ps -o comm; true").split() == ["COMMAND", "sh", "ps"]


def test_namespaces_of_its_own(box: Pycontainer) -> None:
    names = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
    found = output(box, f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done").split()
    for name, link in zip(names, found, strict=True):
        assert link.startswith(f"{name}:[")
        assert link != os.readlink(f"/proc/self/ns/{name}")
    assert output(box, "cat /proc/self/cgroup").splitlines()[-1] == "0::/"


FORBIDDEN = {
    "mount": "mount -t tmpfs none /tmp",
    "remount": "mount -o remount,rw /sys",
    "bind": "mount --bind /etc /tmp",
    "umount": "umount /proc/kcore",
    "sethostname": "hostname other",
    "module": "insmod /etc/passwd",
    "chroot out of it": "ls /proc/1/root/../../var/tmp | grep pycontainer",
    "write to /proc/sys": "echo 1 > /proc/sys/kernel/panic",
    "write to its own /proc/sys": "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "write to /sys": "echo 1 > /sys/kernel/mm/ksm/run",
    "make a directory in /sys": "mkdir /sys/fs/cgroup/x",
    "sysrq": "echo b > /proc/sysrq-trigger",
    "kernel log": "dmesg | grep .",
    "set the clock": "date -s @$(date +%s) 2>&1 | grep -q 'not permitted' && exit 1",
    "device": "mknod /tmp/sda b 8 0",
    "memory": "cat /dev/mem",
    "reboot": "reboot -f",
    "swap": "swapoff -a && test -e /proc/swaps && false",
    "raw io": "cat /proc/kcore | grep .",
    "lower oom score": "echo -1000 > /proc/self/oom_score_adj",
    "link": "ip addr add 192.0.2.1/32 dev lo",
    "nice": "nice -n -10 true 2>&1 | grep . && false",
}


@pytest.mark.parametrize("script", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_is_forbidden_fails(box: Pycontainer, script: str) -> None:
    result = run(box, script)
    assert result.returncode not in (0, 125, 126, 127), result.stdout


def test_masked_paths_show_nothing(box: Pycontainer) -> None:
    script = "for p in %s; do if [ -d $p ]; then ls -A $p; elif [ -e $p ]; then cat $p; fi; done; true"
    result = run(box, script % " ".join(MASKED_PATHS))
    assert result.stdout == ""
    existing = [path for path in MASKED_PATHS if os.path.exists(path)]
    mounts = {line.split()[4] for line in output(box, "cat /proc/self/mountinfo").splitlines()}
    # A path that only the host's network or user namespace shows is not there to be masked.
    assert {"/proc/keys", "/proc/timer_list"} & set(existing) <= mounts


def test_read_only_paths(box: Pycontainer) -> None:
    mounts = {line.split()[1]: line.split()[3].split(",") for line in output(box, "cat /proc/mounts").splitlines()}
    for path in READONLY_PATHS:
        if os.path.exists(path):
            assert "ro" in mounts[path], path
    for path in ("/sys", "/sys/fs/cgroup"):
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(mounts[path])
    assert {"nosuid", "nodev", "noexec"} <= set(mounts["/proc"])


def test_no_mount_tells_of_the_host(box: Pycontainer) -> None:
    """Nothing is mounted but what config.json says."""
    mounts = [line.split()[1] for line in output(box, "cat /proc/mounts").splitlines()]
    allowed = ("/", "/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    for place in mounts:
        assert place in allowed or place.startswith(("/proc/", "/dev/", "/sys/")), place


def test_devices(box: Pycontainer) -> None:
    names = output(box, "ls /dev").split()
    assert set(names) == {
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    }  # fmt: skip
    script = """
    echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c
    echo x > /dev/full 2>/dev/null || echo full; stat -c '%a %u' /dev/null /dev/shm
    touch /dev/shm/x && echo shm; test -L /dev/stdin && test -e /dev/fd/0 && echo links
    """
    assert output(box, script).split() == ["4", "4", "full", "666", "65534", "1777", "0", "shm", "links"] or output(
        box, script
    ).split() == ["4", "4", "full", "666", "0", "1777", "0", "shm", "links"]


def masks(box: Pycontainer, *options: str) -> dict[str, int]:
    text = output(box, "grep -E '^(Cap|NoNewPrivs)' /proc/self/status", *options)
    return {key: int(value, 16) for key, value in (line.split(":\t") for line in text.splitlines())}


DEFAULT = capability.mask(CAPABILITIES)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], DEFAULT),
        (["--cap-add", "NET_ADMIN"], DEFAULT | capability.mask(["CAP_NET_ADMIN"])),
        (["--cap-drop", "chown"], DEFAULT & ~capability.mask(["CAP_CHOWN"])),
        (["--cap-drop", "ALL"], 0),
        (["--cap-drop", "ALL", "--cap-add", "KILL"], capability.mask(["CAP_KILL"])),
        (["--cap-add", "ALL"], capability.mask(capability.available(True))),
        (["--userns", "host"], DEFAULT),
        (["--privileged"], capability.mask(capability.available(False))),
    ],
)
def test_capabilities(box: Pycontainer, options: list[str], expected: int) -> None:
    found = masks(box, *options)
    assert found["CapEff"] == found["CapPrm"] == found["CapBnd"] == expected
    assert found["CapInh"] == found["CapAmb"] == 0


def test_capabilities_of_an_ordinary_user(box: Pycontainer) -> None:
    found = masks(box, "-u", "nobody")
    assert found["CapEff"] == found["CapPrm"] == found["CapInh"] == found["CapAmb"] == 0
    assert found["CapBnd"] == DEFAULT


def test_capabilities_do_what_they_say(box: Pycontainer) -> None:
    assert run(box, "chown 5:5 /tmp", "--cap-drop", "CHOWN").returncode == 1
    assert run(box, "chown 5:5 /tmp").returncode == 0
    assert run(box, "ip addr add 192.0.2.1/32 dev lo", "--cap-add", "NET_ADMIN").returncode == 0
    assert run(box, "mount -t tmpfs none /tmp && touch /tmp/x", "--cap-add", "SYS_ADMIN").returncode == 0
    assert run(box, "hostname other && hostname", "--cap-add", "SYS_ADMIN").stdout == "other\n"


@needs_x86_64
@pytest.mark.parametrize(("options", "status"), [([], 0), (["--security-opt", "no-new-privileges"], 1)])
@pytest.mark.parametrize("userns", [[], ["--userns", "host"]])
def test_a_setuid_program_makes_nobody_root_unless_it_may_not(
    box: Pycontainer, tmp_path: pathlib.Path, options: list[str], userns: list[str], status: int
) -> None:
    tmp_path.chmod(0o755)
    tiny_elf.write(tmp_path / "is-root", tiny_elf.IS_ROOT, 0o4755)
    arguments = ["-v", f"{tmp_path}/is-root:/is-root", *userns, *options]
    assert run(box, "/is-root", *arguments).returncode == 0
    result = run(box, "grep NoNewPrivs /proc/self/status; exec /is-root", *arguments, "-u", "nobody")
    assert result.stdout.split() == ["NoNewPrivs:", str(status)]
    assert result.returncode == status


def test_a_user_namespace_gives_no_devices_away(box: Pycontainer) -> None:
    assert run(box, "mknod /tmp/null c 1 3", "--cap-add", "ALL").returncode == 1


@pytest.mark.parametrize("options", [["--userns", "host"], ["--userns", "host", "--cap-add", "ALL"]])
def test_the_device_filter_holds_without_a_user_namespace(box: Pycontainer, options: list[str]) -> None:
    """mknod is granted and useless: the open is refused, on a file system that would allow it too."""
    script = """
    mknod /dev/mem2 c 1 1 && mknod /dev/null2 c 1 3 || exit 3
    head -c 1 /dev/mem2 2>&1; echo $?
    echo x > /dev/null2 && echo null
    mknod /dev/kmsg2 c 1 11; head -c 1 /dev/kmsg2 2>&1; echo $?
    """
    found = output(box, script, *options)
    assert found.count("Operation not permitted") == 2, found
    assert found.count("\n1\n") == 2
    assert "null\n" in found


def test_privileged_has_the_hosts_devices(box: Pycontainer) -> None:
    script = """
    ls /dev; cat /proc/self/uid_map
    mknod /tmp/null c 1 3 && mount -t tmpfs none /tmp && echo mounted; head -c 1 /dev/kmsg >/dev/null && echo kmsg
    """
    found = set(output(box, script, "--privileged").split())
    host = {entry.name for entry in pathlib.Path("/dev").iterdir() if entry.is_char_device() or entry.is_block_device()}
    assert host - {"console"} <= found
    assert {"4294967295", "mounted"} <= found


def test_userns_host_is_the_hosts_ids(box: Pycontainer) -> None:
    assert output(box, "cat /proc/self/uid_map", "--userns", "host").split() == ["0", "0", "4294967295"]
    found = run(box, "mount -t tmpfs none /tmp; hostname x", "--userns", "host")
    assert found.returncode != 0
    for script in ("echo 1 > /proc/sys/kernel/panic", "echo 1 > /sys/kernel/mm/ksm/run", "cat /proc/kcore | grep ."):
        assert run(box, script, "--userns", "host").returncode != 0


def test_a_session_of_its_own(box: Pycontainer) -> None:
    """In the caller's session a program could push input into the caller's terminal: ioctl_tty(2), TIOCSTI."""
    pid, *_, group, session = output(box, "cut -d ' ' -f 1,4,5,6 /proc/1/stat").split()
    assert (pid, group, session) == ("1", "1", "1")


def test_userns_host_has_a_null_device_of_its_own(box: Pycontainer) -> None:
    """The program's input is one where nobody gives it another, and root in the container is root of the host."""
    host = os.stat("/dev/null")
    found = run(box, "stat -Lc '%d %i' /proc/self/fd/0; chmod 600 /proc/self/fd/0", "--userns", "host")
    assert found.returncode == 0, found.stderr
    device, inode = map(int, found.stdout.split())
    assert (device, inode) != (host.st_dev, host.st_ino)
    assert os.stat("/dev/null").st_mode == host.st_mode


@pytest.mark.parametrize("userns", [[], ["--userns", "host"]])
@pytest.mark.parametrize("target", ["/dev", "/devices"])
def test_what_is_bound_over_dev_is_left_alone(
    pycontainer: Pycontainer, busybox: str, tmp_path: pathlib.Path, userns: list[str], target: str
) -> None:
    tmp_path.chmod(0o755)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").touch()
    image = busybox
    if target != "/dev":
        pycontainer("run", "--name", "base", "--network", "none", busybox, "ln", "-s", "/dev", "/devices", check=True)
        image = pycontainer("commit", "base", check=True).stdout.strip()
        pycontainer("rm", "base", check=True)
    result = pycontainer("run", "--rm", "--network", "none", *userns, "-v", f"{mine}:{target}", image, "ls", "/dev")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "file\n"
    assert os.listdir(mine) == ["file"]
