"""The log of a container: what was written is read back, byte for byte, over rotation and torn files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontainer import json_text
from pycontainer.errors import HostError
from pycontainer.monitor.clock import rfc3339, rfc3339_ns
from pycontainer.monitor.log_reader import LogReader
from pycontainer.monitor.log_writer import LogWriter

LARGE = 1 << 30


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def read(reader: LogReader, stream: str = "") -> bytes:
    return b"".join(record.data for record in reader.records() if stream in ("", record.stream))


def write(path: str, *chunks: bytes, max_size: int = LARGE, max_files: int = 4) -> None:
    writer = LogWriter(path, max_size, max_files)
    for chunk in chunks:
        writer.write("stdout", chunk)
    writer.close()


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=50)), max_size=20))
def test_every_byte_comes_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[str, bytes]]) -> None:
    path = str(tmp_path_factory.mktemp("log") / "log")
    writer = LogWriter(path, LARGE, 1)
    for stream, data in chunks:
        writer.write(stream, data)
    for stream in ("stdout", "stderr"):
        assert read(LogReader(path), stream) == b"".join(data for name, data in chunks if name == stream)


def test_a_character_cut_in_two_is_whole_again(path: str) -> None:
    euro = "€".encode()
    write(path, euro[:1], euro[1:])
    assert read(LogReader(path)).decode() == "€"


def test_a_record_has_the_shape_of_json_file(path: str) -> None:
    write(path, b"a\n")
    record = json_text.loads(Path(path).read_text())
    assert (record["log"], record["stream"]) == ("a\n", "stdout")
    assert len(record["time"]) == len("2026-01-02T15:04:05.123456789Z")


def test_rotation_keeps_the_newest(path: str) -> None:
    lines = [b"%06d\n" % number for number in range(2000)]
    write(path, *lines, max_size=4096, max_files=3)
    assert sorted(os.listdir(os.path.dirname(path))) == ["log", "log.1", "log.2"]
    assert all(os.path.getsize(f"{path}{end}") <= 4096 for end in ("", ".1", ".2"))
    kept = read(LogReader(path)).splitlines(keepends=True)
    assert kept == lines[-len(kept) :] and len(kept) > 80


def test_one_file_begins_anew(path: str) -> None:
    write(path, b"a" * 3000, b"b" * 3000, max_size=4096, max_files=1)
    assert read(LogReader(path)) == b"b" * 3000
    assert os.listdir(os.path.dirname(path)) == ["log"]


def test_a_record_larger_than_the_bound_is_kept(path: str) -> None:
    write(path, b"x" * 9000, b"y", max_size=4096)
    assert read(LogReader(path)) == b"x" * 9000 + b"y"


def test_a_restart_appends(path: str) -> None:
    write(path, b"first\n")
    write(path, b"second\n")
    assert read(LogReader(path)) == b"first\nsecond\n"


def test_what_a_killed_writer_left_is_passed_over(path: str) -> None:
    write(path, b"whole\n")
    with open(path, "a") as file:
        file.write('{"log":"to')
    assert read(LogReader(path)) == b"whole\n"
    write(path, b"next\n")
    assert read(LogReader(path)) == b"whole\nnext\n"


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"log":1,"stream":"stdout","time":""}', b"\xff", b"{" * 100000])
def test_what_is_no_record_is_passed_over(path: str, line: bytes) -> None:
    Path(path).write_bytes(line + b"\n")
    write(path, b"good")
    assert read(LogReader(path)) == b"good"


def test_a_record_in_the_middle_of_being_written_is_read_when_it_is_whole(path: str) -> None:
    write(path, b"one\n", b"two\n")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-10])
    reader = LogReader(path)
    assert read(reader) == b"one\n"
    with open(path, "ab") as file:
        file.write(data[-10:])
    assert read(reader) == b"two\n"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=60))
def test_following_over_rotations_misses_and_repeats_nothing(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = str(tmp_path_factory.mktemp("log") / "log")
    # As many files as there can be rotations: nothing is thrown away.
    writer = LogWriter(path, 300, 100)
    reader = LogReader(path)
    found = b""
    for number, size in enumerate(sizes):
        writer.write("stdout", b"%d;" % number * size)
        if number % 3 == 0:
            found += read(reader)
    assert found + read(reader) == b"".join(b"%d;" % number * size for number, size in enumerate(sizes))


def test_a_reader_that_was_left_behind_goes_on_with_the_oldest(path: str) -> None:
    writer = LogWriter(path, 4096, 2)
    writer.write("stdout", b"first\n")
    reader = LogReader(path)
    assert read(reader) == b"first\n"
    lines = [b"%06d\n" % number for number in range(500)]
    for line in lines:
        writer.write("stdout", line)
    found = read(reader)
    # First the rest of the file that it has open, then what is there.
    assert found.startswith(b"000000\n") and found.endswith(read(LogReader(path)))
    assert sorted(set(found.split())) == found.split()


def test_reading_begins_where_a_writer_stood(path: str) -> None:
    writer = LogWriter(path, 4096, 10)
    writer.write("stdout", b"before\n")
    inode, offset = writer.position()
    for number in range(100):
        writer.write("stdout", b"%06d\n" % number)
    assert os.stat(path).st_ino != inode
    assert read(LogReader(path, inode, offset)) == b"".join(b"%06d\n" % number for number in range(100))


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "chunks",
    [
        [b"a\nb\nc\nd\n"],
        [b"a\n", b"b\n", b"c\n", b"d\n"],
        [b"a\nb", b"\nc\n", b"d"],
        [b"a\nbb\n", b"c", b"c", b"\nd\n"],
    ],
    ids=str,
)
def test_tail(path: str, chunks: list[bytes], number: int) -> None:
    write(path, *chunks)
    reader = LogReader(path)
    reader.seek_lines(number)
    lines = b"".join(chunks).splitlines(keepends=True)
    assert read(reader) == b"".join(lines[-number:] if number else [])


@pytest.mark.parametrize("number", [1, 7, 150, 499, 500, 10_000])
def test_tail_over_several_files(path: str, number: int) -> None:
    lines = [b"%06d\n" % line for line in range(500)]
    write(path, *lines, max_size=4096, max_files=20)
    reader = LogReader(path)
    reader.seek_lines(number)
    assert read(reader) == b"".join(lines[-number:])


def test_tail_of_long_records(path: str) -> None:
    # Longer than what is read at once.
    write(path, b"x" * 1_000_000 + b"\n", b"y" * 1_000_000 + b"\n")
    reader = LogReader(path)
    reader.seek_lines(1)
    assert read(reader) == b"y" * 1_000_000 + b"\n"


def test_tail_between_two_times(path: str) -> None:
    lines = [f'{{"log":"{number}\\n","stream":"stdout","time":"{rfc3339(number)}"}}\n' for number in range(10)]
    Path(path).write_text("".join(lines))
    reader = LogReader(path)
    reader.seek_lines(3, since=rfc3339(5), until=rfc3339(6))
    assert read(reader).split() == [b"5", b"6", b"7", b"8", b"9"]
    reader = LogReader(path)
    reader.seek_lines(2, until=rfc3339(6))
    assert read(reader).split()[:2] == [b"5", b"6"]


def test_no_log(path: str) -> None:
    with pytest.raises(HostError, match="there is none"):
        LogReader(path)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
        (951_782_400_999_999_999, "2000-02-29T00:00:00.999999999Z"),
    ],
)
def test_times(nanoseconds: int, text: str) -> None:
    assert rfc3339_ns(nanoseconds) == text
