"""The quick parser of `run`, and click's generated command, which words help and errors: they read lines alike.

Docker's forms that click lacks, as --rm=true and -m=64m, only the quick parser takes.
"""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pycontainer.cli import main, options
from pycontainer.cli.app import app

Parsed = tuple[dict[str, Any], list[str]]


def by_click(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Parsed | None:
    """What click's command hands to `main.run`; None where click refuses."""
    caught: list[Parsed] = []
    monkeypatch.setattr(main, "run", lambda values, operands: caught.append((values, operands)) or 0)
    try:
        app.main(["run", *arguments], prog_name="pycontainer", standalone_mode=False)
    except click.ClickException:
        return None
    return caught[0] if caught else None


def plain(parsed: Parsed) -> Parsed:
    """Without the differences that no reader sees: a flag that is off, a tuple for a list."""
    values, operands = parsed
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items() if value is not False
    }, list(operands)


def quick(arguments: list[str]) -> Parsed | None:
    """The quick way, as `main` takes it: without an image click has its say."""
    parsed = options.parse(options.RUN, arguments)
    return parsed if parsed is not None and parsed[1] else None


LINES = {
    "image alone": (["busybox"], {}, ["busybox"]),
    "command": (["busybox", "sh", "-c", "echo"], {}, ["busybox", "sh", "-c", "echo"]),
    "options after the image are the program's": (["busybox", "ls", "--rm", "-i"], {}, ["busybox", "ls", "--rm", "-i"]),
    "joined flags": (["-it", "b"], {"interactive": True, "tty": True}, ["b"]),
    "joined with a value": (["-itm64m", "b"], {"interactive": True, "tty": True, "memory": "64m"}, ["b"]),
    "joined, value apart": (["-iw", "/srv", "b"], {"interactive": True, "workdir": "/srv"}, ["b"]),
    "long with equals": (["--name=x", "b"], {"name": "x"}, ["b"]),
    "empty value": (["--name=", "b"], {"name": ""}, ["b"]),
    "empty entrypoint": (["--entrypoint", "", "b"], {"entrypoint": ""}, ["b"]),
    "equals in the value": (["--env=A=B=C", "b"], {"env": ["A=B=C"]}, ["b"]),
    "lists keep their order": (["-e", "A=1", "-eB=2", "--env=A=3", "b"], {"env": ["A=1", "B=2", "A=3"]}, ["b"]),
    "the last text wins": (["--name", "a", "--name", "b", "i"], {"name": "b"}, ["i"]),
    "a value may look like an option": (["--name", "--rm", "b"], {"name": "--rm"}, ["b"]),
    "a value may be two dashes": (["-e", "--", "b"], {"env": ["--"]}, ["b"]),
    "two dashes end the options": (["--rm", "--", "-b", "--rm"], {"rm": True}, ["-b", "--rm"]),
    "two dashes after the image": (["b", "--", "c"], {}, ["b", "--", "c"]),
    "one dash is an operand": (["-", "x"], {}, ["-", "x"]),
    "an empty operand": (["", "x"], {}, ["", "x"]),
    "net is network": (["--net", "none", "b"], {"network": "none"}, ["b"]),
    "hostname has no clash with help": (["-h", "box", "b"], {"hostname": "box"}, ["b"]),
    "repeated flag": (["--rm", "--rm", "b"], {"rm": True}, ["b"]),
    "dashes become underscores": (
        ["--read-only", "--cap-add=ALL", "b"],
        {"read_only": True, "cap_add": ["ALL"]},
        ["b"],
    ),
}


