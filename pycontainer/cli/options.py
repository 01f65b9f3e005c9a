"""The options of `run`: one table, from which both the quick parser and click's command are made.

`run` is what start-up time is about, and importing click costs as much as starting a container. So its arguments are
read by `parse` below; whatever `parse` does not accept, and --help, goes to click, which words the error.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Option:
    """One option. kind: "flag", "text", or "list" for a text that may be given several times."""

    __slots__ = ("flags", "help", "kind", "metavar", "name")

    def __init__(self, flags: str, kind: str, metavar: str, help: str) -> None:
        self.flags = flags.split()
        self.name = self.flags[-1].lstrip("-").replace("-", "_")
        self.kind = kind
        self.metavar = metavar
        self.help = help


RUN = [
    Option("-i --interactive", "flag", "", "Keep standard input open."),
    Option("-t --tty", "flag", "", "Give the container a terminal."),
    Option("--rm", "flag", "", "Remove the container when it exits."),
    Option("--name", "text", "NAME", "Name of the container."),
    Option("-h --hostname", "text", "NAME", "Host name inside the container."),
    Option("-e --env", "list", "KEY[=VALUE]", "Set an environment variable."),
    Option("--env-file", "list", "FILE", "Read environment variables from a file."),
    Option("-w --workdir", "text", "DIR", "Working directory inside the container."),
    Option("-u --user", "text", "USER[:GROUP]", "Run as this user, by name or number."),
    Option("--entrypoint", "text", "PROGRAM", "Replace the image's entrypoint."),
    Option("-v --volume", "list", "SRC:DST[:ro]", "Bind a file or directory of the host."),
    Option("--tmpfs", "list", "DST[:OPTIONS]", "Mount a tmpfs."),
    Option("--read-only", "flag", "", "Make the root file system read-only."),
    Option("-m --memory", "text", "SIZE", "Memory limit, such as 64m."),
    Option("--memory-swap", "text", "SIZE", "Limit of memory and swap together, -1 for no limit."),
    Option("--cpus", "text", "NUMBER", "Processors' worth of time, such as 0.5."),
    Option("--cpuset-cpus", "text", "LIST", "Processors to run on, such as 0-2,4."),
    Option("--pids-limit", "text", "NUMBER", "Most processes and threads, -1 for no limit."),
    Option("--ulimit", "list", "NAME=SOFT[:HARD]", "Resource limit of each process."),
    Option("--network --net", "text", "NAME", "bridge (default), none or host."),
    Option("--dns", "list", "ADDRESS", "Name server to use."),
    Option("--dns-search", "list", "DOMAIN", "Domain in which short names are looked up."),
    Option("--dns-opt --dns-option", "list", "OPTION", "Option of the resolver, see resolv.conf(5)."),
    Option("--add-host", "list", "NAME:ADDRESS", "Add a line to /etc/hosts."),
    Option("--cap-add", "list", "CAPABILITY", "Grant a capability; ALL for every one."),
    Option("--cap-drop", "list", "CAPABILITY", "Take a capability away; ALL for every one."),
    Option("--privileged", "flag", "", "All capabilities and devices, no isolation from the host's root."),
    Option("--security-opt", "list", "OPTION", "no-new-privileges: setuid programs gain nothing."),
    Option("--userns", "text", "MODE", "host: use the host's ids instead of a range of its own."),
    Option("--init", "flag", "", "Run an init that reaps zombies and forwards signals."),
    Option("--stop-signal", "text", "SIGNAL", "Signal that asks the program to end."),
    Option("-l --label", "list", "KEY=VALUE", "Attach a label."),
    Option("--cidfile", "text", "FILE", "Write the container's id to a file."),
    Option("--explain", "flag", "", "Print every step as it happens, why, and the shell command that would do it."),
]
for _option in RUN:
    if _option.name == "net":
        _option.name = "network"


_BOOLEANS = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)


def parse(options: list[Option], arguments: list[str]) -> tuple[dict[str, Any], list[str]] | None:
    """(values by name, operands), or None where click has to explain what is wrong. The first operand ends the options.

    The grammar is docker's: --name VALUE, --name=VALUE, -n VALUE, -nVALUE, -n=VALUE, --flag, --flag=false, flags joined
    as in -it, and -- .
    """
    by_flag = {flag: option for option in options for flag in option.flags}
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            option = by_flag.get(name)
            if option is None:
                return None
            if option.kind == "flag" and equals:
                if value not in _BOOLEANS:
                    return None
                values[option.name] = _BOOLEANS[value]
                continue
            if option.kind != "flag" and not equals:
                if not rest:
                    return None
                value = rest.pop(0)
            _store(values, option, value)
            continue
        letters = word[1:]
        while letters:
            option = by_flag.get(f"-{letters[0]}")
            letters = letters[1:]
            if option is None:
                return None
            if option.kind == "flag":
                if letters.startswith("="):
                    if letters[1:] not in _BOOLEANS:
                        return None
                    values[option.name] = _BOOLEANS[letters[1:]]
                    break
                _store(values, option, "")
                continue
            if not letters and not rest:
                return None
            _store(values, option, letters.removeprefix("=") if letters else rest.pop(0))
            letters = ""
    return values, rest


def _store(values: dict[str, Any], option: Option, value: str) -> None:
    if option.kind == "flag":
        values[option.name] = True
    elif option.kind == "list":
        values.setdefault(option.name, []).append(value)
    else:
        values[option.name] = value
