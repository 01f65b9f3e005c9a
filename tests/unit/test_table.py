"""Tables, sizes and ages."""

from __future__ import annotations

import sys

import pytest

from pycontainer.cli import table


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    table.print_table(*arguments)  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


def test_columns_are_ten_wide_or_what_the_longest_cell_needs(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["ID", "IMAGE NAME", "N"], ["1", "x", "a b"], ["2", "", ""]]
    assert printed(capsys, rows) == ["ID        IMAGE NAME   N", "1         x            a b", "2"]


def test_control_characters_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [["A", "B"], ["\x1b[31m", "a\nb\u202e"]])[1] == r"\x1b[31m   a\nb\u202e"


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, [["NAME OF IT", "B"], ["\u5bb9\u5668", "b"], ["e\u0301", "b"]])
    assert [line.index(last) for line, last in zip(lines, "Bbb", strict=True)] == [13, 11, 14]


@pytest.mark.parametrize(
    ("width", "image"),
    [(80, "an image of a long name"), (42, "an image of a…"), (10, "an image of…")],
)
def test_a_narrow_terminal(
    width: int, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(table, "_terminal_width", lambda: width)
    rows = [["ID", "IMAGE", "NAME"], ["1", "an image of a long name", "name that stays"]]
    assert printed(capsys, rows, [1])[1] == f"1         {image}   name that stays"


def test_what_is_no_terminal_gets_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert "x" * 500 in printed(capsys, [["A", "B"], ["x" * 500, "y"]], [0])[1]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("", 3, ""), ("\u5bb9\u5668\u5bb9", 5, "\u5bb9\u5668…")],
)
def test_shorten(text: str, width: int, expected: str) -> None:
    assert table.shorten(text, width) == expected


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"), (999, "999B"), (1000, "1kB"), (1999, "2kB"), (999_950, "1MB"), (1_234_567, "1.23MB"),
        (5_600_000_000, "5.6GB"), (10**12, "1TB"),
    ],
)  # fmt: skip
def test_human_size(size: int, text: str) -> None:
    assert table.human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"), (1, "1 second"), (59.9, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
        (3599, "59 minutes"), (3600, "About an hour"), (7200, "2 hours"), (2 * 86400, "2 days"),
        (14 * 86400, "2 weeks"), (90 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, text: str) -> None:
    assert table.human_duration(seconds) == text
    assert table.human_age(seconds) == f"{text} ago"
