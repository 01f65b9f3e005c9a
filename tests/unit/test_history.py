"""`history`: steps and their sizes, and how they are listed."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from pycontainer.cli import history as cli
from pycontainer.cli.listing import Listing
from pycontainer.engine.history import Step, history
from pycontainer.errors import ImageError
from pycontainer.image.store import SCHEMA, Store

ID = "sha256:" + "1" * 64
LONG = "/bin/sh -c apk add\tsomething-with-a-long-name and more"


def steps(tmp_path: Path, entries: Any, sizes: list[int], text: str = "") -> list[Step]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    chains = [f"{number:064}" for number in range(len(sizes))]
    connection.executemany("INSERT INTO layers VALUES (?, ?)", zip(chains, sizes, strict=True))
    text = text or json.dumps({"history": entries})
    row = (ID, "sha256:m", text, "", sum(sizes), " ".join(chains), "")
    connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    store = Store(str(tmp_path), connection)
    return history(store, store.get(ID))


def test_newest_first_with_the_sizes_of_layers(tmp_path: Path) -> None:
    entries = [
        {"created": "2026-01-01T00:00:00.5Z", "created_by": "base", "comment": "c"},
        {"created_by": "CMD", "empty_layer": True},
        {"created_by": "top", "empty_layer": False},
    ]
    found = steps(tmp_path, entries, [10, 20])
    assert [(step.created_by, step.size, step.id) for step in found] == [
        ("top", 20, ID),
        ("CMD", 0, ""),
        ("base", 10, ""),
    ]
    assert (found[2].created, found[2].comment, found[0].created) == (1767225600.5, "c", 0)


@pytest.mark.parametrize("entries", [None, [], [{"created_by": "only"}], [{"empty_layer": True}], [{}, {}, {}, {}]])
def test_sizes_add_up_whatever_others_have_written(tmp_path: Path, entries: Any) -> None:
    found = steps(tmp_path, entries, [1, 2, 4])
    assert sum(step.size for step in found) == 7
    assert [step.id for step in found] == [ID] + [""] * (len(found) - 1)


def test_types_that_nothing_checks(tmp_path: Path) -> None:
    entries = [{"created": 5, "created_by": ["x"], "comment": None, "empty_layer": "yes"}, {"created": "soon"}]
    found = steps(tmp_path, entries, [1])
    assert [(step.created, step.created_by, step.comment, step.size) for step in found] == [
        (0, "", "", 0),
        (0, "", "", 1),
    ]


def test_a_broken_config(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        steps(tmp_path, None, [], text="{")


class TestListed:
    def listed(self, capsys: pytest.CaptureFixture[str], **values: Any) -> str:
        entry = {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7200)), "created_by": LONG}
        top, old = Step(entry, 1_500_000), Step({"created": "0001-01-01T00:00:00Z", "comment": "c"}, 0)
        top.id = ID
        human = bool(values.get("human", True))
        columns = ["ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment"]
        listing = Listing(values, cli.COLUMNS, columns)
        listing.print(cli.row(step, human=human, no_trunc=listing.no_trunc) for step in (top, old))
        return capsys.readouterr().out

    def test_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        by = "/bin/sh -c apk add something-with-a-long-nam…"
        assert self.listed(capsys).splitlines() == [
            f"IMAGE          CREATED       {'CREATED BY':45}   SIZE      COMMENT",
            f"111111111111   2 hours ago   {by}   1.5MB",
            f"<missing>                    {'':45}   0B        c",
        ]

    def test_for_programs(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        for zone, shown in (("UTC0", "0001-01-01T00:00:00Z"), ("XXX-5:30", "0001-01-01T05:30:00+05:30")):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            try:
                lines = self.listed(capsys, human=False, no_trunc=True).splitlines()
            finally:
                monkeypatch.undo()
                time.tzset()
            assert lines[0].split("  ")[0] == "IMAGE" and "CREATED AT" in lines[0]
            assert lines[1].startswith(f"{ID}   ") and LONG.replace("\t", " ") in lines[1] and "   1500000" in lines[1]
            assert lines[2].split() == ["<missing>", shown, "0", "c"]

    def test_other_forms(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.listed(capsys, quiet=True) == "111111111111\n<missing>\n"
        assert self.listed(capsys, quiet=True, no_trunc=True) == f"{ID}\n<missing>\n"
        assert self.listed(capsys, format="{{.ID}} {{.Size}}{{.Comment}}") == "111111111111 1.5MB\n<missing> 0Bc\n"
        first = json.loads(self.listed(capsys, format="json").splitlines()[0])
        assert sorted(first) == ["Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size"]
