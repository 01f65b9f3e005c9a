"""The two operands of `cp`."""

from __future__ import annotations

import pytest

from pycontainer.engine.copy import Place, parse_place
from pycontainer.errors import UsageError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/etc/hosts", Place("web", "/etc/hosts")),
        ("web:etc/hosts", Place("web", "etc/hosts")),
        ("web:a:b", Place("web", "a:b")),
        ("file", Place("", "file")),
        ("/a:b", Place("", "/a:b")),
        ("./a:b", Place("", "./a:b")),
        ("../a:b", Place("", "../a:b")),
        ("-", Place("", "-")),
        (":file", Place("", "file")),
    ],
)
def test_place(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "web:", ":"])
def test_no_place(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


@pytest.mark.parametrize(("text", "expected"), [("-", True), ("web:-", False), ("./-", False)])
def test_stream(text: str, expected: bool) -> None:
    assert parse_place(text).is_stream is expected
