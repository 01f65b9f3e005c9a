"""Completion: the scripts for the shells, and what these ask for.

A script calls `pycontainer __complete -- WORD...` with the words up to the cursor, the unfinished one last, and gets a
line for each word that can stand in its place: the word, a tab, a description. Which of them fit what was typed so far
is the shell's to say. The line `:files` means that a file's name can stand there too.
"""

from __future__ import annotations

import os
import sys

from pycontainer.cli import commands
from pycontainer.cli.options import Option, parse
from pycontainer.errors import PycontainerError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from typing import Any

    from pycontainer.engine.settings import Settings

    Candidate = tuple[str, str]

_FILES = (":files", "")
_HERE = "\0"  # stands for the unfinished word, and can be no other

_WORDS = {
    "BOOL": ["true", "false"],
    "DRIVER": ["json-file", "none"],
    "KIND": ["container", "image", "network", "volume"],
    "MODE": ["host"],
    "POLICY": ["no", "on-failure", "always", "unless-stopped"],
    "SHELL": ["bash", "fish", "zsh"],
    "TEMPLATE": ["json"],
    "[=STYLE]": ["steps", "step", "calls", "json"],
}
# Which containers a command is for, by status; others are for all.
_STATUSES = {
    "attach": ("running",),
    "exec": ("running",),
    "kill": ("running", "paused"),
    "pause": ("running",),
    "start": ("created", "exited"),
    "stop": ("running", "paused", "restarting"),
    "top": ("running", "paused"),
    "unpause": ("paused",),
    "wait": ("running", "paused", "restarting"),
}


