"""A range of ids for each container: unlike any other, and not to be found on the image's layers."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import stat
import subprocess

from conftest import Pycontainer


def tree_hash(top: pathlib.Path) -> str:
    """Names, types, modes, owners, times, attributes and contents of everything below a directory."""
    digest = hashlib.sha256()
    for directory, subdirectories, names in os.walk(top):
        subdirectories.sort()
        for name in sorted([*subdirectories, *names]):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            attributes = os.listxattr(path, follow_symlinks=False)
            parts = [
                os.path.relpath(path, top), status.st_mode, status.st_uid, status.st_gid, status.st_nlink,
                status.st_mtime_ns, status.st_rdev,
                [(key, os.getxattr(path, key, follow_symlinks=False)) for key in sorted(attributes)],
            ]  # fmt: skip
            if stat.S_ISREG(status.st_mode):
                parts.append(hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest())
            elif stat.S_ISLNK(status.st_mode):
                parts.append(os.readlink(path))
            digest.update(repr(parts).encode())
    return digest.hexdigest()


def start(box: Pycontainer, script: str, *options: str) -> tuple[subprocess.Popen, list[bytes]]:
    """A container that runs `script`, says ready, and waits for the end of its input; what it said before."""
    process = box.popen(
        "run", "--rm", "--network", "none", "-i", *options, "busybox", "sh", "-c", f"{script}; echo ready; cat",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    lines = []
    while (line := process.stdout.readline()) not in (b"ready\n", b""):
        lines.append(line)
    return process, lines


def end(process: subprocess.Popen) -> None:
    process.communicate(timeout=60)
    assert process.returncode == 0


def base_of(uid_map: bytes) -> int:
    inside, outside, size = map(int, uid_map.split())
    assert (inside, size) == (0, 65536)
    return outside


WORK = """
echo new > /new; chown 1000:1001 /new; echo more >> /etc/passwd; chmod 600 /etc/group; rm /etc/profile
mkdir /dir && chown 33 /dir; ln -s /etc /link; chmod 4755 /bin/busybox; mkfifo /pipe
"""


def test_the_layers_keep_their_ids_and_the_upper_directory_has_the_containers(box: Pycontainer) -> None:
    layers = [path for path in box.root.iterdir() if path.name not in ("containers",) and path.is_dir()]
    assert layers
    before = {path: tree_hash(path) for path in layers}
    process, lines = start(
        box, f"cat /proc/self/uid_map; {WORK.strip()}; stat -c '%u:%g %a' / /new /etc/passwd /bin/busybox /dir"
    )
    try:
        base = base_of(lines[0])
        assert base >= 1 << 30
        # Inside everything has the ids that the image and the container gave it.
        assert [line.split()[0] for line in lines[1:]] == [b"0:0", b"1000:1001", b"0:0", b"0:0", b"33:0"]
        [container] = (box.root / "containers").iterdir()
        upper = container / "upper"
        assert (upper / "new").exists(), "the upper directory is where it is looked for"
        owners = {upper: upper.stat().st_uid}
        for directory, subdirectories, names in os.walk(upper):
            for name in [*subdirectories, *names]:
                path = pathlib.Path(directory, name)
                owners[path] = path.lstat().st_uid
                if not stat.S_ISCHR(path.lstat().st_mode):  # a whiteout belongs to nobody
                    assert base <= path.lstat().st_gid < base + 65536, path
        assert owners[upper / "new"] == base + 1000
        assert owners[upper / "dir"] == base + 33
        assert all(base <= owner < base + 65536 for path, owner in owners.items() if not path.is_char_device())
        # A setuid program in there would be the range's, not the host root's.
        assert (upper / "bin/busybox").stat().st_uid == base
    finally:
        end(process)
    assert {path: tree_hash(path) for path in layers} == before
    assert list((box.root / "containers").iterdir()) == []


def test_two_containers_have_different_ranges(box: Pycontainer) -> None:
    first, lines = start(box, "cat /proc/self/uid_map /proc/self/gid_map")
    second, others = start(box, "cat /proc/self/uid_map /proc/self/gid_map")
    try:
        bases = {base_of(line) for line in lines}, {base_of(line) for line in others}
        assert len(bases[0]) == len(bases[1]) == 1
        assert abs(bases[0].pop() - bases[1].pop()) >= 65536
    finally:
        end(first)
        end(second)


def test_the_processes_run_as_the_range_on_the_host(box: Pycontainer) -> None:
    process, lines = start(box, "cat /proc/self/uid_map", "-u", "nobody")
    try:
        base = base_of(lines[0])
        uids = set()
        for directory in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                uids.add(int(re.search(r"^Uid:\t(\d+)", (directory / "status").read_text(), re.M)[1]))
            except (OSError, ProcessLookupError):
                continue
        assert base + 65534 in uids
    finally:
        end(process)


def test_setgroups_and_su_work_inside(box: Pycontainer) -> None:
    script = """
    su -s /bin/sh www-data -c id
    touch /x; chown 65535:65535 /x && ! chown 65536 /x 2>/dev/null && echo limit
    """
    result = box("run", "--rm", "--network", "none", "busybox", "sh", "-c", script)
    assert result.stdout.startswith("uid=33(www-data) gid=33(www-data)")
    assert result.stdout.endswith("limit\n")


def test_without_a_user_namespace_the_ids_are_the_hosts(box: Pycontainer) -> None:
    process, _ = start(box, "echo x > /new; chown 1000 /new", "--userns", "host")
    try:
        [container] = (box.root / "containers").iterdir()
        assert (container / "upper/new").stat().st_uid == 1000
        assert (container / "upper").stat().st_uid == 0
    finally:
        end(process)


def test_hard_links_and_programs_that_were_copied_up(box: Pycontainer) -> None:
    script = (
        "cp -a /bin/busybox /b2 && ln /b2 /busybox && stat -c %h /b2; touch /bin/busybox; /busybox true && echo ran"
    )
    result = box("run", "--rm", "--network", "none", "busybox", "sh", "-c", script, check=True)
    assert result.stdout.split() == ["2", "ran"]
