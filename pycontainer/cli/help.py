"""The help pages, which click lays out, and what is said when the words name no command."""

from __future__ import annotations

import sys

import click

from pycontainer.cli.commands import COMMANDS, GROUPS, PLANNED, SECTIONS, Command
from pycontainer.cli.options import Option, suggest
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pycontainer.engine.settings import Settings

_WIDEST = 120  # columns, for longer lines are hard to read
_TEXT = "A container engine for Linux that can be read."
_HINT = "`pycontainer help COMMAND` shows a command's options; `pycontainer completion SHELL` has them completed."
_EXIT_STATUS = (
    "The exit status is the program's; 128+n when signal n ended it; 125 when pycontainer failed, "
    "126 when the program cannot be executed, 127 when it is not found."
)
_HELP = Option("--help", "flag", "", "Show this page.")
_VERSION = Option("--version", "flag", "", "Show the version.")


def help(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer help`. Raises UsageError."""
    return guide(operands)


def guide(arguments: list[str]) -> int:
    """Print the page of a command, of a group, or of everything; --help may follow its words. Raises UsageError."""
    names = arguments[:-1] if arguments[-1:] in (["--help"], ["-h"]) else arguments
    words = " ".join(names)
    if words.split() != names:
        # A name with a space in it would look like two.
        raise _unknown(names)
    if words in COMMANDS:
        text = _page(COMMANDS[words])
    elif words in GROUPS:
        text = _group_page(words)
    elif not words:
        text = _first_page()
    else:
        raise _unknown(names)
    sys.stdout.write(text)
    return 0


def _unknown(words: list[str]) -> UsageError:
    """The error for words that are no command."""
    if words[0].startswith("-"):
        return UsageError(words[0], "", "no such option", "options follow the command; see `pycontainer --help`")
    group = words[0] if words[0] in GROUPS else ""
    unknown = " ".join(words[:2]) if group else words[0]
    if (planned := unknown.removeprefix("image ")) in PLANNED:
        return UsageError(unknown, "", "planned, and not there yet", PLANNED[planned])
    known = [name for name in (*COMMANDS, *GROUPS) if not name.startswith("_") and (" " in name) == bool(group)]
    if group:
        # Only the second word is compared, because the first is right.
        known = [name.removeprefix(f"{group} ") for name in known if name.startswith(f"{group} ")]
        meant = suggest(words[1], known).replace("`", f"`{group} ", 1) if len(words) > 1 else ""
    else:
        meant = suggest(unknown, known)
    hint = f"{meant}`{' '.join(['pycontainer', *group.split()])} --help` lists what there is"
    return UsageError(unknown, "", "no such command", hint)


def _page(command: Command) -> str:
    page = click.HelpFormatter(max_width=_WIDEST)
    page.write_usage(
        "pycontainer", " ".join([command.words, "[OPTIONS]" if command.options else "", *command.operands])
    )
    _write(page, command.help)
    _write_options(page, [*command.options, _HELP])
    others = sorted(words for words, other in COMMANDS.items() if other is command and words != command.words)
    if others:
        _write(page, f"The same: {', '.join(f'pycontainer {words}' for words in others)}")
    if command.passes_status:
        _write(page, _EXIT_STATUS)
    return page.getvalue()


def _group_page(group: str) -> str:
    page = click.HelpFormatter(max_width=_WIDEST)
    page.write_usage("pycontainer", f"{group} COMMAND")
    _write(page, GROUPS[group])
    _write_commands(page, "Commands", (words for words in sorted(COMMANDS) if words.startswith(f"{group} ")))
    _write_options(page, [_HELP])
    return page.getvalue()


def _first_page() -> str:
    page = click.HelpFormatter(max_width=_WIDEST)
    page.write_usage("pycontainer", "COMMAND")
    _write(page, _TEXT)
    for title, section in SECTIONS.items():
        _write_commands(page, title, (command.words for command in section if not command.words.startswith("_")))
    _write_options(page, [_HELP, _VERSION])
    _write(page, _HINT)
    return page.getvalue()


def _write(page: click.HelpFormatter, text: str) -> None:
    page.write_paragraph()
    page.write_text(text)


def _write_commands(page: click.HelpFormatter, title: str, names: Iterable[str]) -> None:
    with page.section(title):
        page.write_dl([(name, COMMANDS[name].help) for name in names])


def _write_options(page: click.HelpFormatter, options: list[Option]) -> None:
    rows = []
    for option in options:
        # Those without a letter stand below the others' long names.
        margin = "" if len(option.flags[0]) == 2 else "    "
        rows.append(
            (
                f"{margin}{', '.join(option.flags)}{'' if option.kind == 'style' else ' '}{option.metavar}".rstrip(),
                option.help,
            )
        )
    with page.section("Options"):
        page.write_dl(rows, col_max=34)
