"""The file that a program is executed from: which it is, and the words for a failure."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from pycontainer.errors import CommandNotExecutable, CommandNotFound, PycontainerError, StepFailed
from pycontainer.runtime import executable


@pytest.fixture
def env(tmp_path: pathlib.Path) -> list[str]:
    """A PATH of two directories; in the first `tool` may not be executed, in the second it may."""
    for name, mode in (("one", 0o644), ("two", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").touch(mode)
    (tmp_path / "one/data").touch(0o644)
    return ["LANG=C", f"PATH={tmp_path}/one:{tmp_path}/two"]


def test_the_first_that_may_be_executed(env: list[str], tmp_path: pathlib.Path) -> None:
    assert executable.find("tool", env) == f"{tmp_path}/two/tool"
    assert executable.find("./tool", env) == "./tool"


def test_none(env: list[str]) -> None:
    with pytest.raises(CommandNotFound, match="not found in"):
        executable.find("other", env)
    with pytest.raises(CommandNotExecutable, match="permission denied"):
        executable.find("data", env)


def test_who_is_not_sure_refuses_only_what_is_nowhere(env: list[str], tmp_path: pathlib.Path) -> None:
    assert executable.find("data", env, to_be_sure=False) == f"{tmp_path}/one/data"
    assert executable.find("other", ["PATH=bin"], to_be_sure=False) == "bin/other"
    with pytest.raises(CommandNotFound):
        executable.find("other", env, to_be_sure=False)


def elf(interpreter: bytes) -> bytes:
    """A header with one entry, which is PT_INTERP: elf(5)."""
    header = bytearray(64 + 56)
    header[:5] = b"\x7fELF\x02"
    for position, size, value in ((32, 8, 64), (54, 2, 56), (56, 2, 1), (64, 4, 3), (72, 8, 120)):
        header[position : position + size] = value.to_bytes(size, "little")
    return bytes(header) + interpreter + b"\0"


@pytest.mark.parametrize(
    "data",
    [b"#!/none -x\n", b"#! \t/none\targument", b"#!/none\0more\n", elf(b"/none")],
    ids=["#!", "tabs", "NUL", "ELF"],
)
def test_a_missing_interpreter_is_named(data: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "program").write_bytes(data)
    error = executable.explain(f"{tmp_path}/program", failure(errno.ENOENT))
    assert isinstance(error, CommandNotFound) and error.hint == "the file exists, its interpreter /none does not"


@pytest.mark.parametrize("data", [b"", b"#!", b"\x7fELF\x02", b"\x7fELF\x02" + b"\xff" * 200])
def test_a_file_that_names_none(data: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "program").write_bytes(data)
    error = executable.explain(f"{tmp_path}/program", failure(errno.ENOENT))
    assert isinstance(error, CommandNotFound) and error.hint == ""


def failure(number: int) -> StepFailed:
    return StepFailed("execve", "/program", number)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, CommandNotFound),
        (errno.ENAMETOOLONG, CommandNotFound),
        (errno.EACCES, CommandNotExecutable),
        (errno.ENOEXEC, CommandNotExecutable),
        (errno.ENOMEM, StepFailed),
    ],
)
def test_what_the_kernel_says(number: int, kind: type[PycontainerError], tmp_path: pathlib.Path) -> None:
    assert type(executable.explain(f"{tmp_path}/none", failure(number))) is kind


def test_the_engines_own_interpreter_is_refused(tmp_path: pathlib.Path) -> None:
    engine = os.stat("/proc/self/exe")
    (tmp_path / "link").symlink_to("/proc/self/exe")
    (tmp_path / "script").write_text(f"#!{tmp_path}/link\n")
    for name in ("link", "script"):
        with pytest.raises(CommandNotExecutable, match="own interpreter"):
            executable.refuse(f"{tmp_path}/{name}", engine)
    executable.refuse("/bin/sh", engine)
    executable.refuse(f"{tmp_path}/none", engine)
