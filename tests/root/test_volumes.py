"""-v, --mount, --tmpfs, volumes: ids, read-only, what an image puts there, and what is missing, hostile or killed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import COMMAND, REPOSITORY, Pycontainer, mounts
from test_hostile import Box
from test_image_layer import LayerTar


@pytest.fixture
def place(engine_env: dict[str, str]) -> pathlib.Path:
    """A directory on a disk, whose file system has ID-mapped mounts."""
    directory = pathlib.Path(engine_env["PYCONTAINER_ROOT"], "place")
    directory.mkdir()
    return directory


def run(box: Pycontainer, script: str, *options: str, **keywords) -> subprocess.CompletedProcess:
    return box("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", script, **keywords)


@pytest.mark.parametrize("userns", [[], ["--userns", "host"]])
def test_what_root_writes_belongs_to_the_hosts_root(box: Pycontainer, place: pathlib.Path, userns: list[str]) -> None:
    (place / "mine").write_text("from the host")
    os.chown(place / "mine", 1000, 1001)
    script = "cat /v/mine; stat -c '%u:%g' /v/mine /v; echo x > /v/new; mkdir /v/d; chown 33:34 /v/d"
    result = run(box, script, "-v", f"{place}:/v", *userns, check=True)
    assert result.stdout == "from the host1000:1001\n0:0\n"
    assert [(place / name).stat().st_uid for name in ("new", "d")] == [0, 33]
    assert (place / "d").stat().st_gid == 34
    assert (place / "new").read_text() == "x\n"


def test_an_ordinary_user_is_the_hosts_user_of_that_number(box: Pycontainer, place: pathlib.Path) -> None:
    (place / "roots").write_text("x")
    (place / "roots").chmod(0o600)
    place.chmod(0o777)
    result = run(box, "cat /v/roots; echo y > /v/new", "-v", f"{place}:/v", "-u", "nobody")
    assert "Permission denied" in result.stderr
    assert (place / "new").stat().st_uid == 65534


@pytest.mark.parametrize("userns", [[], ["--userns", "host"]])
def test_read_only(box: Pycontainer, place: pathlib.Path, userns: list[str]) -> None:
    (place / "file").write_text("x")
    result = run(box, "cat /v/file; echo y > /v/file; touch /v/new; rm /v/file", "-v", f"{place}:/v:ro", *userns)
    assert result.stdout == "x"
    assert result.stderr.count("Read-only file system") == 3
    assert os.listdir(place) == ["file"]


def test_read_only_reaches_what_is_mounted_below(box: Pycontainer, place: pathlib.Path) -> None:
    (place / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place / "below"], check=True)
    try:
        result = run(box, "touch /v/below/x || echo refused", "-v", f"{place}:/v:ro", "--userns", "host")
        assert result.stdout == "refused\n"
        result = run(box, "touch /v/below/x && echo written", "-v", f"{place}:/v", "--userns", "host")
        assert result.stdout == "written\n"
    finally:
        subprocess.run(["umount", place / "below"], check=True)


def test_a_single_file(box: Pycontainer, place: pathlib.Path) -> None:
    (place / "file").write_text("host\n")
    result = run(box, "cat /etc/motd2; echo more >> /etc/motd2; cat /new/deep/file", "-v", f"{place}/file:/etc/motd2",
                 "-v", f"{place}/file:/new/deep/file:ro", check=True)  # fmt: skip
    assert result.stdout == "host\nhost\nmore\n"
    assert (place / "file").read_text() == "host\nmore\n"


def test_a_missing_source_is_made(box: Pycontainer, place: pathlib.Path) -> None:
    run(box, "touch /v/x", "-v", f"{place}/a/b:/v", check=True)
    assert (place / "a/b/x").exists()


def test_volumes_within_volumes(box: Pycontainer, place: pathlib.Path) -> None:
    for name in ("outer", "inner"):
        (place / name).mkdir()
        (place / name / name).touch()
    options = ["-v", f"{place}/inner:/v/sub", "-v", f"{place}/outer:/v"]
    assert run(box, "ls /v /v/sub", *options, check=True).stdout.split() == ["/v:", "outer", "sub", "/v/sub:", "inner"]


def test_over_what_the_engine_mounts(box: Pycontainer, place: pathlib.Path) -> None:
    (place / "hosts").write_text("192.0.2.9 mine\n")
    assert run(box, "cat /etc/hosts", "-v", f"{place}/hosts:/etc/hosts", check=True).stdout == "192.0.2.9 mine\n"


def test_a_target_that_is_a_link_stays_in_the_container(box: Pycontainer, place: pathlib.Path) -> None:
    """The image's own link to an absolute path is followed inside the image and nowhere else."""
    (place / "source").mkdir()
    (place / "source/seen").touch()
    box("run", "--network", "none", "--name", "linked", "busybox", "true", check=True)
    box("rm", "linked", check=True)
    victim = place / "victim"
    victim.mkdir()
    # /v is a volume in which a link points at a directory of the host's; a second volume is aimed through it.
    (place / "links").mkdir()
    (place / "links/out").symlink_to(victim)
    result = run(box, f"ls /v/out/deep {victim}/deep", "-v", f"{place}/links:/v", "-v", f"{place}/source:/v/out/deep")
    assert list(victim.iterdir()) == [], "nothing was made on the host"
    if result.returncode == 0:
        assert "seen" in result.stdout
    else:
        assert len(result.stderr.splitlines()) <= 2
        assert "Traceback" not in result.stderr


