"""--format, --quiet and --no-trunc of every list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontainer.cli.listing import Listing
from pycontainer.errors import UsageError

COLUMNS = {"ID": "THING ID", "Name": "NAME", "Size": "SIZE", "Labels": "LABELS"}
LABELS = {"a": "b"}
ROWS: list[Any] = [
    {"ID": "1", "Name": "one", "Size": "1B", "Labels": "a=b", "Label": lambda name: LABELS.get(name, "")},
    {"ID": "2", "Name": "t\x1bo", "Size": "2B", "Labels": "", "Label": lambda name: ""},
]


def listed(capsys: pytest.CaptureFixture[str], **values: object) -> str:
    Listing(values, COLUMNS, ["ID", "Name"]).print(ROWS)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "THING ID   NAME\n1          one\n2          t\\x1bo\n"),
        ({"format": "table"}, "THING ID   NAME\n1          one\n2          t\\x1bo\n"),
        ({"quiet": True}, "1\n2\n"),
        ({"quiet": True, "format": "table {{.Name}}"}, "1\n2\n"),
        ({"quiet": True, "format": "{{.Name}}"}, "one\nt\\x1bo\n"),
        ({"format": "{{.Name}}\\t{{.Size}}"}, "one\t1B\nt\\x1bo\t2B\n"),
        ({"format": "table {{.Size}}\\t{{.ID}}"}, "SIZE      THING ID\n1B        1\n2B        2\n"),
        ({"format": "table {{.Size}}\t{{.Name}}"}, "SIZE      NAME\n1B        one\n2B        t\\x1bo\n"),
        ({"format": 'table {{.ID}}\\t{{.Label "com.example.a-b"}}'}, "THING ID   a b\n1\n2\n"),
        ({"format": '{{.Label "a"}}.'}, "b.\n.\n"),
        ({"format": "tables"}, "tables\ntables\n"),
    ],
)
def test_print(values: dict[str, object], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, **values) == expected


@pytest.mark.parametrize("text", ["json", "{{json .}}"])
def test_json_is_an_object_a_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in listed(capsys, format=text).splitlines()]
    assert lines == [{name: value for name, value in row.items() if name != "Label"} for row in ROWS]
    assert list(lines[0]) == sorted(lines[0])


def test_no_rows_leave_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    Listing({}, COLUMNS, ["ID", "Name"]).print([])
    assert capsys.readouterr().out == "THING ID   NAME\n"


@pytest.mark.parametrize("text", ["{{.name}}", "{{.Nothing}}", "table {{.name}}"])
def test_a_placeholder_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="map has no entry for key"):
        listed(capsys, format=text)


def test_a_wrong_template_is_refused_before_anything_is_looked_for() -> None:
    with pytest.raises(UsageError, match="unclosed action"):
        Listing({"format": "{{.Name"}, COLUMNS, ["ID"])


@pytest.mark.parametrize(
    ("values", "needs", "names"),
    [
        ({}, False, False),
        ({"format": "json"}, True, False),
        ({"format": "{{.Size}}"}, True, True),
        ({"format": "{{json .}} "}, True, False),
        ({"format": "{{.ID}}"}, False, False),
        ({"quiet": True}, False, False),
        ({"quiet": True, "format": "table {{.Size}}"}, False, False),
    ],
)
def test_what_is_needed(values: dict[str, object], needs: bool, names: bool) -> None:
    listing = Listing(values, COLUMNS, ["ID", "Name"])
    assert (listing.needs("Size"), listing.names("Size")) == (needs, names)
