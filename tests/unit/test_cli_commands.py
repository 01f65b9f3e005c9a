"""The table of commands, the help pages made from it, and what a wrong command line is told."""

from __future__ import annotations

import ast
import functools
import inspect
import pathlib
import subprocess
import sys

import pytest

import pycontainer
from pycontainer.cli import commands, main
from pycontainer.cli.commands import COMMANDS, GROUPS, PLANNED, SECTIONS, Command

PACKAGE = pathlib.Path(pycontainer.__file__).parent
TABLE = sorted({command.words: command for command in COMMANDS.values()}.items())
SHOWN = [words for words in sorted(COMMANDS) if not words.startswith("_")]
every_command = pytest.mark.parametrize("command", [command for _, command in TABLE], ids=[words for words, _ in TABLE])
# These are waited for: what is slow to import is not for them.
HOT = ["run", "exec", "ps", "inspect", "logs", "images", "start", "stop", "rm", "__complete"]
SLOW = {
    "argparse", "click", "contextlib", "dataclasses", "datetime", "difflib", "enum", "json", "logging", "pathlib",
    "pyroute2", "re", "rich", "shutil", "signal", "socket", "sqlite3", "subprocess", "tarfile", "tempfile", "typing",
}  # fmt: skip


def call(*arguments: str) -> int:
    return main.guard(lambda: main.dispatch(list(arguments)))


@every_command
def test_the_table_is_sound(command: Command) -> None:
    assert command.help.endswith(".") and command.help[0].isupper()
    flags = [flag for option in command.options for flag in option.flags]
    assert len(flags) == len(set(flags))
    assert "--help" not in flags
    names = [option.name for option in command.options]
    assert len(names) == len(set(names))
    for option in command.options:
        assert option.kind in ("flag", "text", "list", "style")
        assert (option.metavar == "") == (option.kind == "flag"), option.flags
        assert option.help.endswith("."), option.flags
        # The letter first: the pages are aligned by it.
        assert [len(flag) == 2 for flag in option.flags] == sorted(
            (len(flag) == 2 for flag in option.flags), reverse=True
        )
    # Only the last operand can be left out or given again.
    assert all(operand.isupper() and operand.isalpha() for operand in command.operands[:-1])


