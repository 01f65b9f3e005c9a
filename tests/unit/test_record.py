"""What is recorded of a step's system calls: kernel/record.py and those who record."""

from __future__ import annotations

import os
import pathlib

import pytest

from pycontainer.kernel import files, mount, record, root_path


@pytest.fixture
def told():
    found: list[str] = []
    record.start(found.extend)
    yield found
    record.forget()


def test_files_record_what_they_do(tmp_path: pathlib.Path, told: list[str]) -> None:
    directory = files.open(str(tmp_path), os.O_RDONLY | os.O_DIRECTORY)
    files.mkdir("a\nb", 0o700, dir_fd=directory)
    files.symlink("/there", "link", dir_fd=directory)
    file = files.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=directory)
    files.write(file, b"1\n")
    with pytest.raises(FileExistsError):
        files.mkdir("a\nb", dir_fd=directory)
    record.stop()
    os.close(file)
    os.close(directory)
    assert told == [
        f'openat(AT_FDCWD, "{tmp_path}", O_RDONLY|O_DIRECTORY) = {directory}',
        f'mkdirat({directory}<{tmp_path}>, "a\\nb", 0700)',
        f'symlinkat("/there", {directory}<{tmp_path}>, "link")',
        f'openat({directory}<{tmp_path}>, "file", O_WRONLY|O_CREAT, 0644) = {file}',
        f'write({file}<file>, "1\\n", 2)',
        f'mkdirat({directory}<{tmp_path}>, "a\\nb", 0777) = -1 EEXIST',
    ]


def test_what_was_handed_over_is_what_is_shown(tmp_path: pathlib.Path, told: list[str]) -> None:
    with pytest.raises(OSError, match=r"."):
        mount.mount("tmpfs", f"{tmp_path}/none", "tmpfs", mount.MS_NOSUID | mount.MS_RDONLY, "size=1k")
    root = os.open(tmp_path, os.O_PATH)
    record.name(root, "root")
    os.close(root_path.make_directories(root, "/a/b"))
    record.stop()
    os.close(root)
    how = "{flags=O_DIRECTORY|O_PATH|O_CLOEXEC, resolve=RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT}, 24"
    error = told[0].rpartition(" ")[2]
    assert told[0] == f'mount("tmpfs", "{tmp_path}/none", "tmpfs", MS_RDONLY|MS_NOSUID, "size=1k") = -1 {error}'
    assert error in ("ENOENT", "EPERM")
    assert told[1:4] == [
        f'openat2({root}<root>, "/a/b", {how}) = -1 ENOENT',
        f'openat2({root}<root>, "/a", {how}) = -1 ENOENT',
        f'openat2({root}<root>, "/", {how}) = {root + 1}',
    ]
    assert told[4] == f'mkdirat({root + 1}</>, "a", 0755)'


def test_what_repeats_is_one_line(told: list[str]) -> None:
    dropped = [f"prctl(DROP, CAP_{letter})" for letter in "ABC"]
    for line in ["f(1)", "f(1)", *dropped, "g(A, B)", "g(A, C)"]:
        record.add(line)
    record.stop()
    assert told == ["f(1)  2 times", "prctl(DROP, X) for X in CAP_A, CAP_B, CAP_C", "g(A, B)", "g(A, C)"]


def test_a_new_process_tells_nothing_of_its_parents(told: list[str]) -> None:
    record.add("f()")
    record.forget()
    record.stop()
    files.chdir(".")
    assert told == []
