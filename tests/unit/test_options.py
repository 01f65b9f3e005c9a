"""How arguments are read: in docker's grammar, and, but for the forms that click lacks, just as click reads them."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pycontainer.cli import commands, options
from pycontainer.cli.commands import Command
from pycontainer.cli.options import Option
from pycontainer.errors import UsageError

Parsed = tuple[dict[str, Any], list[str]]

RUN = commands.COMMANDS["run"]
RM = commands.COMMANDS["rm"]
LOGS = commands.COMMANDS["logs"]


def parse(command: Command, arguments: list[str]) -> Parsed | None:
    """What our parser makes of them; None where it refuses."""
    try:
        return options.parse(command, arguments)
    except UsageError:
        return None


def by_click(command: Command, arguments: list[str]) -> Parsed | None:
    """What click's parser makes of them, which shares nothing with ours but the table; None where it refuses."""
    parameters: list[click.Parameter] = [
        click.Option(
            [*option.flags, option.name],
            # None, because click takes False for "the value may be left out".
            is_flag=True if option.kind == "flag" else None,
            multiple=option.kind == "list",
        )
        for option in _options(command)
    ]
    parameters.append(click.Argument(["operands"], nargs=-1, type=click.UNPROCESSED))
    mirror = click.Command(
        command.words,
        params=parameters,
        add_help_option=False,
        context_settings={"allow_interspersed_args": not command.program},
    )
    try:
        values = mirror.make_context(None, list(arguments)).params
    except click.ClickException:
        return None
    operands = list(values.pop("operands"))
    given = {name: value for name, value in values.items() if value not in (None, False, ())}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}, operands


def plain(parsed: Parsed) -> Parsed:
    """Without the flags that are off, which click gives for all."""
    values, operands = parsed
    return {name: value for name, value in values.items() if value is not False}, operands


LINES = {
    "image alone": (RUN, ["busybox"], {}, ["busybox"]),
    "command": (RUN, ["busybox", "sh", "-c", "echo"], {}, ["busybox", "sh", "-c", "echo"]),
    "options after the image are the program's": (RUN, ["b", "ls", "--rm", "-i"], {}, ["b", "ls", "--rm", "-i"]),
    "two dashes after the image are the program's": (RUN, ["b", "--", "c"], {}, ["b", "--", "c"]),
    "joined flags": (RUN, ["-it", "b"], {"interactive": True, "tty": True}, ["b"]),
    "joined with a value": (RUN, ["-itm64m", "b"], {"interactive": True, "tty": True, "memory": "64m"}, ["b"]),
    "joined, value apart": (RUN, ["-iw", "/srv", "b"], {"interactive": True, "workdir": "/srv"}, ["b"]),
    "long with equals": (RUN, ["--name=x", "b"], {"name": "x"}, ["b"]),
    "empty value": (RUN, ["--name=", "b"], {"name": ""}, ["b"]),
    "empty entrypoint": (RUN, ["--entrypoint", "", "b"], {"entrypoint": ""}, ["b"]),
    "equals in the value": (RUN, ["--env=A=B=C", "b"], {"env": ["A=B=C"]}, ["b"]),
    "lists keep their order": (
        RUN,
        ["-e", "A=1", "-eB=2", "--env=A=3", "b"],
        {"env": ["A=1", "B=2", "A=3"]},
        ["b"],
    ),
    "the last text wins": (RUN, ["--name", "a", "--name", "b", "i"], {"name": "b"}, ["i"]),
    "a value may look like an option": (RUN, ["--name", "--rm", "b"], {"name": "--rm"}, ["b"]),
    "a value may be help": (RUN, ["--name", "--help", "b"], {"name": "--help"}, ["b"]),
    "a value may be two dashes": (RUN, ["-e", "--", "b"], {"env": ["--"]}, ["b"]),
    "two dashes end the options": (RUN, ["--rm", "--", "-b", "--rm"], {"rm": True}, ["-b", "--rm"]),
    "one dash is an operand": (RUN, ["-", "x"], {}, ["-", "x"]),
    "an empty operand": (RUN, ["", "x"], {}, ["", "x"]),
    "net is network": (RUN, ["--net", "none", "b"], {"network": ["none"]}, ["b"]),
    "hostname has no clash with help": (RUN, ["-h", "box", "b"], {"hostname": "box"}, ["b"]),
    "repeated flag": (RUN, ["--rm", "--rm", "b"], {"rm": True}, ["b"]),
    "dashes become underscores": (
        RUN,
        ["--read-only", "--cap-add=ALL", "b"],
        {"read_only": True, "cap_add": ["ALL"]},
        ["b"],
    ),
    "options after operands": (RM, ["a", "-f", "b", "--volumes"], {"force": True, "volumes": True}, ["a", "b"]),
    "two dashes after operands": (RM, ["a", "--", "-f"], {}, ["a", "-f"]),
    "a value after an operand": (LOGS, ["a", "-n", "5", "-f"], {"tail": "5", "follow": True}, ["a"]),
    "negative number": (LOGS, ["-n", "-1", "a"], {"tail": "-1"}, ["a"]),
    "nothing": (RM, [], {}, []),
}


