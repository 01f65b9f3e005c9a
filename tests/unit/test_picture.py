"""docs/lab.py --picture: the memory of a run against its limit."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree
from typing import Any

import pytest
from conftest import REPOSITORY

MIB = 1 << 20
SVG = "{http://www.w3.org/2000/svg}"


def draw(verdict: str, samples: list[list[float]], **evidence: Any) -> xml.etree.ElementTree.Element:
    described = importlib.util.spec_from_file_location("lab", REPOSITORY / "docs/lab.py")
    assert described and described.loader
    lab = importlib.util.module_from_spec(described)
    described.loader.exec_module(lab)
    known = {"samples": samples, "limit": 64 * MIB, "peak": 64 * MIB}
    return xml.etree.ElementTree.fromstring(lab.draw({"Verdict": verdict, "Evidence": known | evidence}))


def heights(picture: xml.etree.ElementTree.Element) -> list[float]:
    line = picture.find(f"{SVG}polyline")
    assert line is not None
    return [float(point.partition(",")[2]) for point in line.attrib["points"].split()]


def limit(picture: xml.etree.ElementTree.Element) -> float:
    (line,) = [each for each in picture.iter(f"{SVG}path") if each.get("class") == "limit"]
    return float(line.attrib["d"].partition(" ")[2].partition("H")[0])


SAMPLES = [[0.25, 2 * MIB], [4, 20 * MIB], [8, 50 * MIB]]


def test_one_that_was_killed_ends_at_its_limit() -> None:
    picture = draw("oom", SAMPLES)
    found = heights(picture)
    assert found == sorted(found, reverse=True) and len(found) == len(SAMPLES)
    assert found[-1] == limit(picture)
    assert "killed" in [text.text for text in picture.iter(f"{SVG}text")]


def test_another_end_stays_below_it() -> None:
    picture = draw("exited", SAMPLES)
    assert heights(picture)[-1] > limit(picture)
    assert "killed" not in [text.text for text in picture.iter(f"{SVG}text")]


@pytest.mark.parametrize("evidence", [{"samples": []}, {"limit": None}])
def test_without_samples_or_a_limit_there_is_none(evidence: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="memory limit"):
        draw("exited", **({"samples": SAMPLES} | evidence))
