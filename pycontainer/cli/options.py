"""Options: how they are declared, and the parser.

Importing click costs as much as starting a container. So arguments are read by `parse` below, and click writes the help
pages (help.py). Both use the same tables: the options of `run` and `create` here, everything else in commands.py.
"""

from __future__ import annotations

from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pycontainer.cli.commands import Command


class Option:
    """One option.

    kind  "flag", "text", "list" for a text that may be given several times, or "style" for one that may be left out
          and stands behind an equals sign only
    """

    __slots__ = ("flags", "help", "kind", "metavar", "name")

    def __init__(self, flags: str, kind: str, metavar: str, help: str) -> None:
        self.flags = flags.split()
        self.name = self.flags[-1].lstrip("-").replace("-", "_")
        self.kind = kind
        self.metavar = metavar
        self.help = help


# Those that can be changed while a container runs.
LIMITS = [
    Option("-m --memory", "text", "SIZE", "Memory limit, such as 64m."),
    Option("--memory-swap", "text", "SIZE", "Limit of memory and swap together, -1 for no limit."),
    Option("--memory-reservation", "text", "SIZE", "Memory that is taken from others first."),
    Option("--memory-high", "text", "SIZE", "Above it the container is slowed down, and not killed."),
    Option("--oom-group", "flag", "", "Where one process is killed for lack of memory, kill all."),
    Option("--cpus", "text", "NUMBER", "Processors' worth of time, such as 0.5."),
    Option("--cpu-quota", "text", "MICROSECONDS", "Processor time in each period, -1 for no limit."),
    Option("--cpu-period", "text", "MICROSECONDS", "Length of the period (100000)."),
    Option("--cpu-shares", "text", "NUMBER", "Share of processor time beside others that want it, 2 to 262144."),
    Option("--cpuset-cpus", "text", "LIST", "Processors to run on, such as 0-2,4."),
    Option("--cpuset-mems", "text", "LIST", "Memory nodes to use, such as 0-1."),
    Option("--pids-limit", "text", "NUMBER", "Most processes and threads, -1 for no limit."),
    Option("--blkio-weight", "text", "NUMBER", "Share of the disks' time beside others that want it, 10 to 1000."),
    Option("--device-read-bps", "list", "PATH:RATE", "Most bytes in a second that are read, such as /dev/sda:10m."),
    Option("--device-write-bps", "list", "PATH:RATE", "Most bytes in a second that are written."),
    Option("--device-read-iops", "list", "PATH:RATE", "Most reads in a second, such as /dev/sda:500."),
    Option("--device-write-iops", "list", "PATH:RATE", "Most writes in a second."),
    Option("--network-rate", "text", "RATE[:BURST]", "Most bits in a second, each way, such as 10mbit:64k."),
]

_EXPLAIN_TO = Option("--explain-to", "text", "FILE", "Write that to FILE and not to standard error.")
EXPLAIN = [
    Option("--explain", "style", "[=STYLE]", "Explain each step as it happens: steps, step (by step), calls, json."),
    _EXPLAIN_TO,
]

