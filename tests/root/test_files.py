"""`diff`, `commit` and `export`: what a container has made of its image's files."""

from __future__ import annotations

import io
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, wait_until

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep, version 2: no user namespace

BASE = """
mkdir -p /od/sub/deep /keep /rmd /home/u; echo x > /od/a; echo y > /od/sub/b; echo z > /od/sub/deep/c
echo k > /keep/k; echo r > /rmd/r; ln -s keep /lk; echo h > /h1; mkdir /tofile; touch /tofile/x; echo f > /todir
chmod 600 /keep/k; chown 1000:1000 /home/u
"""
CHANGE = """
rm -rf /od; mkdir /od; mkdir /od/sub; echo y > /od/sub/new
touch -d '2001-01-01' /keep; chmod 644 /keep/k
rm -rf /rmd; rm /lk; ln -s other /lk; echo more >> /h1; rm -r /tofile; echo file > /tofile; rm /todir; mkdir /todir
touch /todir/in; mkdir -p /new/a; touch /new/a/b; chown 5:6 /etc/group; mkdir /etc/e; rmdir /etc/e
mkfifo /ff; echo 1 > /tmp/t; rm /tmp/t; mkdir '/a b'; touch '/a b/é'; chmod 4755 /home/u; ln /new/a/b /new/c
"""
DIFF = """
A /a b
A /a b/é
C /etc
C /etc/group
A /ff
C /h1
C /home
C /home/u
C /keep
C /keep/k
C /lk
A /new
A /new/a
A /new/a/b
A /new/c
C /od
D /od/a
C /od/sub
D /od/sub/b
D /od/sub/deep
A /od/sub/new
D /rmd
C /todir
A /todir/in
C /tofile
""".strip().splitlines()


def script(box: Pycontainer, name: str, text: str, *options: str, image: str = "busybox") -> None:
    """Run a shell script in a container that stays afterwards."""
    box("run", "--name", name, "--network", "none", *options, image, "sh", "-c", text, check=True)


def start(box: Pycontainer, name: str, *options: str, image: str = "busybox") -> None:
    box("run", "-d", "--name", name, "--network", "none", *options, image, "sleep", "1000", check=True)


@pytest.fixture
def run_box(box: Pycontainer) -> Iterator[Pycontainer]:
    """`box`, without its containers in the end."""
    yield box
    connection = sqlite3.connect(box.root / "db.sqlite")
    names = [row[0] for row in connection.execute("SELECT name FROM containers")]
    connection.close()
    if names:
        box("rm", "-f", *names)


@pytest.fixture(scope="module")
def base(box: Pycontainer) -> str:
    """An image of several layers with files to change."""
    script(box, "base", BASE)
    box("commit", "base", "base", check=True)
    box("rm", "base", check=True)
    return "base"


def status(box: Pycontainer, name: str) -> str:
    connection = sqlite3.connect(box.root / "db.sqlite")
    (found,) = connection.execute("SELECT status FROM containers WHERE name = ?", (name,)).fetchone()
    connection.close()
    return found


def image_config(box: Pycontainer, image_id: str) -> dict:
    connection = sqlite3.connect(box.root / "db.sqlite")
    (text,) = connection.execute("SELECT config FROM images WHERE id = ?", (image_id,)).fetchone()
    connection.close()
    return json.loads(text)