@pytest.mark.parametrize(("command", "arguments", "values", "operands"), LINES.values(), ids=LINES)
def test_a_line(command: Command, arguments: list[str], values: dict[str, Any], operands: list[str]) -> None:
    assert parse(command, arguments) == (values, operands)
    assert by_click(command, arguments) == (values, operands)


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
def test_dockers_forms(arguments: list[str], spelled_out: list[str]) -> None:
    found = parse(RUN, arguments)
    assert found is not None
    assert plain(found) == by_click(RUN, spelled_out)


# What is refused -> what is said: the words that are wrong, the cause, a part of the hint.
REFUSED = {
    "unknown long option": (["--bogus", "b"], "--bogus", "no such option", "see `pycontainer run --help`"),
    "unknown long option with a value": (["--bogus=1", "b"], "--bogus", "no such option", ""),
    "unknown short option": (["-Z", "b"], "-Z", "no such option", ""),
    "unknown letter among flags": (["-iZt", "b"], "-Z in -iZt", "no such option", ""),
    "an abbreviation": (["--hostnam", "x", "b"], "--hostnam", "no such option", "did you mean `--hostname`?"),
    "the beginning of one": (["--health-start-i", "b"], "--health-start-i", "no such option", "-start-interval`? "),
    "far from any": (["--bogus", "b"], "--bogus", "no such option", ""),
    "one dash for a long name": (["-rm", "b"], "-r in -rm", "no such option", ""),
    "missing value": (["--name"], "--name", "NAME is missing", ""),
    "missing value of a letter": (["-i", "-m"], "-m", "SIZE is missing", ""),
    "a flag with a word": (["--rm=maybe", "b"], "--rm=maybe", "neither true nor false", ""),
    "a flag with an empty value": (["--tty=", "b"], "--tty=", "neither true nor false", ""),
    "a letter with a word": (["-i=maybe", "b"], "-i=maybe", "neither true nor false", ""),
    "a letter with an empty value": (["-i=", "b"], "-i=", "neither true nor false", ""),
    "the last of the letters with a word": (["-it=maybe", "b"], "-t=maybe", "neither true nor false", ""),
    "nothing but equals": (["-=", "b"], "-=", "no such option", ""),
    "an unknown letter with equals": (["-Z=1", "b"], "-Z in -Z=1", "no such option", ""),
    "a mistake before help": (["--bogus", "--help"], "--bogus", "no such option", ""),
}


