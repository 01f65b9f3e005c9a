"""`run` as its user sees it: streams, exit statuses, signals, users, directories, environment, network."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import signal
import sqlite3
import subprocess

import pytest
import tiny_elf
from conftest import COMMAND, SESSION, Pycontainer, wait_until
from tiny_elf import needs_x86_64

from pycontainer.kernel import cgroup

SECONDS = 60  # a generous limit for what takes a fraction of one
# Says ready once the first process is sleep(1): the shell before it catches SIGINT.
SLEEP = "(until grep -q ^sleep /proc/1/cmdline; do :; done; echo ready) & exec sleep 1000"


def run(box: Pycontainer, *arguments: str, **keywords) -> subprocess.CompletedProcess:
    return box("run", "--rm", "--network", "none", *arguments, **keywords)


def output(box: Pycontainer, script: str, *options: str, **keywords) -> str:
    """What a shell script in a container prints; it must succeed and be quiet on stderr."""
    result = run(box, *options, "busybox", "sh", "-c", script, check=True, **keywords)
    assert result.stderr == ""
    return result.stdout


def start(box: Pycontainer, *arguments: str, **keywords) -> subprocess.Popen:
    """A container in the background whose program has said `ready`."""
    process = box.popen(
        "run", "--rm", "--network", "none", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, **keywords,
    )  # fmt: skip
    assert process.stdout.readline() == b"ready\n", process.stderr.read()
    return process


def finish(process: subprocess.Popen) -> tuple[int, bytes, bytes]:
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        # Nothing where it has ended; and no test that fails leaves a container to the others.
        process.kill()
    return process.returncode, out, err


class TestExitStatus:
    @pytest.mark.parametrize(
        ("script", "status"),
        [
            ("true", 0),
            ("exit 42", 42),
            ("exit 255", 255),
            ("sh -c 'kill -KILL $$'; exit $?", 137),
            ("sh -c 'kill -SEGV $$'; exit $?", 139),
        ],
    )
    def test_is_the_programs(self, box: Pycontainer, script: str, status: int) -> None:
        result = run(box, "busybox", "sh", "-c", script)
        assert result.returncode == status

    @needs_x86_64
    def test_of_a_first_process_that_crashes(self, box: Pycontainer, tmp_path: pathlib.Path) -> None:
        tiny_elf.write(tmp_path / "crash", tiny_elf.CRASH)
        assert run(box, "-v", f"{tmp_path}/crash:/crash:ro", "busybox", "/crash").returncode == 139

    @pytest.mark.parametrize(
        ("command", "status", "text"),
        [
            ("bogus", 127, "exec: bogus: executable file not found"),
            ("/bogus", 127, "exec: /bogus: no such file or directory"),
            ("/etc/passwd/x", 127, "exec: /etc/passwd/x: no such file or directory"),
            ("/etc/passwd", 126, "exec: /etc/passwd: permission denied"),
            ("/etc", 126, "exec: /etc: permission denied"),
        ],
    )
    def test_of_what_cannot_be_executed(self, box: Pycontainer, command: str, status: int, text: str) -> None:
        result = run(box, "busybox", command)
        assert result.returncode == status
        assert text in result.stderr
        assert len(result.stderr.splitlines()) <= 2

    def test_of_what_is_no_program(self, box: Pycontainer, tmp_path: pathlib.Path) -> None:
        for name, data, status, text in (
            ("text", b"just words\n", 126, "exec format error"),
            ("script", b"#!/no/such/shell\n", 127, "its interpreter /no/such/shell does not"),
        ):
            (tmp_path / name).write_bytes(data)
            (tmp_path / name).chmod(0o755)
            result = run(box, "-v", f"{tmp_path}:/t", "busybox", f"/t/{name}")
            assert result.returncode == status, name
            assert text in result.stderr
            assert len(result.stderr.splitlines()) <= 2

    def test_of_a_container_that_is_removed_by_force(self, box: Pycontainer) -> None:
        process = start(box, "--name", "victim", "busybox", "sh", "-c", SLEEP)
        assert box("rm", "-f", "victim", check=True).stdout == "victim\n"
        assert finish(process)[0] == 137


class TestStreams:
    def test_stdout_and_stderr_stay_apart(self, box: Pycontainer) -> None:
        result = run(box, "busybox", "sh", "-c", "echo out; echo err >&2")
        assert (result.stdout, result.stderr, result.returncode) == ("out\n", "err\n", 0)

    def test_every_byte_passes_both_ways(self, box: Pycontainer) -> None:
        data = bytes(range(256)) * 3
        result = run(box, "-i", "busybox", "sh", "-c", "tee /dev/stderr", input=data, text=False)
        assert (result.stdout, result.stderr) == (data, data)

    def test_ten_megabytes_pass_unchanged(self, box: Pycontainer) -> None:
        data = os.urandom(10 << 20)
        result = run(box, "-i", "busybox", "cat", input=data, text=False)
        assert result.returncode == 0
        assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()

    def test_the_end_of_the_input_arrives(self, box: Pycontainer) -> None:
        assert run(box, "-i", "busybox", "wc", "-c", input="12345").stdout.strip() == "5"
        assert run(box, "-i", "busybox", "wc", "-c", input="").stdout.strip() == "0"

    def test_without_i_there_is_no_input(self, box: Pycontainer) -> None:
        assert run(box, "busybox", "wc", "-c", input="12345").stdout.strip() == "0"

    def test_input_that_nobody_reads(self, box: Pycontainer) -> None:
        result = run(box, "-i", "busybox", "true", input=b"x" * (1 << 20), text=False)
        assert (result.returncode, result.stderr) == (0, b"")

    def test_input_that_is_read_in_part(self, box: Pycontainer) -> None:
        result = run(box, "-i", "busybox", "head", "-c", "3", input=b"abcdef" * 100_000, text=False)
        assert (result.returncode, result.stdout) == (0, b"abc")

    def test_input_that_never_ends_keeps_nobody_waiting(self, box: Pycontainer) -> None:
        reader, writer = os.pipe()
        try:
            process = box.popen("run", "--rm", "--network", "none", "-i", "busybox", "true", stdin=reader)
            assert process.wait(SECONDS) == 0
        finally:
            os.close(reader)
            os.close(writer)

    def test_a_reader_that_goes_away(self, box: Pycontainer) -> None:
        """As in `run … yes | head -1`."""
        process = start(box, "busybox", "sh", "-c", "echo ready; exec yes")
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(SECONDS) != 0
        errors = process.stderr.read().decode()
        assert "Traceback" not in errors
        assert len(errors.splitlines()) <= 2

    def test_output_of_a_process_that_outlives_nobody(self, box: Pycontainer) -> None:
        """What the first process leaves behind dies with it, and its open pipe holds nobody up."""
        result = run(box, "busybox", "sh", "-c", "sleep 1000 & echo done")
        assert (result.returncode, result.stdout) == (0, "done\n")

    def test_a_closed_stdin_stdout_or_stderr(self, box: Pycontainer) -> None:
        for redirection in ("<&-", ">&-", "2>&-"):
            container = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 5"]
            result = subprocess.run(
                ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *container],
                env={**os.environ, **box.environment},
                timeout=SECONDS,
                capture_output=True,
            )
            assert result.returncode == 5, (redirection, result.stderr)

    def test_dev_stdout_can_be_opened_by_every_user(self, box: Pycontainer) -> None:
        for user in ("root", "nobody"):
            result = run(box, "-u", user, "busybox", "sh", "-c", "echo a > /dev/stdout; echo b > /dev/stderr")
            assert (result.stdout, result.stderr) == ("a\n", "b\n"), user


class TestSignals:
    HANDLER = "trap 'echo got; exit 7' TERM INT HUP USR1; echo ready; while :; do sleep 0.05; done"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
    def test_a_handler_gets_it(self, box: Pycontainer, number: int) -> None:
        process = start(box, "busybox", "sh", "-c", self.HANDLER)
        process.send_signal(number)
        assert finish(process)[:2] == (7, b"got\n")

    @pytest.mark.parametrize(
        ("number", "status"),
        [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)],
    )
    def test_without_a_handler_it_ends_the_container(self, box: Pycontainer, number: int, status: int) -> None:
        process = start(box, "busybox", "sh", "-c", SLEEP)
        process.send_signal(number)
        code, _, errors = finish(process)
        assert (code, errors) == (status, b"")

    def test_an_ignored_signal_is_ignored(self, box: Pycontainer) -> None:
        process = start(
            box, "busybox", "sh", "-c", "trap '' TERM; trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"
        )
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGUSR1)
        assert finish(process)[0] == 9

    def test_ctrl_c_of_a_terminal_reaches_it_once(self, box: Pycontainer) -> None:
        """The terminal signals the whole foreground group; the container is not in it."""
        process = start(box, "busybox", "sh", "-c", SLEEP, start_new_session=True)
        os.killpg(process.pid, signal.SIGINT)
        assert finish(process)[0] == 130

    def test_a_container_goes_on_without_the_command_line(self, box: Pycontainer) -> None:
        loop = "echo ready; while [ ! -e /stop ]; do echo more; sleep 0.01; done; echo end"
        process = start(box, "--name", "orphan", "busybox", "sh", "-c", loop)
        process.kill()
        process.communicate()
        logs = box.popen("logs", "-f", "orphan", stdout=subprocess.PIPE, text=True)
        assert logs.stdout.readline() == "ready\n"
        box("exec", "orphan", "touch", "/stop", check=True)
        assert logs.communicate(timeout=SECONDS)[0].endswith("more\nend\n")
        wait_until(lambda: box("ps", "-aq", check=True).stdout == "")


class TestInit:
    @pytest.fixture(autouse=True)
    def tini(self) -> None:
        if not os.path.exists("/usr/bin/tini-static"):
            pytest.skip("tini is not installed")

    def test_reaps_zombies(self, box: Pycontainer) -> None:
        script = """
        test $$ != 1 || exit 3
        sh -c 'sleep 0 & exec true'
        for i in $(seq 300); do
            orphans=$(awk '$4 == 1 && $1 != "'$$'"' /proc/[0-9]*/stat 2>/dev/null)
            test -n "$orphans" || exit 0
            sleep 0.05
        done
        exit 4
        """
        assert run(box, "--init", "busybox", "sh", "-c", script).returncode == 0

    def test_passes_status_and_signals_on(self, box: Pycontainer) -> None:
        assert run(box, "--init", "busybox", "sh", "-c", "exit 42").returncode == 42
        process = start(box, "--init", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 143


class TestUser:
    @pytest.mark.parametrize(
        ("user", "expected"),
        [
            ("nobody", "65534 65534 65534"),
            ("33", "33 33 33"),
            ("www-data:staff", "33 50 50"),
            ("4242", "4242 0 0"),
            ("4242:4343", "4242 4343 4343"),
            (":100", "0 100 100"),
            ("root", "0 0 0 10"),
        ],
    )
    def test_by_name_number_and_group(self, box: Pycontainer, user: str, expected: str) -> None:
        uid, gid, *groups = expected.split()
        found = output(box, "id -u; id -g; sed -n 's/^Groups://p' /proc/self/status", "-u", user).split()
        assert found[:2] == [uid, gid]
        assert set(found[2:]) <= set(groups)
        assert "10" in found[2:] or user != "root"

    def test_home_is_the_users(self, box: Pycontainer) -> None:
        assert output(box, "echo $HOME", "-u", "www-data") == "/var/www\n"

    @pytest.mark.parametrize("user", ["65536", "4294967294"])
    def test_an_id_outside_the_range_is_explained(self, box: Pycontainer, user: str) -> None:
        result = run(box, "-u", user, "busybox", "true")
        assert result.returncode == 125
        assert "range" in result.stderr
        assert len(result.stderr.splitlines()) <= 2


class TestFlags:
    def test_working_directory(self, box: Pycontainer) -> None:
        assert output(box, "pwd; stat -c '%u %a' .", "-w", "/new/and/deep") == "/new/and/deep\n0 755\n"
        assert output(box, "pwd", "-w", "/etc") == "/etc\n"
        result = run(box, "-w", "/etc/passwd", "busybox", "true")
        assert (result.returncode, len(result.stderr.splitlines())) == (125, 1)

    def test_read_only(self, box: Pycontainer) -> None:
        script = "touch /x 2>/dev/null && echo root; touch /tmp/x && echo tmp; touch /dev/shm/x && echo shm; pwd"
        assert output(box, script, "--read-only", "--tmpfs", "/tmp", "-w", "/made") == "tmp\nshm\n/made\n"

    def test_tmpfs(self, box: Pycontainer) -> None:
        found = output(
            box, "grep -E ' /(tmp|t2) ' /proc/mounts", "--tmpfs", "/tmp:size=1m,mode=700", "--tmpfs", "/t2:exec"
        )
        first, second = found.splitlines()
        assert first.split()[2] == "tmpfs"
        assert {"rw", "nosuid", "nodev", "noexec", "size=1024k", "mode=700"} <= set(first.split()[3].split(","))
        assert "noexec" not in second
        result = run(box, "--tmpfs", "/tmp:size=1m", "busybox", "dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=2")
        assert "No space left" in result.stderr

    def test_hostname(self, box: Pycontainer) -> None:
        assert output(box, "hostname; cat /etc/hostname; echo $HOSTNAME", "-h", "box") == "box\nbox\nbox\n"
        assert re.fullmatch(r"[0-9a-f]{12}\n", output(box, "hostname"))

    def test_hosts_and_resolv_conf(self, box: Pycontainer) -> None:
        options = ["--add-host", "db:10.0.0.7", "--add-host", "v6=fd00::1", "--dns", "192.0.2.1", "--dns", "192.0.2.2"]
        found = output(box, "cat /etc/hosts /etc/resolv.conf", *options)
        assert "10.0.0.7\tdb\n" in found
        assert "fd00::1\tv6\n" in found
        assert "127.0.0.1\tlocalhost\n" in found
        assert [line for line in found.splitlines() if line.startswith("nameserver")] == [
            "nameserver 192.0.2.1",
            "nameserver 192.0.2.2",
        ]

    def test_environment(self, box: Pycontainer, tmp_path: pathlib.Path) -> None:
        (tmp_path / "env").write_text("FILE=f\nBOTH=f\nFROM_CALLER\n")
        found = output(
            box, "env", "--env-file", str(tmp_path / "env"), "-e", "BOTH=e", "-e", "ODD=a b=c\nd",
            env={"FROM_CALLER": "here", "SECRET": "of the caller"},
        )  # fmt: skip
        assert {"FILE=f", "BOTH=e", "FROM_CALLER=here", "HOME=/root", "ODD=a b=c"} <= set(found.splitlines())
        assert "SECRET" not in found
        assert not re.search("PYTHON|PYCONTAINER", found)

    def test_entrypoint(self, box: Pycontainer) -> None:
        assert run(box, "--entrypoint", "echo", "busybox", "a", "b", check=True).stdout == "a b\n"

    def test_odd_arguments_arrive_as_they_are(self, box: Pycontainer) -> None:
        arguments = ["", " ", "a\nb", "*", "$HOME", "--rm", "\u00e9", b"\xff\xfe"]
        result = box("run", "--rm", "--network", "none", "busybox", "printf", "%s|", *arguments, check=True, text=False)
        assert result.stdout == b"| |a\nb|*|$HOME|--rm|\xc3\xa9|\xff\xfe|"

    def test_ulimit(self, box: Pycontainer) -> None:
        assert output(box, "ulimit -n; ulimit -Hn; ulimit -c", "--ulimit", "nofile=50:60", "--ulimit", "core=0") == (
            "50\n60\n0\n"
        )

    def test_cidfile_name_label_ps_and_rm(self, box: Pycontainer, tmp_path: pathlib.Path) -> None:
        cidfile = tmp_path / "cid"
        arguments = ["run", "--network", "none", "--name", "kept", "--label", "a=b", "--cidfile", str(cidfile)]
        assert box(*arguments, "busybox", "sh", "-c", "exit 3").returncode == 3
        container_id = cidfile.read_text()
        assert re.fullmatch(r"[0-9a-f]{64}", container_id)
        assert box("ps", "-q", check=True).stdout == ""
        assert box("ps", "-aq", check=True).stdout == f"{container_id[:12]}\n"
        row = box("ps", "-a", check=True).stdout.splitlines()[1]
        assert row.startswith(container_id[:12])
        assert row.endswith("kept")
        assert "Exited (3)" in row
        with sqlite3.connect(f"file:{box.root}/db.sqlite?mode=ro", uri=True) as connection:
            assert connection.execute("SELECT labels FROM containers").fetchall() == [('{"a":"b"}',)]
        again = box(*arguments, "busybox", "true")
        assert (again.returncode, str(cidfile) in again.stderr) == (125, True)
        taken = box("run", "--network", "none", "--name", "kept", "busybox", "true")
        assert taken.returncode == 125
        assert "the name is taken" in taken.stderr
        assert box("rm", container_id[:6], check=True).stdout == f"{container_id[:6]}\n"
        assert box("ps", "-aq", check=True).stdout == ""
        assert not (box.root / "containers" / container_id).exists()

    def test_a_cidfile_that_cannot_be_written(self, box: Pycontainer) -> None:
        result = run(box, "--cidfile", "/nonexistent/cid", "busybox", "true")
        assert result.returncode == 125
        assert len(result.stderr.splitlines()) == 1
        assert box("ps", "-aq", check=True).stdout == ""


class TestDescriptors:
    def test_exactly_three_reach_the_program(self, box: Pycontainer) -> None:
        """Also when the caller leaks some of its own."""
        leaked = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(3)]
        high = 200
        os.dup2(leaked[0], high)
        try:
            process = box.popen(
                "run", "--rm", "--network", "none", "busybox", "ls", "/proc/1/fd",
                pass_fds=[*leaked, high], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            found = process.communicate(timeout=SECONDS)[0].split()
        finally:
            for descriptor in (*leaked, high):
                os.close(descriptor)
        # ls itself has the directory open while it reads it.
        assert sorted(found) == [b"0", b"1", b"2", b"3"]
        # Not before execve, because the shell's child has no standard input for a moment.
        script = "sleep 1000 & until grep -q ^sleep /proc/$!/cmdline; do :; done; ls /proc/$!/fd; kill $!"
        assert output(box, script).split() == ["0", "1", "2"]


class TestNetworks:
    def test_none_has_only_a_loopback(self, box: Pycontainer) -> None:
        script = """
        ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1/8'
        ping -c1 -w5 127.0.0.1 >/dev/null && echo up
        """
        assert output(box, script) == "lo\n1\nup\n"

    @pytest.mark.parametrize("userns", [[], ["--userns", "host"]])
    def test_host_is_the_hosts(self, box: Pycontainer, userns: list[str]) -> None:
        script = "readlink /proc/self/ns/net; test -d /sys/class/net/lo && hostname"
        result = box("run", "--rm", "--network", "host", *userns, "busybox", "sh", "-c", script, check=True)
        assert result.stdout.split() == [os.readlink("/proc/self/ns/net"), os.uname().nodename]

    def test_two_containers_and_the_gateway_reach_each_other(self, pycontainer: Pycontainer, busybox: str) -> None:
        script = "ip -4 -o addr show eth0; echo ready; exec nc -l -p 8000 -e cat /etc/hostname"
        server = pycontainer.popen(
            "run", "--rm", "-h", "server", busybox, "sh", "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        try:
            address = re.search(rb"inet ([0-9.]+)/", server.stdout.readline())[1].decode()
            assert server.stdout.readline() == b"ready\n"
            client = """
            ip addr | grep -E '^[0-9]+: '
            gateway=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')
            ping -c 1 -w 10 $gateway >/dev/null && echo gateway
            for i in $(seq 100); do nc $1 8000 </dev/null && exit 0; sleep 0.1; done; exit 1
            """
            result = pycontainer("run", "--rm", busybox, "sh", "-c", client, "sh", address, check=True)
            links = re.findall(r"^\d+: (\w+)", result.stdout, re.M)
            assert sorted(links) == ["eth0", "lo"]
            assert result.stdout.splitlines()[-2:] == ["gateway", "server"]
        finally:
            server.terminate()
            server.wait(SECONDS)
            server.stdout.close()


def test_a_cgroup_of_ones_own_choice(box: Pycontainer) -> None:
    hierarchy = cgroup.find_hierarchy()
    assert hierarchy is not None
    parent = pathlib.Path(hierarchy.mountpoint, f"{SESSION}batch")
    parent.mkdir()
    process = start(box, "--name", "chosen", "--cgroup-parent", f"/{parent.name}/nightly", "busybox", "sh", "-c", SLEEP)
    try:
        assert len(list(parent.glob("nightly/*/cgroup.procs"))) == 1
        assert "sleep 1000" in box("top", "chosen", check=True).stdout
        config = box("inspect", "-f", "{{.HostConfig.CgroupParent}}", "chosen", check=True).stdout
        assert config == f"/{parent.name}/nightly\n"
    finally:
        box("rm", "-f", "chosen", check=True)
        process.communicate(timeout=SECONDS)
        # What was there stays, and what was made in it is gone: or this fails.
        parent.rmdir()


class TestAlpine:
    def test_the_real_thing(self, pycontainer: Pycontainer, alpine: str) -> None:
        script = """
        cat /etc/alpine-release; apk --version
        su nobody -s /bin/sh -c id
        ps -o pid,comm
        """
        result = pycontainer("run", "--rm", "--network", "none", alpine, "sh", "-c", script, check=True)
        lines = result.stdout.splitlines()
        assert re.fullmatch(r"\d+\.\d+\.\d+", lines[0])
        assert lines[1].startswith("apk-tools ")
        assert lines[2].startswith("uid=65534(nobody) gid=65534(nobody)")
        processes = [line.split() for line in lines[4:]]
        assert [process[1] for process in processes] == ["sh", "ps"]
        assert processes[0][0] == "1"
        assert result.stderr == ""