def exported(box: Pycontainer, name: str) -> dict[str, tarfile.TarInfo]:
    data = box("export", name, text=False, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


class TestDiff:
    # The expected lines are those of Docker 20.10 for the same scripts.
    @pytest.mark.parametrize("userns", ["", "host"])
    def test_lists_what_docker_lists(self, run_box: Pycontainer, base: str, userns: str) -> None:
        script(run_box, "c0", CHANGE, f"--userns={userns}", image=base)
        assert run_box("diff", "c0", check=True).stdout.splitlines() == DIFF

    def test_of_a_container_that_runs(self, run_box: Pycontainer) -> None:
        start(run_box, "c0")
        assert run_box("diff", "c0", check=True).stdout == ""
        run_box("exec", "c0", "touch", "/tmp/x", check=True)
        assert run_box("diff", "c0", check=True).stdout == "C /tmp\nA /tmp/x\n"

    def test_of_a_container_that_never_ran(self, run_box: Pycontainer) -> None:
        run_box("create", "--name", "c0", "busybox", check=True)
        assert run_box("diff", "c0", check=True).stdout == ""

    @pytest.mark.parametrize(
        ("text", "lines"),
        [
            ("true", []),
            ("touch /etc/passwd", ["C /etc", "C /etc/passwd"]),
            ("chmod 700 /home", ["C /home"]),
            ("chown 1 /home", ["C /home"]),
            # Opened for writing and so copied up, but nothing has changed.
            ("true >> /etc/passwd", []),
            ("mkdir /etc/d && rmdir /etc/d", []),
            ("rm -r /home && mkdir /home", []),
            ("rm -r /home", ["D /home"]),
            ("mkdir /etc/d", ["C /etc", "A /etc/d"]),
        ],
    )
    def test_of_one_change(self, run_box: Pycontainer, text: str, lines: list[str]) -> None:
        script(run_box, "c0", text)
        assert run_box("diff", "c0", check=True).stdout.splitlines() == lines

    def test_shows_no_mount_points_but_those_asked_for(self, run_box: Pycontainer, tmp_path: pathlib.Path) -> None:
        script(run_box, "c0", "echo 1 > /t/x; echo 2 > /v/x", "--tmpfs", "/t", "-v", f"{tmp_path}:/v")
        assert run_box("diff", "c0", check=True).stdout == "A /t\nA /v\n"

    def test_shows_what_else_is_in_a_directory_made_for_a_mount_point(self, run_box: Pycontainer) -> None:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            program = tarfile.TarInfo("bin/busybox")
            text = pathlib.Path("/bin/busybox").read_bytes()
            program.size, program.mode = len(text), 0o755
            archive.addfile(program, io.BytesIO(text))
        run_box("import", "-", "bare", input=data.getvalue(), text=False, check=True)
        for name, words, lines in (
            ("c1", ["true"], []),
            ("c2", ["touch", "/etc/x"], ["A /etc", "A /etc/x"]),
        ):
            run_box("run", "--name", name, "--network", "none", "bare", "/bin/busybox", *words, check=True)
            assert run_box("diff", name, check=True).stdout.splitlines() == lines

    def test_an_unknown_container(self, box: Pycontainer) -> None:
        result = box("diff", "nobody")
        assert (result.returncode, result.stdout) == (1, "")
        assert "no such container" in result.stderr

    def test_names_that_are_no_text(self, run_box: Pycontainer) -> None:
        script(run_box, "c0", r"touch $(printf '/\377')")
        assert run_box("diff", "c0", text=False, check=True).stdout == b"A /\xff\n"


def layer_names(box: Pycontainer, image_id: str) -> list[str]:
    """The members of an image's last layer, in their order."""
    digest = image_config(box, image_id)["rootfs"]["diff_ids"][-1].removeprefix("sha256:")
    with tarfile.open(box.root / "blobs/sha256" / digest) as archive:
        return [member.name for member in archive]


class TestCommit:
    @pytest.mark.parametrize("userns", ["", "host"])
    def test_a_container_of_the_image_has_the_same_files(self, run_box: Pycontainer, base: str, userns: str) -> None:
        script(run_box, "c0", CHANGE, f"--userns={userns}", image=base)
        image_id = run_box("commit", "c0", "new:1", check=True).stdout.strip()
        assert image_id.startswith("sha256:")
        run_box("create", "--name", "copy", "new:1", check=True)
        # Started once, so that both have the same mount points.
        run_box("run", "--name", "copy2", "--network", "none", "new:1", "true", check=True)
        assert run_box("diff", "copy", check=True).stdout == ""
        before, after = exported(run_box, "c0"), exported(run_box, "copy2")
        assert list(before) == list(after)
        for name, member in before.items():
            other = after[name]
            fields = ("mode", "uid", "gid", "type", "linkname", "size")
            assert [getattr(member, field) for field in fields] == [getattr(other, field) for field in fields], name
            # What only lies under a mount of the engine's is no part of the image.
            if not member.isdir() and name not in ("etc/hostname", "etc/hosts", "etc/resolv.conf"):
                assert member.mtime == other.mtime, name
        run_box("rmi", "-f", "new:1")

    def test_the_layer_is_as_the_specification_has_it(self, run_box: Pycontainer, base: str) -> None:
        script(run_box, "c0", "rm -rf /od /rmd; mkdir /od; mkdir /od/sub; touch /od/n; rm /keep/k", image=base)
        image_id = run_box("commit", "c0", check=True).stdout.strip()
        names = layer_names(run_box, image_id)
        # An unchanged directory inside an opaque one has to be there, for it would be hidden otherwise.
        assert names == ["keep", "keep/.wh.k", "od", "od/.wh..wh..opq", "od/n", "od/sub", ".wh.rmd"]
        output = run_box("run", "--rm", "--network", "none", image_id, "find", "/od", "/keep", check=True).stdout
        assert sorted(output.split()) == ["/keep", "/od", "/od/n", "/od/sub"]

    def test_a_file_of_the_same_size_and_time_is_kept(self, run_box: Pycontainer, base: str) -> None:
        script(run_box, "c0", "touch -r /keep/k /tmp/r; echo K > /keep/k; touch -r /tmp/r /keep/k", image=base)
        image_id = run_box("commit", "c0", check=True).stdout.strip()
        assert run_box("run", "--rm", "--network", "none", image_id, "cat", "/keep/k", check=True).stdout == "K\n"

    def test_a_directory_of_which_only_the_time_has_changed(self, run_box: Pycontainer, base: str) -> None:
        script(run_box, "c0", "touch -d @1000000000 /keep", image=base)
        assert run_box("diff", "c0", check=True).stdout == "", "docker lists it neither"
        image_id = run_box("commit", "c0", check=True).stdout.strip()
        assert layer_names(run_box, image_id) == ["keep"]
        words = ["stat", "-c", "%Y", "/keep"]
        assert run_box("run", "--rm", "--network", "none", image_id, *words, check=True).stdout == "1000000000\n"

    def test_file_capabilities_and_attributes(self, run_box: Pycontainer, tmp_path: pathlib.Path) -> None:
        (tmp_path / "program").write_text("x")
        os.setxattr(tmp_path / "program", "security.capability", CAPABILITY)
        os.setxattr(tmp_path / "program", "user.note", b"\0\xff")
        run_box("create", "--name", "c0", "busybox", check=True)
        run_box("cp", tmp_path / "program", "c0:/bin/program", check=True)
        image_id = run_box("commit", "c0", check=True).stdout.strip()
        layer = image_config(run_box, image_id)["rootfs"]["diff_ids"][-1].removeprefix("sha256:")
        with tarfile.open(run_box.root / "blobs/sha256" / layer) as archive:
            headers = archive.getmember("bin/program").pax_headers
        assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY
        assert headers["SCHILY.xattr.user.note"].encode("utf-8", "surrogateescape") == b"\0\xff"
        member = exported(run_box, "c0")["bin/program"]
        assert member.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY

    def test_the_config_is_the_containers_changed_by_instructions(self, run_box: Pycontainer) -> None:
        options = ["-e", "A=1", "-e", "B=2", "--label", "x=1", "-w", "/tmp", "-u", "0:0"]
        script(run_box, "c0", "true", *options)
        changes = ["-c", "ENV A=3 C=4", "-c", "LABEL y=2", "-c", 'CMD ["a", "b"]', "-c", "EXPOSE 80"]
        image_id = run_box("commit", "-m", "why", "-a", "who", *changes, "c0", "new:2", check=True).stdout.strip()
        document = image_config(run_box, image_id)
        config = document["config"]
        assert {"A=3", "B=2", "C=4"} <= set(config["Env"])
        assert config["Labels"] == {"x": "1", "y": "2"}
        assert (config["WorkingDir"], config["User"], config["Cmd"]) == ("/tmp", "0:0", ["a", "b"])
        assert config["ExposedPorts"] == {"80/tcp": {}}
        assert not {"Hostname", "Image", "AttachStdout"} & set(config)
        assert document["author"] == "who"
        assert (
            document["history"][-1].items() >= {"comment": "why", "author": "who", "created_by": "sh -c true"}.items()
        )
        assert "new" in run_box("images", check=True).stdout
        run_box("rmi", "new:2", check=True)

    def test_an_entrypoint_takes_the_old_command_away(self, run_box: Pycontainer) -> None:
        script(run_box, "c0", "true")
        image_id = run_box("commit", "-c", 'ENTRYPOINT ["/bin/x"]', "c0", check=True).stdout.strip()
        assert "Cmd" not in image_config(run_box, image_id)["config"]

    def test_without_changes_there_is_no_layer(self, run_box: Pycontainer) -> None:
        script(run_box, "c0", "true")
        image_id = run_box("commit", "c0", check=True).stdout.strip()
        document = image_config(run_box, image_id)
        assert document["history"][-1]["empty_layer"] is True
        not_empty = [entry for entry in document["history"] if not entry.get("empty_layer")]
        assert len(document["rootfs"]["diff_ids"]) == len(not_empty)
        assert run_box("run", "--rm", "--network", "none", image_id, "echo", "hi", check=True).stdout == "hi\n"

    @pytest.mark.parametrize(
        "arguments",
        [["-c", "RUN x"], ["--pause=perhaps"], ["c0", "UPPER:case"], ["c0", "x@sha256:" + "0" * 64]],
        ids=str,
    )
    def test_refused(self, run_box: Pycontainer, arguments: list[str]) -> None:
        script(run_box, "c0", "touch /x")
        operands = arguments if arguments[0] == "c0" else [*arguments, "c0"]
        result = run_box("commit", *operands)
        assert (result.returncode, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) <= 2
        assert os.listdir(run_box.root / "tmp") == []

    def test_an_event_tells_of_it(self, run_box: Pycontainer) -> None:
        script(run_box, "c0", "true")
        image_id = run_box("commit", "-m", "why", "c0", "new:3", check=True).stdout.strip()
        connection = sqlite3.connect(run_box.root / "db.sqlite")
        (text,) = connection.execute(
            "SELECT attributes FROM events WHERE action = 'commit' ORDER BY number"
        ).fetchall()[-1]
        connection.close()
        assert json.loads(text).items() >= {"comment": "why", "imageID": image_id, "imageRef": "new:3"}.items()
        run_box("rmi", "new:3", check=True)


class TestPause:
    def commit(self, box: Pycontainer, *options: str) -> subprocess.Popen:
        """A commit that reads for some time."""
        box("exec", "c0", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=400", check=True)
        return box.popen("commit", *options, "c0", stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_the_container_is_paused_meanwhile(self, run_box: Pycontainer) -> None:
        start(run_box, "c0")
        process = self.commit(run_box)
        wait_until(lambda: status(run_box, "c0") == "paused" or process.poll() is not None)
        assert process.poll() is None
        assert process.wait(60) == 0, process.stderr.read()
        assert status(run_box, "c0") == "running"
        assert run_box("exec", "c0", "echo", "hi", check=True).stdout == "hi\n"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_it_goes_on_when_the_commit_is_killed(self, run_box: Pycontainer, number: int) -> None:
        start(run_box, "c0")
        process = self.commit(run_box)
        wait_until(lambda: status(run_box, "c0") == "paused" or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(number)
        process.communicate()
        wait_until(lambda: status(run_box, "c0") == "running")
        # And the next command has put the rest away.
        run_box("diff", "c0", check=True)
        assert os.listdir(run_box.root / "tmp") == []

    def test_one_that_was_paused_stays_so(self, run_box: Pycontainer) -> None:
        start(run_box, "c0")
        run_box("exec", "c0", "touch", "/x", check=True)
        run_box("pause", "c0", check=True)
        image_id = run_box("commit", "c0", check=True).stdout.strip()
        assert status(run_box, "c0") == "paused"
        run_box("unpause", "c0", check=True)
        run_box("run", "--rm", "--network", "none", image_id, "ls", "/x", check=True)

    def test_pause_can_be_left_out(self, run_box: Pycontainer) -> None:
        start(run_box, "c0")
        run_box("commit", "--pause=false", "c0", check=True)
        assert actions(run_box)[-2:] == ["start", "commit"]


def actions(box: Pycontainer) -> list[str]:
    """Of all events, oldest first."""
    connection = sqlite3.connect(box.root / "db.sqlite")
    found = [row[0] for row in connection.execute("SELECT action FROM events ORDER BY number")]
    connection.close()
    return found


class TestExport:
    def test_running_and_stopped_give_the_same_bytes(self, run_box: Pycontainer, tmp_path: pathlib.Path) -> None:
        (tmp_path / "secret").write_text("volume")
        options = ["-v", f"{tmp_path}:/vol", "--tmpfs", "/t"]
        start(run_box, "c0", *options)
        run_box("exec", "c0", "sh", "-c", "echo 1 > /t/x; chown 33:44 /tmp; echo hi > /file", check=True)
        running = run_box("export", "c0", text=False, check=True).stdout
        assert run_box("export", "c0", text=False, check=True).stdout == running
        run_box("stop", "-t", "0", "c0", check=True)
        assert run_box("export", "c0", text=False, check=True).stdout == running
        with tarfile.open(fileobj=io.BytesIO(running)) as archive:
            found = {member.name: member for member in archive}
            assert archive.extractfile("file").read() == b"hi\n"
        assert (found["tmp"].uid, found["tmp"].gid) == (33, 44)
        for empty in ("proc", "sys", "dev", "t", "vol"):
            assert found[empty].isdir()
            assert not [name for name in found if name.startswith(f"{empty}/")]
        assert found["etc/hosts"].size == 0

    def test_import_takes_it(self, run_box: Pycontainer) -> None:
        script(run_box, "c0", "echo hi > /file; chown 5 /file")
        data = run_box("export", "c0", text=False, check=True).stdout
        run_box("import", "-", "again", input=data, text=False, check=True)
        words = ["sh", "-c", "cat /file; stat -c %u /file"]
        assert run_box("run", "--rm", "--network", "none", "again", *words, check=True).stdout == "hi\n5\n"
        run_box("rmi", "again", check=True)

    def test_to_a_file(self, run_box: Pycontainer, tmp_path: pathlib.Path) -> None:
        run_box("create", "--name", "c0", "busybox", check=True)
        (tmp_path / "x.tar").write_text("old")
        assert run_box("export", "-o", tmp_path / "x.tar", "c0", check=True).stdout == ""
        assert tarfile.is_tarfile(tmp_path / "x.tar")
        assert os.listdir(tmp_path) == ["x.tar"]

    def test_a_failure_leaves_no_file(self, run_box: Pycontainer, tmp_path: pathlib.Path) -> None:
        (tmp_path / "x.tar").write_text("old")
        result = run_box("export", "-o", tmp_path / "x.tar", "nobody")
        assert result.returncode == 1
        assert os.listdir(tmp_path) == ["x.tar"]
        assert (tmp_path / "x.tar").read_text() == "old"
        run_box("create", "--name", "c0", "busybox", check=True)
        result = run_box("export", "-o", "/dev/full", "c0")
        assert (result.returncode, "no space left on device" in result.stderr) == (1, True)

    def test_not_to_a_terminal(self, run_box: Pycontainer) -> None:
        run_box("create", "--name", "c0", "busybox", check=True)
        master, slave = os.openpty()
        process = run_box.popen("export", "c0", stdout=slave, stderr=subprocess.PIPE)
        os.close(slave)
        _, error = process.communicate(timeout=60)
        os.close(master)
        assert process.returncode == 1
        assert b"terminal" in error

    def test_a_reader_that_goes_is_no_fault(self, run_box: Pycontainer) -> None:
        run_box("create", "--name", "c0", "--network", "none", "busybox", check=True)
        process = run_box.popen("export", "c0", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141
        # It gave the container back.
        run_box("start", "c0")
