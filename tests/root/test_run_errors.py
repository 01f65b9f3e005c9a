"""What a new user gets wrong, and what a machine may lack: one or two lines, the right status, no traceback."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tarfile

import pytest
from conftest import COMMAND, Pycontainer, is_unified

from pycontainer.kernel import namespace


def check(result: subprocess.CompletedProcess, status: int, *texts: str) -> None:
    """The status, every text somewhere in stderr, one or two lines of it, nothing on stdout."""
    assert result.returncode == status, result.stderr
    for text in texts:
        assert text in result.stderr, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) in (1, 2), result.stderr
    assert lines[0].startswith("pycontainer: ")
    assert len(lines) == 1 or lines[1].startswith("hint: ")
    assert "Traceback" not in result.stderr
    assert "fault of pycontainer's" not in result.stderr
    assert result.stdout == ""


CASES: dict[str, tuple[list[str], int, list[str]]] = {
    "no image": (["--pull", "never", "nosuch"], 125, ["no such image: nosuch", "pycontainer load", "import"]),
    "no such tag": (["--pull", "never", "busybox:nosuch"], 125, ["no such image", "busybox:nosuch"]),
    "bad reference": (["Busy Box"], 125, ["invalid image reference", "'Busy Box'"]),
    "bad reference with options": (["--name", "x1", "a//b"], 125, ["a//b"]),
    "command not found": (["busybox", "nosuch"], 127, ["nosuch", "not found", "PATH"]),
    "path not found": (["busybox", "/no/such"], 127, ["/no/such", "no such file or directory"]),
    "not executable": (["busybox", "/etc/passwd"], 126, ["/etc/passwd", "permission denied"]),
    "bad memory": (["-m", "12x", "busybox", "true"], 125, ["--memory", "'12x'", "64m"]),
    "no memory": (["-m", "", "busybox", "true"], 125, ["--memory", "''"]),
    "bad cpus": (["--cpus", "many", "busybox", "true"], 125, ["--cpus", "'many'"]),
    "too many cpus": (["--cpus", "65536", "busybox", "true"], 125, ["--cpus", "this machine has only", "0.01 to"]),
    "no such processor": (["--cpuset-cpus", "0,65530", "busybox", "true"], 125, ["no processor 65530", "there are 0"]),
    "too few files": (["--ulimit", "nofile=1", "busybox", "true"], 125, ["--ulimit", "nofile=1", "three files"]),
    "an option of docker's": (["--gpus", "all", "busybox"], 125, ["--gpus", "an option of docker's"]),
    "bad pids": (["--pids-limit", "few", "busybox", "true"], 125, ["--pids-limit", "'few'"]),
    "bad ulimit": (["--ulimit", "nofiles=1", "busybox", "true"], 125, ["--ulimit", "nofiles"]),
    "no env file": (["--env-file", "/no/such", "busybox", "true"], 125, ["--env-file", "/no/such", "no such file"]),
    "env file is a directory": (["--env-file", "/etc", "busybox", "true"], 125, ["/etc", "is a directory"]),
    "unknown user": (["-u", "nosuch", "busybox", "true"], 125, ["--user", "nosuch", "passwd"]),
    "unknown group": (["-u", "0:nosuch", "busybox", "true"], 125, ["--user", "nosuch", "group"]),
    "bad capability": (["--cap-add", "FLY", "busybox", "true"], 125, ["--cap-add", "'FLY'"]),
    "bad network": (["--network", "a b", "busybox", "true"], 125, ["--network", "'a b'"]),
    "bad volume": (["-v", "/a:/b:/c:/d", "busybox", "true"], 125, ["--volume", "SRC:]DST"]),
    "bad name": (["--name", "a b", "busybox", "true"], 125, ["--name", "'a b'"]),
    "bad workdir": (["-w", "srv", "busybox", "true"], 125, ["--workdir", "absolute"]),
    "bad host": (["--add-host", "db", "busybox", "true"], 125, ["--add-host", "db"]),
    "bad dns": (["--dns", "example.org", "busybox", "true"], 125, ["--dns", "example.org"]),
    "bad signal": (["--stop-signal", "SIGNO", "busybox", "true"], 125, ["--stop-signal", "'SIGNO'"]),
    "bad tmpfs option": (["--tmpfs", "/x:bogus", "busybox", "true"], 125, ["--tmpfs: /x: no option of tmpfs: 'bogus'"]),
    "bind as a tmpfs option": (["--tmpfs", "/x:ro,bind", "busybox", "true"], 125, ["no option of tmpfs: 'bind'"]),
    "unknown option": (["--bogus", "busybox", "true"], 125, ["--bogus", "pycontainer run --help"]),
    "missing value": (["--rm", "--name"], 125, ["--name"]),
    "only options": (["--rm"], 125, ["IMAGE", "pycontainer run --help"]),
    "a terminal out of nothing": (["-it", "busybox", "sh"], 125, ["not a terminal", "-t"]),
}


@pytest.mark.parametrize(("arguments", "status", "texts"), CASES.values(), ids=CASES)
def test_mistakes(box: Pycontainer, arguments: list[str], status: int, texts: list[str]) -> None:
    check(box("run", "--rm", "--network", "none", *arguments), status, *texts)


def test_an_unknown_command(box: Pycontainer) -> None:
    check(box("rnu", "busybox"), 1, "rnu", "pycontainer --help")


@pytest.mark.parametrize("words", [["rmi", "nosuch"], ["tag", "nosuch", "x"]])
def test_an_image_that_is_not_there_need_not_be_loaded(box: Pycontainer, words: list[str]) -> None:
    result = box(*words)
    check(result, 1, "no such image: nosuch")
    assert "load" not in result.stderr


def test_an_archive_of_images_is_not_imported(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    for kind, files in {
        "docker": {"manifest.json": '[{"Config": "x.json", "RepoTags": ["a:b"], "Layers": []}]'},
        "oci": {"oci-layout": '{"imageLayoutVersion": "1.0.0"}', "index.json": "{}"},
    }.items():
        archive = tmp_path / f"{kind}.tar"
        with tarfile.open(archive, "w") as tar:
            for name, text in files.items():
                (tmp_path / name).write_text(text)
                tar.add(tmp_path / name, name)
        check(box("import", str(archive), kind), 1, "archive of images", "pycontainer load -i FILE")
        assert kind not in box("images", check=True).stdout


def test_a_root_file_system_with_some_other_manifest_is_imported(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "an application\'s own"}')
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "manifest.json", "manifest.json")
    box("import", str(tmp_path / "root.tar"), "own", check=True)
    box("rmi", "own", check=True)


def test_no_limit_is_written_0(box: Pycontainer) -> None:
    options = ["--memory=0", "--memory-swap=0", "--cpus=0", "--pids-limit=0", "--cpu-shares=0", "--cpu-quota=-1"]
    options += ["--memory-reservation=0", "--memory-high=0", "--oom-group=false", "--blkio-weight=0", "--cpu-period=0"]
    assert box("run", "--rm", "--network", "none", *options, "busybox", "echo", "ran", check=True).stdout == "ran\n"


@pytest.mark.parametrize("style", ["--explain", "--explain=calls"])
@pytest.mark.parametrize(
    ("environment", "bold"),
    [
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb", "NO_COLOR": ""}, False),
    ],
)
def test_an_explanation_is_bold_only_where_it_may_be(
    box: Pycontainer, environment: dict[str, str], bold: bool, style: str
) -> None:
    command = [*COMMAND, "run", "--rm", "--network", "none", style, "busybox", "true"]
    result = subprocess.run(
        ["script", "-qec", shlex.join(command), "/dev/null"],
        env={**os.environ, **box.environment, **environment},
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert b"namespaces" in result.stdout
    assert (b"\x1b[1m" in result.stdout) == bold


def test_a_name_that_is_taken(box: Pycontainer) -> None:
    assert box("run", "--network", "none", "--name", "taken", "busybox", "true").returncode == 0
    try:
        check(
            box("run", "--network", "none", "--name", "taken", "busybox", "true"), 125, "taken", "pycontainer rm taken"
        )
    finally:
        box("rm", "taken", check=True)


def test_an_unreadable_env_file(box: Pycontainer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "env").write_bytes(b"A=\xff\xfe\n")
    check(box("run", "--env-file", str(tmp_path / "env"), "busybox", "true"), 125, str(tmp_path / "env"), "UTF-8")


def test_removing_what_is_not_there(box: Pycontainer) -> None:
    check(box("rm", "nosuch"), 1, "nosuch")


def test_a_failed_run_is_remembered_with_its_reason_and_can_be_removed(box: Pycontainer) -> None:
    check(box("run", "--network", "none", "--name", "failed", "busybox", "nosuch"), 127, "nosuch")
    assert "Exited (127)" in box("ps", "-a", check=True).stdout
    box("rm", "failed", check=True)


def test_without_root(box: Pycontainer) -> None:
    # With the one capability that lets it read this interpreter wherever it is; that is no root.
    command = [
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
        "--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search",
        "--bounding-set", "-all,+dac_read_search",
    ]  # fmt: skip
    for arguments in (["run", "--rm", "busybox", "true"], ["ps"], ["rm", "x"]):
        result = subprocess.run(
            [*command, *COMMAND, *arguments], env={**os.environ, **box.environment}, capture_output=True, text=True
        )
        check(result, 125 if arguments[0] == "run" else 1, "root", "sudo")


def test_command_names_that_are_no_text_or_endless(box: Pycontainer) -> None:
    for name in (b"\xff\xfe", b"x" * 100_000):
        result = box("run", "--rm", "--network", "none", "busybox", name)
        assert result.returncode in (126, 127), result.stderr[:300]
        assert "fault of pycontainer's" not in result.stderr


class TestLimitsOnThisHost:
    @pytest.fixture(autouse=True)
    def hybrid(self) -> None:
        if is_unified():
            pytest.skip("this host's cgroup hierarchy is unified and enforces limits")

    @pytest.mark.parametrize(
        ("option", "controller"),
        [
            (["-m", "64m"], "memory"),
            (["--cpus", "0.5"], "cpu"),
            (["--cpuset-cpus", "0"], "cpuset"),
            (["--pids-limit", "10"], "pids"),
            (["--memory-reservation", "64m"], "memory"),
            (["--memory-high", "64m"], "memory"),
            (["--oom-group"], "memory"),
            (["--cpu-shares", "512"], "cpu"),
            (["--cpu-quota", "50000"], "cpu"),
            (["--cpuset-mems", "0"], "cpuset"),
            (["--blkio-weight", "300"], "io"),
        ],
    )
    def test_are_refused_naming_controller_and_remedy(
        self, box: Pycontainer, option: list[str], controller: str
    ) -> None:
        result = box("run", "--rm", "--network", "none", *option, "busybox", "echo", "ran")
        check(result, 125, f"the {controller} controller", "systemd.unified_cgroup_hierarchy=1")

    def test_without_limits_it_runs(self, box: Pycontainer) -> None:
        options = ["--pids-limit", "-1"]
        assert box("run", "--rm", "--network", "none", *options, "busybox", "echo", "ran", check=True).stdout == "ran\n"


def elsewhere(box: Pycontainer, script: str, *arguments: str, unshare: tuple[str, ...] = ("--mount",)):
    """The command line after a script changed the machine in namespaces of its own."""
    return subprocess.run(
        ["unshare", *unshare, "sh", "-ec", f'{script}\nexec "$@"', "sh", *COMMAND, *arguments],
        env={**os.environ, **box.environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


class TestMissingFeatures:
    RUN = ("run", "--rm", "--network", "none", "busybox", "echo", "ran")

    def test_no_user_namespaces(self, pycontainer: Pycontainer, busybox: str) -> None:
        # In a user namespace that has every id, so that nothing else fails; its own limit concerns its children only.
        every = [namespace.IdMap(0, 0, (1 << 32) - 1)]
        descriptor = namespace.new_user_namespace(every, every)
        try:
            script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec unshare --mount "$@"'
            result = subprocess.run(
                ["nsenter", f"--user=/proc/self/fd/{descriptor}", "sh", "-ec", script, "sh", *COMMAND, *self.RUN],
                env={**os.environ, **pycontainer.environment},
                capture_output=True,
                text=True,
                pass_fds=[descriptor],
            )
        finally:
            os.close(descriptor)
        check(result, 125, "user namespace", "max_user_namespaces")

    def test_no_cgroup2(self, box: Pycontainer) -> None:
        # Last mounted, first unmounted; only in the script's own mount namespace.
        script = "tac /proc/mounts | while read _ place type _; do test $type != cgroup2 || umount $place; done"
        result = elsewhere(box, script, *self.RUN[:-3], "-m", "64m", *self.RUN[-3:])
        check(result, 125, "cgroup2 is not mounted", "systemd.unified_cgroup_hierarchy=1")
        assert elsewhere(box, script, *self.RUN).stdout == "ran\n"

    def test_a_file_system_without_id_maps(self, box: Pycontainer) -> None:
        script = f"mount -t ramfs none /mnt; cp -a {box.root}/. /mnt; mount --bind /mnt {box.root}"
        result = elsewhere(box, script, *self.RUN)
        check(result, 125, "ID-mapped", "--userns=host")

    def test_a_full_disk(self, box: Pycontainer) -> None:
        script = f"""
        mount -t tmpfs -o size=20m none /mnt; cp -a {box.root}/. /mnt; mount --bind /mnt {box.root}
        rm -f {box.root}/reserve; head -c 100M /dev/zero > {box.root}/filler 2>/dev/null || true
        """
        result = elsewhere(box, script, *self.RUN)
        check(result, 125)
        assert re.search("disk.*full|no space left", result.stderr, re.I)

    def test_no_overlayfs_room_for_the_program_is_its_own_error(self, box: Pycontainer) -> None:
        """A program that cannot write says so itself, and its status is its own."""
        result = box("run", "--rm", "--network", "none", "--read-only", "busybox", "sh", "-c", "echo x > /x")
        assert result.returncode == 1
        assert "Read-only file system" in result.stderr

    def test_no_nft_or_bridge_right(self, pycontainer: Pycontainer, busybox: str) -> None:
        """Without CAP_NET_ADMIN the bridge cannot be made, and the error names the step."""
        if shutil.which("capsh") is None and shutil.which("setpriv") is None:
            pytest.skip("needs setpriv")
        result = subprocess.run(
            ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", *COMMAND,
             "run", "--rm", "busybox", "true"],
            env={**os.environ, **pycontainer.environment},
            capture_output=True,
            text=True,
        )  # fmt: skip
        check(result, 125)


def test_nothing_was_left(box: Pycontainer) -> None:
    assert box("ps", "-aq", check=True).stdout == ""
    containers = box.root / "containers"
    assert not containers.exists() or list(containers.iterdir()) == []