@pytest.mark.parametrize(("arguments", "wrong", "cause", "hint"), REFUSED.values(), ids=REFUSED)
def test_a_mistake(arguments: list[str], wrong: str, cause: str, hint: str) -> None:
    assert by_click(RUN, arguments) is None
    with pytest.raises(UsageError) as caught:
        options.parse(RUN, arguments)
    assert caught.value.message == f"run: {wrong}: {cause}"
    assert hint in caught.value.hint
    assert caught.value.hint.endswith("see `pycontainer run --help`")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (RUN, ["--help"]),
        (RUN, ["--rm", "--help", "--bogus"]),
        (RM, ["-h"]),
        (RM, ["a", "--help"]),
        (LOGS, ["-n", "5", "-h", "a"]),
    ],
)
def test_help_is_asked_for(command: Command, arguments: list[str]) -> None:
    assert options.parse(command, arguments) == ({"help": True}, [])


@pytest.mark.parametrize(
    ("command", "arguments"), [(RUN, ["b", "--help"]), (RUN, ["b", "-h"]), (RM, ["--", "--help"]), (RM, ["--", "-h"])]
)
def test_help_is_an_operand(command: Command, arguments: list[str]) -> None:
    assert options.parse(command, arguments) == ({}, [word for word in arguments if word != "--"])


_VALUES = st.sampled_from(["", "a", "-", "--", "-i", "--rm", "A=B", "=", "64m", "/x:/y:ro", "a b", "\u00e9", "\udcff"])


def _words(flags: list[str]) -> st.SearchStrategy[str]:
    """Words as they stand in a line: options of a command and what is nearly one, values, operands."""
    known = st.sampled_from(flags or ["--none"])
    return st.one_of(
        known,
        st.sampled_from(["--help-me", "--nam", "-x", "-", "--", "busybox", "sh", "-rm"]),
        _VALUES,
        st.tuples(known, st.sampled_from(["", "="]), _VALUES).map("".join),
        st.lists(st.sampled_from("itemvwuhlZ="), min_size=1, max_size=4).map(lambda letters: "-" + "".join(letters)),
    )


def _options(command: Command) -> list[Option]:
    """Without those whose value may be left out: click would take the next word for it."""
    return [option for option in command.options if option.kind != "style"]


def _flags(command: Command, *, are_flags: bool) -> list[str]:
    return [flag for option in _options(command) for flag in option.flags if (option.kind == "flag") == are_flags]


def _dockers_form(command: Command) -> re.Pattern[str]:
    """A word that is of a form of docker's, should it be an option and not an option's value."""
    flags, others = _flags(command, are_flags=True), _flags(command, are_flags=False)
    long = "|".join(flag for flag in flags if flag.startswith("--")) or "(?!)"
    letters, all_letters = ("".join(flag[1] for flag in some if flag[1] != "-") for some in (flags, flags + others))
    short = f"-[{letters}]*[{all_letters}]=" if letters else f"-[{all_letters}]=" if all_letters else "(?!)"
    return re.compile(f"({long})=|{short}")


_LINES = st.sampled_from(sorted(set(commands.COMMANDS.values()), key=lambda command: command.words)).flatmap(
    lambda command: st.tuples(
        st.just(command),
        st.lists(_words([flag for option in command.options for flag in option.flags]), max_size=7),
    )
)


@settings(max_examples=200, deadline=None)
@given(_LINES)
@example((RUN, ["-i=", "b"]))
@example((RUN, ["-e", "b"]))
@example((RUN, ["--env", "--", "--", "b"]))
@example((RUN, ["-e", "-m=64m", "b"]))
@example((RM, ["a", "-f", "--", "-v"]))
def test_any_line_means_the_same_to_click(line: tuple[Command, list[str]]) -> None:
    command, arguments = line
    known = {flag for option in command.options for flag in option.flags}
    # -h is help where a command has no such option; that has a test of its own.
    assume("-h" in known or "-h" not in arguments)
    ours = known - {flag for option in _options(command) for flag in option.flags}
    assume(not any(word.partition("=")[0] in ours for word in arguments))
    found, expected = parse(command, arguments), by_click(command, arguments)
    if any(_dockers_form(command).match(word) for word in arguments):
        assert found is not None or expected is None
        return
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert plain(found) == expected