def completion(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer completion`: print a shell's script. Raises UsageError."""
    if operands[0] not in _SCRIPTS:
        raise UsageError("completion", operands[0], "no such shell", f"one of {', '.join(_SCRIPTS)}")
    sys.stdout.write(_SCRIPTS[operands[0]])
    return 0


def complete(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer __complete`: print what the last word can be. Silent where that cannot be found out."""
    for word, description in _candidates(settings, operands or [""]):
        sys.stdout.write(f"{printable(word)}\t{printable(description)}\n")
    return 0


def _candidates(settings: Settings, words: list[str]) -> Iterable[Candidate]:
    *before, current = words
    found = commands.find(before)
    if found is None:
        return _commands(before, current)
    command, rest = found
    if command.words == "help":
        return _commands(rest, current)
    try:
        values, operands = parse(command, [*rest, _HERE])
        options_end = "help" not in parse(command, [*rest, "--help"])[0]
    except UsageError:
        return []
    for option in command.options:
        value = values.get(option.name)
        if _HERE in (value if isinstance(value, list) else [value]):
            return _values(settings, command.words, option.metavar, [])
    if current.startswith("-") and not options_end:
        return _options(settings, command, current)
    operand = ""
    if len(operands) <= len(command.operands):
        operand = command.operands[len(operands) - 1]
    elif command.operands and "..." in command.operands[-1]:
        operand = command.operands[-1]
    return _values(settings, command.words, operand.strip("[]."), operands)


def _commands(before: list[str], current: str) -> Iterable[Candidate]:
    """The words that make a command, or the beginning of one, of those before."""
    found = dict.fromkeys(("--help", "--version"), "") if current.startswith("-") and not before else {}
    for words, command in commands.COMMANDS.items():
        names = words.split()
        if names[: len(before)] == before and len(names) > len(before) and not words.startswith("_"):
            name = names[len(before)]
            found[name] = command.help if len(names) == len(before) + 1 else commands.GROUPS[names[0]]
    return found.items()


def _options(settings: Settings, command: commands.Command, current: str) -> Iterable[Candidate]:
    name, equals, _ = current.partition("=")
    options = [*command.options, Option("--help", "flag", "", "Show how it is used.")]
    if not equals:
        return [(flag, option.help) for option in options for flag in option.flags]
    kinds = [option.metavar or "BOOL" for option in options if name in option.flags]
    return [
        candidate if candidate is _FILES else (f"{name}={candidate[0]}", candidate[1])
        for kind in kinds
        for candidate in _values(settings, command.words, kind, [])
    ]


def _values(settings: Settings, words: str, kind: str, given: list[str]) -> Iterable[Candidate]:
    """What can stand for an operand or an option's value that the help calls `kind`, but for what is given already."""
    if kind in _WORDS:
        return [(word, "") for word in _WORDS[kind]]
    if kind in ("FILE", "SOURCE", "TARGET", "[SRC:]DST[:ro]"):
        other = {"FILE": "", "[SRC:]DST[:ro]": "VOLUME:"}.get(kind, "CONTAINER:PATH")
        return [_FILES, *_live(settings, words, other)]
    if kind == "LAB":
        from pycontainer.labs import _stage

        return [(name, _stage.load(name).SUMMARY) for name in _stage.names()]
    if kind == "SIGNAL":
        from pycontainer.kernel import signals

        return [(name, "") for name in sorted(signals.NUMBERS)]
    if kind == "CAPABILITY":
        from pycontainer.kernel.capability import NAMES

        return [("ALL", ""), *((name.removeprefix("CAP_"), "") for name in NAMES)]
    return [candidate for candidate in _live(settings, words, kind) if candidate[0] not in given]


def _live(settings: Settings, words: str, kind: str) -> list[Candidate]:
    """Names of what there is at the moment; nothing where it cannot be read, as by a user who is not root."""
    from pycontainer.engine import database

    try:
        # Not to be made by a question.
        if not os.path.exists(f"{settings.root}/db.sqlite"):
            return []
        connection = database.open_database(settings.root)
        return _stored(settings, connection, words, kind)
    except (PycontainerError, OSError, database.Error):
        return []


def _stored(settings: Settings, connection: sqlite3.Connection, words: str, kind: str) -> list[Candidate]:
    found: list[Candidate] = []
    if kind == "NETWORK":
        from pycontainer.engine import networks

        found += [(network.name, network.driver) for network in networks.list_all(settings, connection)]
    if kind in ("CONTAINER", "CONTAINER[:ro]", "CONTAINER:PATH", "OBJECT"):
        from pycontainer.engine import containers

        colon = ":" if kind == "CONTAINER:PATH" else ""
        found += [
            (container.name + colon, f"{container.image}, {container.status}")
            for container in containers.list_all(connection)
            if container.status in _STATUSES.get(words, (container.status,))
        ]
    if kind in ("IMAGE", "OBJECT"):
        from pycontainer.image.store import Store

        images = Store(settings.root, connection).images()
        found += [(name.removesuffix(":latest"), image.id[7:19]) for image in images for name in image.names]
    return found


_BASH = r"""# Completion for bash: source <(pycontainer completion bash)

_pycontainer() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word index
    # bash splits at = and : too. What has no space before it belongs to the word before.
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        local rest=${line#"${line%%[![:space:]]*}"}
        ((index < COMP_CWORD)) || word=$rest
        if ((index)) && [[ $line == "$rest" && -n $rest ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        line=${rest#"$word"}
    done
    local current=${words[-1]} breaks=${COMP_WORDBREAKS//[^=:]/} typed=""
    # What it is to replace is only what comes after the last of these.
    [[ -z $breaks ]] || typed=${current%"${current##*[$breaks]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        if [[ $word == :files ]]; then
            compopt -o default
        elif [[ $word == "$current"* ]]; then
            COMPREPLY+=("${word#"$typed"}")
        fi
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *: ]] || compopt -o nospace
}

complete -F _pycontainer pycontainer
"""

_ZSH = r"""#compdef pycontainer
# Completion for zsh: a file called _pycontainer in a directory of $fpath, or source <(pycontainer completion zsh)

_pycontainer() {
    local line word files=no
    local -a whole open
    for line in "${(@f)$("${words[1]}" __complete -- "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}"; do
        word=${line%%$'\t'*}
        line=${word//:/\\:}:${line#*$'\t'}
        case $word in
        '') ;;
        :files) files=yes ;;
        *:) open+=("$line") ;;
        *) whole+=("$line") ;;
        esac
    done
    local found=1
    ((!$#whole)) || _describe 'pycontainer' whole && found=0
    ((!$#open)) || _describe 'pycontainer' open -S '' && found=0
    if [[ $files = yes ]]; then
        [[ $PREFIX != --*=* ]] || compset -P '*='
        _files && found=0
    fi
    return found
}

if [[ $funcstack[1] = _pycontainer ]]; then
    _pycontainer "$@"
else
    compdef _pycontainer pycontainer
fi
"""

_FISH = r"""# Completion for fish: pycontainer completion fish | source

function __pycontainer_complete
    set -l current (commandline -ct)
    set -l words (commandline -opc)
    for line in ($words[1] __complete -- $words[2..] $current 2>/dev/null)
        if string match -q ':files*' -- $line
            set -l option (string match -r -- '^--[^=]+=' $current)
            for path in (__fish_complete_path (string replace -- "$option" '' $current))
                echo -- "$option$path"
            end
        else
            echo -- $line
        end
    end
end

complete -c pycontainer -f -a '(__pycontainer_complete)'
"""

_SCRIPTS = {"bash": _BASH, "fish": _FISH, "zsh": _ZSH}