def test_nothing_of_it_shows_on_the_host(box: Pycontainer, place: pathlib.Path) -> None:
    before = mounts()
    process = box.popen(
        "run", "--rm", "--network", "none", "-i", "-v", f"{place}:/v", "busybox", "sh", "-c", "echo ready; cat",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == b"ready\n"
        # Without the network namespaces that another session's lab makes.
        assert [made for made in mounts() - before if not made.startswith("/run/netns")] == []
    finally:
        process.communicate(timeout=60)


def test_a_source_that_cannot_be_mapped_is_explained(box: Pycontainer) -> None:
    """sysfs has no ID-mapped mounts; the way out is named."""
    result = run(box, "true", "-v", "/sys/kernel:/v")
    assert result.returncode == 125
    first, hint = result.stderr.splitlines()
    assert "/sys/kernel" in first
    assert "--userns=host" in hint


@pytest.fixture
def unmappable(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """A mount below `place`, with a space in its name, of a file system that has no ID-mapped mounts."""
    below = place / "be low"
    below.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", below], check=True)
    (below / "file").write_text("x")
    try:
        yield below
    finally:
        subprocess.run(["umount", below], check=True)


def test_a_mount_below_that_cannot_be_mapped_is_named(
    box: Pycontainer, place: pathlib.Path, unmappable: pathlib.Path
) -> None:
    result = run(box, "true", "-v", f"{place}:/v:ro")
    assert result.returncode == 125
    first, hint = result.stderr.splitlines()
    assert f"open volume /v: {unmappable}: this kernel has no ID-mapped mounts of ramfs" in first
    assert "bind-nonrecursive" in hint and "noidmap" in hint and "--userns=host" in hint

    # And each way out is one.
    show = "stat -c %u /v; ls /v/be*"
    for options, output in {
        ("--mount", f"type=bind,src={place},dst=/v,bind-nonrecursive"): "0\n",
        ("-v", f"{place}:/v:noidmap"): "65534\nfile\n",
        ("--mount", f"type=bind,src={place},dst=/v,bind-noidmap"): "65534\nfile\n",
        ("--userns", "host", "-v", f"{place}:/v"): "0\nfile\n",
    }.items():
        assert run(box, show, *options, check=True).stdout == output


def test_a_source_that_cannot_be_mapped_itself_is_named(box: Pycontainer, unmappable: pathlib.Path) -> None:
    result = run(box, "true", "-v", f"{unmappable}:/v")
    assert f"{unmappable}: this kernel has no ID-mapped mounts of ramfs" in result.stderr
    assert "bind-nonrecursive" not in result.stderr, "which would not help"


@pytest.mark.parametrize("options", [(), ("--userns", "host")], ids=["own ids", "host ids"])
def test_a_source_above_the_place_where_roots_are_mounted(box: Pycontainer, options: tuple[str, ...]) -> None:
    """What is mounted there for the container itself is no part of the volume, and does not keep it from being mapped.

    /run is such a source, and / is.
    """
    if not options and os.uname().release.startswith(("5.", "6.0.", "6.1.", "6.2.")):
        pytest.skip("Linux 6.3 is the first with ID-mapped mounts of tmpfs")
    volume = ("-v", f"{box.state}:/v:ro", *options)
    result = run(
        box, "ls -d /v/launcher.sock; ls -A /v/rootfs; grep -c ' /v[ /]' /proc/self/mountinfo", *volume, check=True
    )
    assert result.stdout == "/v/launcher.sock\n1\n"
    box("create", "--name", "above", *volume, "busybox", "true", check=True)
    try:
        assert box("cp", "above:/v/rootfs", "-", text=False, check=True).stdout
        explained = run(box, "true", "--explain=calls", *volume, check=True).stderr
        assert f'umount2("{box.state}/rootfs", MNT_DETACH)' in explained
    finally:
        box("rm", "above", check=True)


def test_without_a_map_root_in_the_container_is_nobody_on_the_host(box: Pycontainer, place: pathlib.Path) -> None:
    (place / "secret").write_text("x")
    (place / "secret").chmod(0o600)
    place.chmod(0o777)
    result = run(box, "cat /v/secret; echo y > /v/new; ls -l /v/new", "-v", f"{place}:/v:noidmap")
    assert "Permission denied" in result.stderr
    assert (place / "new").stat().st_uid >= 65536


def test_without_a_map_cp_finds_the_files_of_a_stopped_container(box: Pycontainer, unmappable: pathlib.Path) -> None:
    box("create", "--name", "stopped", "-v", f"{unmappable}:/v:noidmap", "busybox", "true", check=True)
    try:
        assert b"x" in box("cp", "stopped:/v/file", "-", check=True, text=False).stdout
    finally:
        box("rm", "stopped", check=True)


def test_a_file_on_a_directory_is_refused(box: Pycontainer, place: pathlib.Path) -> None:
    (place / "file").touch()
    result = run(box, "true", "-v", f"{place}/file:/etc")
    assert result.returncode == 125
    assert len(result.stderr.splitlines()) <= 2


@pytest.fixture
def images(engine_env: dict[str, str]) -> Box:
    """A store of its own, into which images with layers of the test's own are loaded."""
    return Box(engine_env)


def data(box: Pycontainer, name: str) -> pathlib.Path:
    return box.root / "volumes" / name / "_data"


def volume_names(box: Pycontainer) -> list[str]:
    return sorted(os.listdir(box.root / "volumes"))


USERNS = pytest.mark.parametrize("userns", [[], ["--userns", "host"]], ids=["userns", "host"])


class TestNamed:
    def test_it_outlives_its_containers_and_is_the_same_for_all(self, box: Pycontainer) -> None:
        """Each container has a range of ids of its own; in the volume, root is root for all of them."""
        script = "touch /v/a /v/b; chown 33:34 /v/a; mkdir /v/d; chmod 4755 /v/a"
        run(box, script, "-v", "shared:/v", check=True)
        for userns in ([], ["--userns", "host"]):
            found = run(box, "stat -c '%u:%g:%a' /v/a /v/d; echo y >>/v/b", "-v", "shared:/v", *userns, check=True)
            assert found.stdout.split() == ["33:34:4755", "0:0:755"]
        file = data(box, "shared") / "a"
        assert (file.stat().st_uid, file.stat().st_gid) == (33, 34), "on the disk the ids are the container's own"
        assert (data(box, "shared") / "b").read_text() == "y\ny\n"
        box("volume", "rm", "shared", check=True)
        assert not (box.root / "volumes/shared").exists()

    def test_at_the_same_time(self, box: Pycontainer) -> None:
        command = ("run", "--rm", "--network", "none", "-i", "-v", "live:/v", "busybox", "sh", "-c")
        first = box.popen(
            *command, "echo ready; read line; cat /v/second", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert first.stdout is not None
        assert first.stdout.readline() == b"ready\n"
        run(box, "echo hello >/v/second", "-v", "live:/v", check=True)
        assert first.communicate(b"\n", timeout=60)[0] == b"hello\n"
        box("volume", "rm", "live", check=True)

    @USERNS
    def test_read_only(self, box: Pycontainer, userns: list[str]) -> None:
        box("volume", "create", "ro", check=True)
        result = run(box, "touch /v/x || touch /w/x", "-v", "ro:/v:ro", "--mount", "src=ro,dst=/w,ro", *userns)
        assert result.returncode == 1
        assert result.stderr.count("Read-only file system") == 2
        box("volume", "rm", "ro", check=True)

    def test_no_device_of_a_volume_is_one(self, box: Pycontainer) -> None:
        options = ("--userns", "host", "-v", "nodes:/v")
        result = run(box, "mknod /v/null c 1 3 && echo x >/v/null", *options)
        assert result.returncode == 1
        assert "Permission denied" in result.stderr
        box("volume", "rm", "nodes", check=True)

    def test_over_a_file_is_refused(self, box: Pycontainer) -> None:
        result = run(box, "true", "-v", "whole:/etc/passwd")
        assert result.returncode == 125
        assert len(result.stderr.splitlines()) <= 2
        box("volume", "rm", "whole", check=True)

    def test_on_a_subdirectory_and_on_a_link_of_another(self, box: Pycontainer) -> None:
        run(box, "mkdir /v/sub; ln -s /home /v/link", "-v", "outer:/v", check=True)
        run(box, "touch /v/sub/x /v/link/y", "-v", "outer:/v", "-v", "inner:/v/sub", "-v", "inner:/v/link", check=True)
        assert sorted(os.listdir(data(box, "inner"))) == ["x", "y"]
        assert os.listdir(data(box, "outer") / "sub") == []
        box("volume", "rm", "outer", "inner", check=True)

    def test_in_use_it_stays(self, box: Pycontainer) -> None:
        for name in ("first", "second"):
            box("create", "--network", "none", "--name", name, "-v", "used:/v", "busybox", "true", check=True)
        for options in ([], ["-f"]):
            result = box("volume", "rm", *options, "used")
            assert result.returncode == 1
            assert "first, second" in result.stderr
        box("rm", "-v", "first", "second", check=True)
        assert data(box, "used").exists(), "it has a name"
        box("volume", "rm", "used", check=True)
        assert box("volume", "rm", "used").returncode == 1
        box("volume", "rm", "-f", "used", check=True)

    def test_one_of_a_removal_and_a_creation_comes_first(self, box: Pycontainer) -> None:
        outcomes = set()
        for number in range(8):
            box("volume", "create", "race", check=True)
            (data(box, "race") / "file").touch()
            name = f"racer{number}"
            create = box.popen(
                "create", "--network", "none", "--name", name, "-v", "race:/v", "busybox", "true",
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            remove = box("volume", "rm", "race")
            assert create.wait(60) == 0
            create.stderr.close()
            outcomes.add(remove.returncode)
            # Either the container has the volume as it was, or a new one.
            assert os.listdir(data(box, "race")) == ([] if remove.returncode == 0 else ["file"])
            box("rm", name, check=True)
            box("volume", "rm", "race", check=True)
        assert outcomes <= {0, 1}


class TestAnonymous:
    @pytest.mark.parametrize("options", [["--rm"], []], ids=["--rm", "rm -v"])
    def test_it_goes_with_its_container(self, images: Box, options: list[str]) -> None:
        image = images.image(Volumes={"/data": {}})
        arguments = ["--network", "none", "--name", "web", "-v", "/mine", "--mount", "dst=/long", image]
        result = images("run", *options, *arguments, "sh", "-c", "touch /data/x /mine/x /long/x", check=True)
        assert result.stderr == ""
        if not options:
            assert [len(name) for name in volume_names(images)] == [64] * 3
            assert all(os.listdir(data(images, name)) == ["x"] for name in volume_names(images))
            images("rm", "-v", "web", check=True)
        assert volume_names(images) == []

    def test_it_stays_without_v_and_over_restarts(self, images: Box) -> None:
        image = images.image(Volumes={"/data": {}})
        images("run", "--network", "none", "--name", "web", image, "sh", "-c", "echo x >>/data/x", check=True)
        images("start", "web", check=True)
        images("wait", "web", check=True)
        (name,) = volume_names(images)
        assert (data(images, name) / "x").read_text() == "x\nx\n"
        images("rm", "web", check=True)
        assert volume_names(images) == [name]
        images("volume", "prune", "-f", check=True)
        assert volume_names(images) == []

    def test_of_a_run_that_fails_nothing_is_left(self, images: Box) -> None:
        image = images.image(Volumes={"/data": {}})
        assert images("run", "--rm", "--network", "none", image, "/no/such/program").returncode == 127
        assert volume_names(images) == []
        assert (
            images("create", "--network", "none", "--cidfile", f"{images.root}/no/cid", image, "true").returncode != 0
        )
        assert volume_names(images) == []

    def test_volumes_from(self, images: Box) -> None:
        image = images.image(Volumes={"/data": {}})
        images("run", "--network", "none", "--name", "first", "-v", "vol:/vol", image, "touch", "/data/x", check=True)
        script = "ls /data; touch /vol/y; touch /data/y || echo refused"
        options = ("--rm", "--network", "none", "--volumes-from")
        result = images("run", *options, "first", image, "sh", "-c", script, check=True)
        assert result.stdout == "x\n"
        result = images("run", *options, "first:ro", image, "sh", "-c", script, check=True)
        assert result.stdout == "x\ny\nrefused\n"
        images("rm", "-v", "first", check=True)
        assert volume_names(images) == ["vol"]
        result = images("run", *options, "first", image, "true")
        assert result.returncode == 125
        assert "first" in result.stderr


class TestCopyUp:
    def image(self, images: Box) -> str:
        """Two layers above the programs, the upper one of which takes a file away."""
        capability = (b"\x01\x00\x00\x02" + b"\x00\x04\x00\x00" + bytes(12)).decode("utf-8", "surrogateescape")
        layer = LayerTar().directory("data", 0o1770, uid=33, gid=34)
        layer.add("data/ping", b"x", mode=0o4755, pax_headers={"SCHILY.xattr.security.capability": capability})
        layer.add("data/mine", b"mine", mode=0o640, uid=1000, gid=1001)
        layer.link("data/again", "data/mine").symlink("data/link", "/etc/passwd", uid=5)
        layer.directory("data/deep", uid=7).add("data/deep/file", b"deep")
        layer.add("data/deep/.wh.gone")
        layer.symlink("elsewhere", "data")
        return images.image(layer, Volumes={"/data": {}})

    LOOK = "cd /data; stat -c '%n %a %u:%g' . ping mine deep deep/file; stat -c '%u %N' link; cat deep/file again"

    @USERNS
    def test_an_empty_volume_gets_the_images_files(self, images: Box, userns: list[str]) -> None:
        image = self.image(images)
        expected = run_image(images, image, self.LOOK, "--tmpfs", "/x", *userns, "-v", "bare:/other")
        found = run_image(images, image, self.LOOK, *userns, "-v", "vol:/data")
        assert ". 1770 33:34\nping 4755 0:0\nmine 640 1000:1001\ndeep 755 7:0\n" in found
        assert "5 'link' -> '/etc/passwd'" in found
        assert found == expected
        # The same numbers on the disk, so that every container's range sees them.
        top = data(images, "vol")
        assert ((top / "mine").stat().st_uid, (top / "mine").stat().st_gid) == (1000, 1001)
        assert (top / "mine").samefile(top / "again")
        assert (top / "link").lstat().st_uid == 5
        value = os.getxattr(top / "ping", "security.capability")
        assert value == b"\x01\x00\x00\x02" + b"\x00\x04\x00\x00" + bytes(12)
        assert sorted(os.listdir(top / "deep")) == ["file"]
        other = run_image(images, image, self.LOOK, "-v", "vol:/data", *([] if userns else ["--userns", "host"]))
        assert other == found

    def test_through_a_link_of_the_images(self, images: Box) -> None:
        assert "mine" in run_image(images, self.image(images), "ls /x", "-v", "vol:/elsewhere", "-v", "vol:/x")

    def test_what_is_changed_stays_changed(self, images: Box) -> None:
        image = self.image(images)
        run_image(images, image, "rm -r /data/* && touch /data/own", "-v", "vol:/data")
        assert run_image(images, image, "ls /data", "-v", "vol:/data") == "own\n"
        run_image(images, image, "rm /data/own", "-v", "vol:/data")
        assert "mine" in run_image(images, image, "ls /data", "-v", "vol:/data"), "as docker has it"
        assert run_image(images, image, "ls /data", "-v", "new:/data:nocopy") == ""

    def test_of_two_that_start_at_once_one_copies(self, images: Box) -> None:
        image = self.image(images)
        command = ["run", "--rm", "--network", "none", "-v", "vol:/data", image, "sh", "-c", "ls /data /data/deep"]
        started = [images.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(3)]
        results = [process.communicate(timeout=60)[0].decode() for process in started]
        assert results == ["/data:\nagain\ndeep\nlink\nmine\nping\n\n/data/deep:\nfile\n"] * 3
        assert volume_names(images) == ["vol"]
        assert os.listdir(images.root / "volumes/vol") == ["_data"]

    def test_it_is_explained(self, images: Box) -> None:
        result = images(
            "run", "--rm", "--network", "none", "--explain=calls", "-v", "vol:/data", self.image(images), "true"
        )
        assert "cp -a …/data/. " in result.stderr
        assert "an empty volume" in result.stderr or "a volume that is empty" in result.stderr

    @pytest.mark.parametrize("place", ["copy_tree", "_finish", "_open_image"])
    def test_killed_in_the_middle(self, images: Box, place: str) -> None:
        """Killed by its own hand half way; the next start makes it whole."""
        image = self.image(images)
        images("create", "--network", "none", "--name", "web", "-v", "vol:/data", image, "ls", "/data", check=True)
        script = f"""
import os, signal, sys
from pycontainer.engine import containers, copy_tree, copy_up, volumes
from pycontainer.engine.database import open_database
from pycontainer.engine.settings import Settings
from pycontainer.image import overlay
from pycontainer.image.store import Store
from pycontainer.kernel.operation import Journal
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if {place!r} == "copy_tree":
    attributes, calls = copy_tree.copy_attributes, []
    copy_tree.copy_attributes = lambda *a: die() if len(calls) == 3 else calls.append(attributes(*a))
elif {place!r} == "_finish":
    rename, calls = os.rename, []
    os.rename = lambda *a, **k: die() if len(calls) == 3 else calls.append(rename(*a, **k))
else:
    copy_up.CopyUp._open_image = die
settings = Settings()
connection = open_database(settings.root)
web = containers.find(connection, "web")
layers = Store(settings.root, connection).get(web.image_id).layers
overlay.PrivateMounts().execute()
volumes.prepare(settings, connection, web.id, web.config, layers, Journal())
"""
        result = subprocess.run(
            [sys.executable, "-P", "-c", script],
            env={**os.environ, **images.environment},
            capture_output=True,
            text=True,
        )
        assert result.returncode == -9, result.stderr
        files = sorted(os.listdir(images.root / "volumes/vol"))
        assert (
            files
            == {"copy_tree": ["_copy.partial", "_data"], "_finish": ["_copy", "_data"], "_open_image": ["_data"]}[place]
        )
        result = images("start", "-a", "web", check=True)
        assert result.stdout == "again\ndeep\nlink\nmine\nping\n"
        assert os.listdir(images.root / "volumes/vol") == ["_data"]


def run_image(images: Box, image: str, script: str, *options: str) -> str:
    result = images("run", "--rm", "--network", "none", *options, image, "sh", "-c", script, check=True)
    return result.stdout


class TestMount:
    def test_a_missing_source_is_refused(self, box: Pycontainer, place: pathlib.Path) -> None:
        result = run(box, "true", "--mount", f"type=bind,src={place}/none,dst=/v")
        assert result.returncode == 125
        assert f"{place}/none" in result.stderr
        assert not (place / "none").exists()

    def test_one_that_goes_away_later_is_refused_at_the_start(self, box: Pycontainer, place: pathlib.Path) -> None:
        (place / "there").mkdir()
        mount = f"type=bind,src={place}/there,dst=/v"
        box("create", "--network", "none", "--name", "late", "--mount", mount, "busybox", "true", check=True)
        (place / "there").rmdir()
        result = box("start", "late")
        assert result.returncode != 0
        assert f"{place}/there" in result.stderr
        box("rm", "late", check=True)

    def test_without_what_is_mounted_below(self, box: Pycontainer, place: pathlib.Path) -> None:
        (place / "below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", place / "below"], check=True)
        try:
            (place / "below/seen").touch()
            mount = f"type=bind,src={place},dst=/v"
            options = ("--userns", "host", "--mount")
            assert run(box, "ls /v/below", *options, f"{mount}", check=True).stdout == "seen\n"
            assert run(box, "ls /v/below", *options, f"{mount},bind-recursive=disabled", check=True).stdout == ""
            script = "touch /v/x || touch /v/below/x && echo written"
            result = run(box, script, *options, f"{mount},ro,bind-recursive=writable", check=True)
            assert result.stdout == "written\n"
        finally:
            subprocess.run(["umount", place / "below"], check=True)

    def test_tmpfs(self, box: Pycontainer) -> None:
        options = ["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0750", "--tmpfs", "/root", "--tmpfs", "/new"]
        script = "stat -c '%a %u' /t /root /new; grep -c ' /t tmpfs .*size=1024k' /proc/mounts"
        # /root is 0700 in the image, and what covers it too, as in runc.
        assert run(box, script, *options, check=True).stdout == "750 0\n700 0\n1777 0\n1\n"

    def test_relative_paths_are_the_callers(self, box: Pycontainer, place: pathlib.Path) -> None:
        (place / "x").touch()
        command = [*COMMAND, "run", "--rm", "--network", "none", "-v", "./:/v", "--mount", "type=bind,src=.,dst=/w"]
        environment = {**os.environ, **box.environment, "PYTHONPATH": str(REPOSITORY)}
        result = subprocess.run(
            [*command, "busybox", "ls", "/v", "/w"],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout == "/v:\nx\n\n/w:\nx\n"


class TestCommands:
    def test_create_list_inspect_remove(self, pycontainer: Pycontainer) -> None:
        assert pycontainer("volume", "create", "--label", "a=b", "zz", check=True).stdout == "zz\n"
        name = pycontainer("volume", "create", check=True).stdout.strip()
        assert len(name) == 64
        assert pycontainer("volume", "ls", "-q", check=True).stdout.split() == [name, "zz"]
        assert pycontainer("volume", "ls", check=True).stdout.split() == [
            "DRIVER",
            "VOLUME",
            "NAME",
            "local",
            name,
            "local",
            "zz",
        ]
        (found,) = json.loads(pycontainer("volume", "inspect", "zz", check=True).stdout)
        assert found["Labels"] == {"a": "b"}
        assert found["Mountpoint"] == str(data(pycontainer, "zz"))
        for filters, expected in (
            (["label=a"], ["zz"]),
            (["label=a=c"], []),
            (["name=z"], ["zz"]),
            (["dangling=true"], [name, "zz"]),
            (["dangling=false"], []),
            (["driver=local"], [name, "zz"]),
            (["driver=nfs"], []),
        ):
            options = [word for text in filters for word in ("--filter", text)]
            assert pycontainer("volume", "ls", "-q", *options, check=True).stdout.split() == expected, filters
        assert pycontainer("volume", "ls", "--format", "{{.Name}} {{.Driver}}").stdout.split("\n")[1] == "zz local"
        result = pycontainer("volume", "rm", name, "nope", "zz")
        assert (result.returncode, result.stdout) == (1, f"{name}\nzz\n")
        assert "nope" in result.stderr
        assert pycontainer("volume", "inspect", "zz").returncode == 1

    @pytest.mark.parametrize(
        "arguments",
        [["-o", "type=nfs", "x1"], ["-d", "nfs", "x1"], ["-bad"], ["a/b"], ["x"], ["--label", "=x", "x1"]],
    )
    def test_refused(self, pycontainer: Pycontainer, arguments: list[str]) -> None:
        result = pycontainer("volume", "create", *arguments)
        assert result.returncode != 0
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 2, "what is wrong, and a hint"

    def test_prune(self, box: Pycontainer) -> None:
        box("volume", "create", "named", check=True)
        box("volume", "create", "--label", "keep", "kept", check=True)
        name = box("volume", "create", check=True).stdout.strip()
        (data(box, name) / "file").write_bytes(b"x" * 2000)
        assert box("volume", "prune", input="n\n").returncode == 0
        assert name in volume_names(box)
        result = box("volume", "prune", "-f", check=True)
        assert name in result.stdout
        assert "2kB" in result.stdout
        assert volume_names(box) == ["kept", "named"]
        box("volume", "prune", "-f", "-a", "--filter", "label!=keep", check=True)
        assert volume_names(box) == ["kept"]
        box("volume", "rm", "kept", check=True)

    def test_what_a_killed_removal_leaves_the_next_command_clears(self, pycontainer: Pycontainer) -> None:
        pycontainer("volume", "create", "vol", check=True)
        os.rename(pycontainer.root / "volumes/vol", pycontainer.root / "volumes/.01234567.vol")
        assert pycontainer("volume", "ls", "-q", check=True).stdout == "vol\n"
        assert volume_names(pycontainer) == ["vol"]
        (pycontainer.root / "volumes/.01234567.other/_data/deep").mkdir(parents=True)
        (pycontainer.root / "volumes/unrecorded/_data").mkdir(parents=True)
        pycontainer("volume", "ls", check=True)
        assert volume_names(pycontainer) == ["vol"]