@pytest.mark.parametrize(("arguments", "values", "operands"), LINES.values(), ids=LINES)
def test_a_line_means_the_same_to_both(
    arguments: list[str], values: dict[str, Any], operands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quick(arguments) == (values, operands)
    other = by_click(arguments, monkeypatch)
    assert other is not None
    assert plain(other) == (values, operands)


# Form of docker's -> the same in click's words.
DOCKERS = {
    "a flag that is on": (["--rm=true", "b"], ["--rm", "b"]),
    "a flag that is off": (["--rm=false", "b"], ["b"]),
    "as numbers": (["--rm=1", "--init=0", "b"], ["--rm", "b"]),
    "the last one wins, off": (["--rm", "--rm=false", "b"], ["b"]),
    "the last one wins, on": (["--rm=false", "--rm", "b"], ["--rm", "b"]),
    "a letter that is on": (["-i=true", "b"], ["-i", "b"]),
    "a letter that is off": (["-t=false", "b"], ["b"]),
    "the last of the letters": (["-it=true", "b"], ["-it", "b"]),
    "the last of the letters, off": (["-it=false", "b"], ["-i", "b"]),
    "a text": (["-m=64m", "b"], ["-m", "64m", "b"]),
    "a list": (["-e=A", "-eB", "b"], ["-e", "A", "-e", "B", "b"]),
    "equals in the value": (["-e=A=b", "b"], ["-e", "A=b", "b"]),
    "only the first equals is no part of the value": (["-e==b", "b"], ["-e", "=b", "b"]),
    "joined": (["-itm=64m", "b"], ["-it", "-m", "64m", "b"]),
    "a value in that form": (["-e", "-m=64m", "b"], ["-e", "-m=64m", "b"]),
    "after the image": (["b", "--rm=true", "-m=64m"], ["b", "--rm=true", "-m=64m"]),
}


@pytest.mark.parametrize(("arguments", "spelled_out"), DOCKERS.values(), ids=DOCKERS)
def test_dockers_forms(arguments: list[str], spelled_out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = quick(arguments)
    expected = by_click(spelled_out, monkeypatch)
    assert found is not None and expected is not None
    assert plain(found) == plain(expected)


REFUSED = {
    "no image": [],
    "only options": ["--rm", "-it"],
    "nothing after two dashes": ["--rm", "--"],
    "unknown long option": ["--bogus", "b"],
    "unknown short option": ["-Z", "b"],
    "unknown letter among flags": ["-iZt", "b"],
    "an abbreviation": ["--hostnam", "x", "b"],
    "one dash for a long name": ["-rm", "b"],
    "missing value": ["--name"],
    "missing value of a letter": ["-i", "-m"],
    "a flag with a word": ["--rm=maybe", "b"],
    "a flag with an empty value": ["--tty=", "b"],
    "a letter with a word": ["-i=maybe", "b"],
    "a letter with an empty value": ["-i=", "b"],
    "the last of the letters with a word": ["-it=maybe", "b"],
    "nothing but equals": ["-=", "b"],
    "an unknown letter with equals": ["-Z=1", "b"],
    "no image after a form of docker's": ["--rm=true", "-m=64m"],
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_what_click_refuses_the_quick_parser_leaves_to_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quick(arguments) is None
    assert by_click(arguments, monkeypatch) is None


_VALUES = st.sampled_from(["", "a", "-", "--", "-i", "--rm", "A=B", "=", "64m", "/x:/y:ro", "a b", "\u00e9", "\udcff"])
_FLAGS = [flag for option in options.RUN for flag in option.flags]
_WORDS = st.one_of(
    st.sampled_from([*_FLAGS, "--help-me", "--nam", "-x", "-", "--", "busybox", "sh", "-rm"]),
    _VALUES,
    st.tuples(st.sampled_from(_FLAGS), st.sampled_from(["", "="]), _VALUES).map("".join),
    st.lists(st.sampled_from("itemvwuhlZ="), min_size=1, max_size=4).map(lambda letters: "-" + "".join(letters)),
)


_FLAGS_OF_KIND = {
    kind: [flag for option in options.RUN for flag in option.flags if (option.kind == "flag") == kind]
    for kind in (True, False)
}
_LETTERS = {kind: "".join(flag[1] for flag in flags if flag[1] != "-") for kind, flags in _FLAGS_OF_KIND.items()}
# A word that has to be of a form of docker's, should it be an option and not an option's value.
_FORM = re.compile(
    rf"({'|'.join(flag for flag in _FLAGS_OF_KIND[True] if flag.startswith('--'))})="
    rf"|-[{_LETTERS[True]}]*[{_LETTERS[True]}{_LETTERS[False]}]="
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(_WORDS, max_size=7))
@example(["-i=", "b"])
@example(["-e", "b"])
@example(["--env", "--", "--", "b"])
@example(["-e", "-m=64m", "b"])
def test_any_line_means_the_same_to_both(arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = by_click(arguments, monkeypatch)
    found = quick(arguments)
    if any(_FORM.match(word) for word in arguments):
        assert found is not None or expected is None
        return
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert plain(found) == plain(expected)


_ON_OFF = st.sampled_from([("true", True), ("1", True), ("false", False), ("0", False)])
# (a form of docker's, the same in click's words)
_PAIRS = st.one_of(
    st.tuples(st.sampled_from(_FLAGS_OF_KIND[True]), _ON_OFF).map(
        lambda drawn: ([f"{drawn[0]}={drawn[1][0]}"], [drawn[0]] if drawn[1][1] else [])
    ),
    st.tuples(st.sampled_from(_FLAGS_OF_KIND[False]), _VALUES).map(
        lambda drawn: ([f"{drawn[0]}={drawn[1]}"], [drawn[0], drawn[1]])
    ),
    st.tuples(st.sampled_from(_LETTERS[True]), st.sampled_from(_LETTERS[False]), _VALUES).map(
        lambda drawn: ([f"-{drawn[0]}{drawn[1]}={drawn[2]}"], [f"-{drawn[0]}", f"-{drawn[1]}", drawn[2]])
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PAIRS, max_size=6, unique_by=lambda pair: pair[0][0].partition("=")[0]))
def test_any_form_of_dockers_means_what_it_says(pairs: list[tuple[list[str], list[str]]]) -> None:
    # A flag that is switched on and off again has no counterpart in click's words.
    flags = [options.parse(options.RUN, [*words, "b"]) for words, _ in pairs]
    switched = [name for parsed in flags if parsed for name, value in parsed[0].items() if isinstance(value, bool)]
    assume(len(switched) == len(set(switched)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = by_click([*(word for _, words in pairs for word in words), "b"], monkeypatch)
    found = quick([*(word for words, _ in pairs for word in words), "b"])
    assert found is not None and expected is not None
    assert plain(found) == plain(expected)


def test_the_table_is_sound() -> None:
    assert len(_FLAGS) == len(set(_FLAGS))
    names = [option.name for option in options.RUN]
    assert len(names) == len(set(names))
    for option in options.RUN:
        assert option.kind in ("flag", "text", "list")
        assert (option.metavar == "") == (option.kind == "flag"), option.flags
        assert option.help.endswith("."), option.flags


def test_every_option_reaches_the_configuration() -> None:
    """An option that ContainerConfig never looks at would be ignored without a word."""
    from pycontainer.engine.config import ContainerConfig

    class Recorder(dict[str, Any]):
        asked: set[str] = set()

        def get(self, key: str, default: Any = None) -> Any:
            self.asked.add(key)
            return super().get(key, default)

    recorder = Recorder()
    ContainerConfig("busybox", [], recorder)
    assert recorder.asked == {option.name for option in options.RUN}


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    app.main(["run", "--help"], prog_name="pycontainer", standalone_mode=False)
    text = capsys.readouterr().out
    for flag in _FLAGS:
        assert flag in text