_LETTERS = {kind: [flag[1] for flag in _flags(RUN, are_flags=kind) if flag[1] != "-"] for kind in (True, False)}
_ON_OFF = st.sampled_from([("true", True), ("1", True), ("false", False), ("0", False)])
# (a form of docker's, the same in click's words)
_PAIRS = st.one_of(
    st.tuples(st.sampled_from(_flags(RUN, are_flags=True)), _ON_OFF).map(
        lambda drawn: ([f"{drawn[0]}={drawn[1][0]}"], [drawn[0]] if drawn[1][1] else [])
    ),
    st.tuples(st.sampled_from(_flags(RUN, are_flags=False)), _VALUES).map(
        lambda drawn: ([f"{drawn[0]}={drawn[1]}"], [drawn[0], drawn[1]])
    ),
    st.tuples(st.sampled_from(_LETTERS[True]), st.sampled_from(_LETTERS[False]), _VALUES).map(
        lambda drawn: ([f"-{drawn[0]}{drawn[1]}={drawn[2]}"], [f"-{drawn[0]}", f"-{drawn[1]}", drawn[2]])
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_PAIRS, max_size=6, unique_by=lambda pair: pair[0][0].partition("=")[0]))
def test_any_form_of_dockers_means_what_it_says(pairs: list[tuple[list[str], list[str]]]) -> None:
    # A flag that is switched on and off again has no counterpart in click's words.
    flags = [parse(RUN, [*words, "b"]) for words, _ in pairs]
    switched = [name for parsed in flags if parsed for name, value in parsed[0].items() if isinstance(value, bool)]
    assume(len(switched) == len(set(switched)))
    expected = by_click(RUN, [*(word for _, words in pairs for word in words), "b"])
    found = parse(RUN, [*(word for words, _ in pairs for word in words), "b"])
    assert found is not None and expected is not None
    assert plain(found) == expected


@pytest.mark.parametrize("flag", options.ABSENT)
def test_an_option_of_dockers_that_is_not_there(flag: str) -> None:
    assert flag not in {flag for option in RUN.options for flag in option.flags}
    with pytest.raises(UsageError) as caught:
        options.parse(RUN, [flag, "x", "b"])
    assert caught.value.message == f"run: {flag}: an option of docker's that pycontainer does not have"
    assert caught.value.hint == options.ABSENT[flag] + "see `pycontainer run --help`"


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("rnu", ["run", "rm"], "run"),
        ("statr", ["start", "stats"], "start"),
        ("stats", ["start"], ""),
        ("comit", ["commit"], "commit"),
        ("push", ["ps", "pause"], ""),
        ("up", ["cp", "ps"], ""),
        ("--bogus", ["--user"], ""),
        ("--memroy", ["--memory", "--memory-swap"], "--memory"),
        ("--hostn", ["--hostname", "--host"], "--host"),
        ("--cap", ["--cap-add", "--cap-drop"], ""),
        ("unpau", ["unpause"], "unpause"),
        ("", ["run"], ""),
    ],
)
def test_what_is_near_is_suggested(word: str, known: list[str], meant: str) -> None:
    assert options.suggest(word, known) == (f"did you mean `{meant}`? " if meant else "")


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("", "", 0),
        ("", "ab", 2),
        ("ab", "ab", 0),
        ("ab", "ba", 1),
        ("abc", "acb", 1),
        ("abc", "xbc", 1),
        ("ca", "abc", 3),
    ],
)
def test_edits(first: str, second: str, distance: int) -> None:
    assert options.edits(first, second) == options.edits(second, first) == distance


@pytest.mark.parametrize(
    ("words", "style", "operands"),
    [
        (["--explain", "busybox"], "steps", ["busybox"]),
        (["--explain=", "busybox"], "steps", ["busybox"]),
        (["--explain=json", "busybox", "--explain=calls"], "json", ["busybox", "--explain=calls"]),
    ],
)
def test_a_value_that_may_be_left_out(words: list[str], style: str, operands: list[str]) -> None:
    found, rest = options.parse(RUN, words)
    assert (found, rest) == ({"explain": style}, operands)
