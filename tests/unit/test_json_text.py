"""JSON as the standard library reads and writes it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pycontainer import json_text

_TEXT = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too: file names have them
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES)
def test_what_is_written_reads_back(value: object) -> None:
    text = json_text.dumps(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert json_text.loads(text) == value


@given(_VALUES, st.sampled_from([None, 1, 4]))
def test_what_the_standard_library_writes_is_read_alike(value: object, indent: int | None) -> None:
    assert json_text.loads(json.dumps(value, indent=indent)) == value


@given(
    st.one_of(
        st.text('{}[]":,0123456789.eE+-truefalsn \n\t\\u', max_size=12),
        _VALUES.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])),
    )
)
@example("")
@example("   ")
@example('{"a":1,"a":2}')
@example("[1,]")
@example("1 2")
@example("\ufeff{}")
@example('"\t"')
@example("\u00a01")
@example("[]\v")
def test_bad_text_is_refused_where_the_standard_library_refuses_it(text: str) -> None:
    def attempt(loads: object) -> object:
        try:
            value = loads(text)  # type: ignore[operator]
        except ValueError:
            return ValueError
        # What JSON has no word for, json reads and writes all the same.
        return ValueError if "Infinity" in json.dumps(value) else value

    assert attempt(json_text.loads) == attempt(json.loads)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]"])
def test_what_is_no_json_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not JSON"):
        json_text.loads(text)


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), [b"x"], {"a": b"x"}])
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        json_text.dumps(value)


CHILD = """
import sys
from pycontainer import json_text
assert json_text.loads("[1]") == [1]
print(sorted({"json", "re", "enum"} & set(sys.modules)))
for text in ("{", "[1,", '"', "[1 2]", "x", ""):
    try:
        json_text.loads(text)
    except ValueError as error:
        print("ValueError")
"""


def test_without_the_json_package_errors_are_errors_too() -> None:
    """Its point is not to import `json`, with which the interpreter's scanner words its errors."""
    # -S, because site may import what it likes
    code = f"import sys; sys.path[:0] = {[str(path) for path in sys.path]!r}\n{CHILD}"
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[]"] + ["ValueError"] * 6


@given(_VALUES)
def test_for_people_it_looks_as_the_standard_librarys(value: object) -> None:
    assert json_text.pretty(value) == json.dumps(value, indent=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e999]", "out of range"),
        ("-1e999", "out of range"),
        ("9" * 5000, "4000 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_could_not_be_written_again_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        json_text.loads(text)