@functools.cache
def texts(path: pathlib.Path) -> frozenset[str]:
    """The string constants of a module."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@every_command
def test_the_handler_is_there_and_looks_at_every_option(command: Command) -> None:
    """An option that nobody reads would be ignored without a word."""
    function = command.load()
    assert list(inspect.signature(function).parameters) == ["settings", "values", "operands"]
    # What is to be explained is read in one place for several commands.
    paths = [pathlib.Path(inspect.getfile(function)), PACKAGE / "cli/explained.py"]
    # What a container is made of is read in many places.
    if command.words in ("run", "create", "start", "update", "network create"):
        paths += [path for folder in ("engine", "cli") for path in (PACKAGE / folder).rglob("*.py")]
    elif command.words.endswith(("prune", "inspect", "history", "layers", "stats", "exec")) or "filter" in {
        option.name for option in command.options
    }:
        paths += (PACKAGE / "cli").glob("*.py")
    read = {text for path in paths for text in texts(path)}
    # The options of health checks are read by their flags.
    read |= {text.removeprefix("--").replace("-", "_") for text in read if text.startswith("--health")}
    for option in command.options:
        assert option.name in read or option.help.startswith("Accepted for Docker's sake"), option.flags


@pytest.mark.parametrize(
    ("arguments", "words", "rest"),
    [
        (["run"], "run", []),
        (["ps", "-a"], "ps", ["-a"]),
        (["container", "ls", "-a"], "ps", ["-a"]),
        (["container", "list"], "ps", []),
        (["image", "ls"], "images", []),
        (["image", "remove", "x"], "rmi", ["x"]),
        (["image", "inspect", "x"], "image inspect", ["x"]),
        (["container", "run", "x"], "run", ["x"]),
        (["system", "df"], "system df", []),
        (["run", "image"], "run", ["image"]),
    ],
)
def test_a_command_is_found(arguments: list[str], words: str, rest: list[str]) -> None:
    found = commands.find(arguments)
    assert found is not None
    assert (found[0].words, found[1]) == (words, rest)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["image"],
        ["image", "--help"],
        ["rnu"],
        ["image ls"],
        ["system df"],
        ["image", "nosuch"],
        ["--help"],
        [""],
        ["ls"],
    ],
)
def test_no_command_is_found(arguments: list[str]) -> None:
    assert commands.find(arguments) is None


def test_every_command_is_found_by_its_words() -> None:
    for words, command in COMMANDS.items():
        assert commands.find(words.split()) == (command, [])


@pytest.mark.parametrize(
    ("words", "operands", "message"),
    [
        ("run", [], "run: IMAGE is missing"),
        ("exec", ["c"], "exec: COMMAND is missing"),
        ("exec", [], "exec: CONTAINER is missing"),
        ("rm", [], "rm: CONTAINER is missing"),
        ("rename", ["a"], "rename: NAME is missing"),
        ("rename", ["a", "b", "c"], "rename: c: one operand too many"),
        ("ps", ["x"], "ps: x: one operand too many"),
        ("images", ["x", "y"], "images: y: one operand too many"),
        ("volume create", ["x", "y"], "volume create: y: one operand too many"),
    ],
)
def test_a_wrong_number_of_operands(
    words: str, operands: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words.split(), *operands) == (125 if COMMANDS[words].passes_status else 1)
    assert capsys.readouterr() == ("", f"pycontainer: {message}\nhint: see `pycontainer {words} --help`\n")


@pytest.mark.parametrize(
    ("words", "operands"),
    [
        ("run", ["i", "a", "b"]),
        ("rm", ["a", "b", "c"]),
        ("ps", []),
        ("images", []),
        ("images", ["x"]),
        ("exec", ["c", "x", "y"]),
    ],
)
def test_a_right_number_of_operands(words: str, operands: list[str]) -> None:
    COMMANDS[words].check(operands)


@pytest.mark.parametrize(
    ("arguments", "status", "texts"),
    [
        (["rnu", "busybox"], 1, ["rnu: no such command", "did you mean `run`?", "`pycontainer --help`"]),
        (["image", "lss"], 1, ["image lss: no such command", "did you mean `image ls`?", "`pycontainer image --help`"]),
        (["image ls"], 1, ["image ls: no such command"]),
        (["zzzzz"], 1, ["zzzzz: no such command", "hint: `pycontainer --help` lists"]),
        (["help", "nosuch"], 1, ["nosuch: no such command"]),
        (["help", "image", "nosuch"], 1, ["image nosuch: no such command"]),
        (["build", "x"], 1, ["build: planned, and not there yet", "pycontainer commit"]),
        (["load", "x"], 1, ["load: x: one operand too many", "pycontainer load -i FILE", "pycontainer load --help"]),
        (["--bogus"], 1, ["--bogus: no such option", "`pycontainer --help`"]),
        (["-v"], 1, ["-v: no such option"]),
        ([""], 1, ["no such command"]),
        (["image", ""], 1, ["no such command"]),
        (["ps", "--bogus"], 125, ["ps: --bogus: no such option"]),
        (["run", "--bogus", "busybox"], 125, ["run: --bogus: no such option"]),
        (["image", "ls", "--fromat", "json"], 125, ["images: --fromat: no such option", "did you mean `--format`?"]),
    ],
)
def test_a_mistake(arguments: list[str], status: int, texts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    for text in texts:
        assert text in err


@pytest.mark.parametrize("words", ["swarm", "secret", "up", "x", "volume up", "network dfs", "system down"])
def test_what_is_not_near_is_not_suggested(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words.split()) == 1
    assert "did you mean" not in capsys.readouterr().err


def test_what_is_planned_is_not_there() -> None:
    assert not set(PLANNED) & (set(COMMANDS) | set(GROUPS))


def page(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert call(*arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("words", SHOWN)
def test_a_commands_page(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[words]
    text = page(capsys, *words.split(), "--help")
    assert text == page(capsys, "help", *words.split())
    assert text.startswith(f"Usage: pycontainer {command.words}")
    assert all(len(line) <= 80 for line in text.splitlines())

    # Without spaces, because lines are broken at hyphens too.
    text = "".join(text.split())
    for part in [*command.operands, command.help, "--help"]:
        assert "".join(part.split()) in text
    for option in command.options:
        assert ",".join(option.flags) in text
        assert "".join(option.help.split()) in text
    assert ("126" in text) == command.passes_status


def test_the_first_page_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = page(capsys)
    for arguments in (["--help"], ["-h"], ["help"]):
        assert page(capsys, *arguments) == text
    for section in SECTIONS.values():
        for command in section:
            assert (f"\n  {command.words} " in text) == (command.words != "__complete")


@pytest.mark.parametrize("group", GROUPS)
def test_a_groups_page(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = page(capsys, group)
    for arguments in ([group, "--help"], [group, "-h"], ["help", group]):
        assert page(capsys, *arguments) == text
    for words in SHOWN:
        assert (f"\n  {words} " in text) == words.startswith(f"{group} ")


@pytest.mark.parametrize("words", HOT)
def test_what_is_waited_for_imports_nothing_slow(words: str) -> None:
    module = COMMANDS[words].handler.split(":")[0]
    script = f"import sys; import pycontainer.cli.main, pycontainer.cli.{module}; print(*sys.modules)"
    # Without site.py, as the installed command is started.
    code = f"import sys; sys.path[:] = {sys.path!r}; exec({script!r})"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert SLOW.isdisjoint(result.stdout.split())


def test_each_command_imports_what_it_needs() -> None:
    """Each in a process of its own, because one that has been loaded before may have imported it for the next."""
    modules = sorted({command.handler.split(":")[0] for command in COMMANDS.values()})
    script = """if True:
        import os
        import pycontainer.cli.main
        for module in sys.argv[1:]:
            if os.fork() == 0:
                __import__(f"pycontainer.cli.{module}")
                os._exit(0)
            if os.wait()[1]:
                sys.exit(module)
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; exec({script!r})"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code, *modules], capture_output=True, text=True)
    assert result.returncode == 0 and len(modules) > 30, result.stderr