CREATE = [
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
    Option("-v --volume", "list", "[SRC:]DST[:ro]", "Mount a file or directory of the host, or a volume by name."),
    Option("--mount", "list", "KEY=VALUE,…", "The same in long form, such as type=bind,src=/srv,dst=/srv,readonly."),
    Option("--volumes-from", "list", "CONTAINER[:ro]", "Mount what another container has mounted."),
    Option("--tmpfs", "list", "DST[:OPTIONS]", "Mount a tmpfs."),
    Option("--read-only", "flag", "", "Make the root file system read-only."),
    *LIMITS,
    Option(
        "--oom-score-adj", "text", "NUMBER", "How soon it is killed when the machine is out of memory, -1000 to 1000."
    ),
    Option("--oom-kill-disable", "flag", "", "Refused: cgroup v2 has no such switch."),
    Option("--memory-swappiness", "text", "NUMBER", "Refused unless it is -1: cgroup v2 has no such control."),
    Option("--shm-size", "text", "SIZE", "Size of /dev/shm (64m)."),
    Option("--cgroup-parent", "text", "CGROUP", "Make its cgroup in this one, such as /batch."),
    Option("--ulimit", "list", "NAME=SOFT[:HARD]", "Resource limit of each process."),
    Option("--net --network", "list", "NETWORK", "bridge (default), none, host, container:NAME, or one of your own."),
    Option("--network-alias", "list", "NAME", "What else it is called in its network."),
    Option("--ip", "text", "ADDRESS", "Its address in its network, such as 10.99.16.5."),
    Option("--ip6", "text", "ADDRESS", "Its IPv6 address, with the number of the other: fd12:3456:789a::5."),
    Option("--mac-address", "text", "ADDRESS", "Its link address, such as 02:42:ac:11:00:05."),
    Option("-p --publish", "list", "[[IP:]HOST:]PORT", "Make a port of the container's reachable through the host."),
    Option("-P --publish-all", "flag", "", "Publish every exposed port on a free one of the host's."),
    Option("--expose", "list", "PORT", "Port that --publish-all publishes, besides the image's."),
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
    Option("--restart", "text", "POLICY", "Start it again when it ends: no, on-failure[:N], always, unless-stopped."),
    Option("--stop-signal", "text", "SIGNAL", "Signal that asks the program to end."),
    Option("--stop-timeout", "text", "SECONDS", "How long `stop` waits before it kills (10; -1 for ever)."),
    Option("--health-cmd", "text", "COMMAND", "Run in the container to see whether it is healthy."),
    Option("--health-interval", "text", "DURATION", "Time between two checks (30s)."),
    Option("--health-timeout", "text", "DURATION", "How long one may take (30s)."),
    Option("--health-retries", "text", "NUMBER", "Failures in a row that make it unhealthy (3)."),
    Option("--health-start-period", "text", "DURATION", "Failures count only after this time (0s)."),
    Option("--health-start-interval", "text", "DURATION", "Time between two checks until then (5s)."),
    Option("--no-healthcheck", "flag", "", "Ignore the image's health check."),
    Option("--log-driver", "text", "DRIVER", "json-file (default), or none to keep no log."),
    Option("--log-opt", "list", "KEY=VALUE", "max-size=10m and max-file=3: when the log is rotated, what is kept."),
    Option("-l --label", "list", "KEY=VALUE", "Attach a label."),
    Option("--pull", "text", "WHEN", "always, missing (default) or never: fetch the image from its registry."),
    Option("--platform", "text", "PLATFORM", "Of an image that is fetched: linux/amd64, linux/arm64."),
    Option("-q --quiet", "flag", "", "Do not show how an image is fetched."),
    Option("--cidfile", "text", "FILE", "Write the container's id to a file."),
]

_EXPLAIN_RUN = Option(
    "--explain",
    "style",
    "[=STYLE]",
    "Explain each step as it happens: steps, step (by step), calls, json; script: print a shell script, start nothing.",
)

CREATE_ALONE = [
    *CREATE,
    Option("--explain", "style", "=script", "Print a shell script that makes the same container, and make none."),
    Option("--explain-to", "text", "FILE", "Write that to FILE and not to standard output."),
]

RUN = [
    Option("-d --detach", "flag", "", "Run in the background and print the container's id."),
    Option("--detach-keys", "text", "KEYS", "What to type to leave a running container (ctrl-p,ctrl-q)."),
    *CREATE,
    _EXPLAIN_RUN,
    _EXPLAIN_TO,
]


_BOOLEANS = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_BOOLEANS |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)


def boolean(flag: str, text: str) -> bool:
    """The value of an option that is true unless one says otherwise. Raises UsageError."""
    if text not in _BOOLEANS:
        raise UsageError(flag, repr(text), "neither true nor false", f"{flag}=false")
    return _BOOLEANS[text]


