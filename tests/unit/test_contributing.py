"""CONTRIBUTING.md names what there is."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY

from pycontainer.cli.lecture import CONTENTS
from pycontainer.network.shaping import LiftRate, LimitRate

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:pycontainer|tests|docs|images)/[\w/.]+)`|\]\((\w[\w/.]+)\)", TEXT)))


@pytest.mark.parametrize("path", ["".join(each) for each in PATHS])
def test_a_file(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_the_example() -> None:
    """Each file of the table has to do with it."""
    table = TEXT.partition("## An example")[2].partition("\n## ")[0]
    files = [
        path
        for row in table.splitlines()
        if row.startswith("| `")
        for path in re.findall("`([^`]+)`", row[: row.index("|", 1)])
    ]
    assert len(files) == 13
    for path in files:
        text = (REPOSITORY / path).read_text()
        assert re.search(
            "network.rate|shaping|traffic control|token bucket|NEWQDISC|check_rights", text, re.IGNORECASE
        ), path
    placed = set().union(*(chapter.operations for chapter in CONTENTS))
    assert {LimitRate.__name__, LiftRate.__name__} <= placed
