"""-v: directories, files, ids, read-only, and sources and targets that are missing or hostile."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
from conftest import Pycontainer, mounts


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
    assert process.stdout.readline() == b"ready\n"
    assert mounts() == before
    process.communicate(timeout=60)


def test_a_source_that_cannot_be_mapped_is_explained(box: Pycontainer) -> None:
    """sysfs has no ID-mapped mounts; the way out is named."""
    result = run(box, "true", "-v", "/sys/kernel:/v")
    assert result.returncode == 125
    first, hint = result.stderr.splitlines()
    assert "/sys/kernel" in first
    assert "--userns=host" in hint


def test_a_file_on_a_directory_is_refused(box: Pycontainer, place: pathlib.Path) -> None:
    (place / "file").touch()
    result = run(box, "true", "-v", f"{place}/file:/etc")
    assert result.returncode == 125
    assert len(result.stderr.splitlines()) <= 2