def parse(command: Command, arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Values by name, and operands; {"help": True} alone when --help, or -h where that means nothing else, is met.

    The grammar is docker's: --name VALUE, --name=VALUE, -n VALUE, -nVALUE, -n=VALUE, --flag, --flag=false, flags joined
    as in -it, and -- . Options may follow operands, but with `command.program` the first operand ends them: what
    follows is the words of a program. Raises UsageError.
    """
    by_flag = {flag: option for option in command.options for flag in option.flags}
    values: dict[str, Any] = {}
    operands: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return values, operands + rest
        if not word.startswith("-") or word == "-":
            operands.append(word)
            if command.program:
                return values, operands + rest
        elif word == "--help" or (word == "-h" and word not in by_flag):
            return {"help": True}, []
        elif word.startswith("--"):
            flag, equals, value = word.partition("=")
            if flag not in by_flag:
                raise _unknown(command, flag, by_flag)
            _store(command, values, by_flag[flag], flag, value if equals else None, rest)
        else:
            letters = word[1:]
            while letters:
                flag, letters = f"-{letters[0]}", letters[1:]
                if flag not in by_flag:
                    raise _unknown(command, flag if flag == word else f"{flag} in {word}", by_flag)
                # The rest of the word is the value, and of a flag only if that is set apart by an equals sign.
                attached = None
                if letters.startswith("=") or (letters and by_flag[flag].kind != "flag"):
                    attached, letters = letters.removeprefix("="), ""
                _store(command, values, by_flag[flag], flag, attached, rest)
    return values, operands


def _store(
    command: Command, values: dict[str, Any], option: Option, flag: str, attached: str | None, rest: list[str]
) -> None:
    """Keep an option's value: the one `attached` to it, or the next of `rest`, which it takes away."""
    if option.kind == "flag":
        if attached is not None and attached not in _BOOLEANS:
            raise UsageError(command.words, f"{flag}={attached}", "neither true nor false", command.see_help)
        values[option.name] = True if attached is None else _BOOLEANS[attached]
        return
    if option.kind == "style":
        values[option.name] = attached or "steps"
        return
    if attached is None:
        if not rest:
            raise UsageError(command.words, flag, f"{option.metavar} is missing", command.see_help)
        attached = rest.pop(0)
    if option.kind == "list":
        values.setdefault(option.name, []).append(attached)
    else:
        values[option.name] = attached


def _unknown(command: Command, flag: str, known: Iterable[str]) -> UsageError:
    if command.options in (CREATE_ALONE, RUN) and flag in ABSENT:
        cause = "an option of docker's that pycontainer does not have"
        return UsageError(command.words, flag, cause, ABSENT[flag] + command.see_help)
    return UsageError(command.words, flag, "no such option", suggest(flag, known) + command.see_help)


# Docker's options of `run` and `create` that are not there, and what there is instead, as the beginning of a hint. Else
# one that looks alike and means something else would be suggested for them: --cpus for --gpus.
_NO_DEVICE = "--privileged grants every device; "
ABSENT = {
    "--cgroupns": "each container has a cgroup namespace of its own; ",
    "--device": _NO_DEVICE,
    "--device-cgroup-rule": _NO_DEVICE,
    "--gpus": _NO_DEVICE,
    "--group-add": "-u USER:GROUP names the group; ",
    "--ipc": "each container has an IPC namespace of its own; ",
    "--link": "in a network of your own containers reach each other by name: pycontainer network create NAME; ",
    "--pid": "each container has a PID namespace of its own; ",
    "--runtime": "",
    "--sysctl": "",
    "--uts": "each container has a UTS namespace of its own; ",
    "--volume-driver": "local is the only one; ",
}


def suggest(word: str, known: Iterable[str]) -> str:
    """The beginning of a hint: what of `known` the user may have meant; "" where nothing is near."""
    letters = len(word.strip("-"))
    # One slip in three letters, and never more than two: what is further away is another word.
    allowed = min(letters // 3, 2)
    near = [(distance, name) for name in known if (distance := edits(word, name)) <= allowed]
    if near:
        return f"did you mean `{min(near)[1]}`? "
    begun = [name for name in known if name.startswith(word)] if letters >= 3 else []
    return f"did you mean `{begun[0]}`? " if len(begun) == 1 else ""


def edits(first: str, second: str) -> int:
    """How many letters are missing, added, wrong or exchanged with the next one: the optimal string alignment."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        before, last, row = row, before, [i]
        for j, other in enumerate(second, 1):
            least = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if last and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                least = min(least, last[j - 2] + 1)
            row.append(least)
    return row[-1]
