"""Every command: its words, its options, and the function that does it.

One table, by which arguments are read (options.py), help pages written (help.py) and words completed (completion.py).
The function is named and not imported: it is loaded when its command is given. It is called with (settings, values,
operands): `values` holds the options that were given, by name.
"""

from __future__ import annotations

from pycontainer.cli.options import CREATE_ALONE, EXPLAIN, LIMITS, RUN, Option
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Command:
    """One command.

    words          "run", or "volume create" for one of a group
    handler        module below pycontainer.cli, colon, function
    operands       as usage shows them: "CONTAINER...", "[IMAGE]"; what they name is completed by that word
    program        the first operand ends the options, for what follows are the words of a program
    passes_status  its exit status is a program's, so that the failures of pycontainer need one of their own
    surplus        the beginning of a hint for who gives an operand too many
    """

    __slots__ = ("handler", "help", "operands", "options", "passes_status", "program", "surplus", "words")

    def __init__(
        self,
        words: str,
        handler: str,
        operands: str,
        help: str,
        options: list[Option],
        *,
        program: bool = False,
        passes_status: bool = False,
        surplus: str = "",
    ) -> None:
        self.words = words
        self.handler = handler
        self.operands = operands.split()
        self.help = help
        self.options = options
        self.program = program
        self.passes_status = passes_status
        self.surplus = surplus

    @property
    def see_help(self) -> str:
        """A hint for who has used it wrongly."""
        return f"see `pycontainer {self.words} --help`"

    def check(self, operands: list[str]) -> None:
        """Raises UsageError when there are too few operands, or too many."""
        least = sum(not operand.startswith("[") for operand in self.operands)
        if len(operands) < least:
            missing = self.operands[len(operands)].removesuffix("...")
            raise UsageError(self.words, "", f"{missing} is missing", self.see_help)
        unlimited = bool(self.operands) and "..." in self.operands[-1]
        if len(operands) > len(self.operands) and not unlimited:
            hint = self.surplus + self.see_help
            raise UsageError(self.words, operands[len(self.operands)], "one operand too many", hint)

    def load(self) -> Any:
        """The function, imported now."""
        module, function = self.handler.split(":")
        return getattr(__import__(f"pycontainer.cli.{module}", fromlist=[function]), function)


_FORMAT = Option("--format", "text", "TEMPLATE", "json, or a Go template such as '{{.Names}}'.")
# Where nothing is filtered, docker has the letter for this.
_SHOW = Option("-f --format", "text", "TEMPLATE", _FORMAT.help)
_FILTER = Option("-f --filter", "list", "KEY=VALUE", "Only those that match; several values of one key mean or.")
_QUIET = Option("-q --quiet", "flag", "", "Only ids.")
_NO_TRUNC = Option("--no-trunc", "flag", "", "Nothing shortened.")
_YES = Option("-f --force", "flag", "", "Do not ask.")
_PRUNE_FILTER = Option("--filter", "list", "KEY=VALUE", "Only those that match: until=TIME, label=KEY.")
_DETACH_KEYS = Option("--detach-keys", "text", "KEYS", "What to type to leave it running (ctrl-p,ctrl-q).")
_MAX_LAYER_SIZE = Option("--max-layer-size", "text", "SIZE", "Refuse a layer that unpacks to more (16g).")
_QUIET_LOAD = Option("-q --quiet", "flag", "", "Show no progress.")

_LIST = [
    Option("-a --all", "flag", "", "Show those that do not run too."),
    _QUIET,
    Option("-s --size", "flag", "", "Show what each has written, and its size with its image."),
    Option("-n --last", "text", "NUMBER", "The newest NUMBER, running or not."),
    Option("-l --latest", "flag", "", "The newest, running or not."),
    _FILTER,
    _FORMAT,
    _NO_TRUNC,
]
_STOP = [
    Option("-t --timeout --time", "text", "SECONDS", "How long to wait before it is killed (10; -1 for ever)."),
    Option("-s --signal", "text", "SIGNAL", "The signal that asks."),
]

CONTAINER = [
    Command("run", "run:run", "IMAGE [COMMAND...]", "Run a command in a new container.", RUN, program=True,
            passes_status=True),
    Command("create", "run:create", "IMAGE [COMMAND...]", "Make a container and do not start it.", CREATE_ALONE,
            program=True),
    Command("start", "start:start", "CONTAINER...", "Start containers that do not run.", [
        Option("-a --attach", "flag", "", "Show its output, pass signals on, and exit with its status."),
        Option("-i --interactive", "flag", "", "Pass standard input to it."),
        _DETACH_KEYS,
        *EXPLAIN,
    ]),
    Command("stop", "stop:stop", "CONTAINER...", "Ask containers to end, and kill those that do not.",
            [*_STOP, *EXPLAIN]),
    Command("restart", "stop:restart", "CONTAINER...", "Stop containers and start them again.", _STOP),
    Command("kill", "stop:kill", "CONTAINER...", "Send a signal to containers.", [
        Option("-s --signal", "text", "SIGNAL", "Which one (SIGKILL)."),
    ]),
    Command("why", "why:explain", "CONTAINER...", "Say why containers do not run, or what is wrong with them.", [
        Option("--json", "flag", "", "All that is known, as JSON."),
    ]),
    Command("pause", "stop:pause", "CONTAINER...", "Freeze all processes of containers.", []),
    Command("unpause", "stop:unpause", "CONTAINER...", "Let them go on.", []),
    Command("wait", "stop:wait", "CONTAINER...", "Wait until containers have ended and print their exit statuses.", []),
    Command("rm", "remove:rm", "CONTAINER...", "Remove containers with their files.", [
        Option("-f --force", "flag", "", "Remove running containers too, by SIGKILL."),
        Option("-v --volumes", "flag", "", "Remove their anonymous volumes too."),
        *EXPLAIN,
    ]),
    Command("rename", "rename:rename", "CONTAINER NAME", "Give a container another name.", []),
    Command("update", "update:update", "CONTAINER...", "Change the limits of containers, also while they run.", [
        *LIMITS,
        Option("--restart", "text", "POLICY", "no, on-failure[:N], always, unless-stopped."),
    ]),
    Command("ps", "ps:ps", "", "List containers.", _LIST),
    Command("logs", "logs:logs", "CONTAINER", "Show what a container has written.", [
        Option("-f --follow", "flag", "", "Go on as long as it runs."),
        Option("-n --tail", "text", "NUMBER", "Only the last NUMBER lines, or all."),
        Option("--since", "text", "TIME", "Only from then on: 2026-01-02T15:04:05, or 10m for ten minutes ago."),
        Option("--until", "text", "TIME", "Only up to then."),
        Option("-t --timestamps", "flag", "", "Put the time before each line."),
        Option("--details", "flag", "", "Accepted for Docker's sake."),
    ]),
    Command("attach", "attach:attach", "CONTAINER", "Connect the terminal to a running container.", [
        _DETACH_KEYS,
        Option("--no-stdin", "flag", "", "Only look."),
        Option("--sig-proxy", "text", "BOOL", "Pass signals on (true)."),
    ], passes_status=True),
    Command("exec", "exec:exec", "CONTAINER COMMAND [ARGUMENT...]", "Run a command in a running container.", [
        Option("-i --interactive", "flag", "", "Keep standard input open."),
        Option("-t --tty", "flag", "", "Give it a terminal."),
        Option("-d --detach", "flag", "", "Do not wait for it."),
        Option("-e --env", "list", "KEY[=VALUE]", "Set an environment variable."),
        Option("--env-file", "list", "FILE", "Read environment variables from a file."),
        Option("-u --user", "text", "USER[:GROUP]", "Run as this user, by name or number."),
        Option("-w --workdir", "text", "DIR", "Working directory inside the container."),
        Option("--privileged", "flag", "", "Grant every capability that the container's user namespace has."),
        _DETACH_KEYS,
        *EXPLAIN,
    ], program=True, passes_status=True),
    Command("top", "top:top", "CONTAINER [PS-OPTION...]", "List a container's processes.", [], program=True),
    Command("stats", "stats:show", "[CONTAINER...]", "Show what containers use: processors, memory, network, disks.", [
        Option("-a --all", "flag", "", "Show those that do not run too."),
        Option("--no-stream", "flag", "", "Look once, and end."),
        Option("--plot", "flag", "", "Draw memory and processor time of one container."),
        _FORMAT,
        _NO_TRUNC,
    ]),
    Command("port", "port:port", "CONTAINER [PORT]", "List what is published of a container.", []),
    Command("diff", "files:diff", "CONTAINER", "List what a container has changed of its image's files.", []),
    Command("commit", "files:commit", "CONTAINER [IMAGE]", "Make an image of what a container has changed.", [
        Option("-m --message", "text", "TEXT", "Comment for the image's history."),
        Option("-a --author", "text", "NAME", "Author, for the image."),
        Option("-c --change", "list", "INSTRUCTION", "Apply a Dockerfile instruction, such as 'CMD [\"sh\"]'."),
        Option("-p --pause", "text", "BOOL", "Freeze it meanwhile (true)."),
        *EXPLAIN,
    ]),
    Command("export", "files:export", "CONTAINER", "Write a container's files as a tar archive.", [
        Option("-o --output", "text", "FILE", "To this file and not to standard output."),
    ]),
    Command("cp", "files:cp", "SOURCE TARGET", "Copy files between a container (NAME:PATH) and the host.", [
        Option("-a --archive", "flag", "", "Keep owners."),
        Option("-L --follow-link", "flag", "", "Copy what SOURCE leads to, if it is a symbolic link."),
        Option("-q --quiet", "flag", "", "Accepted for Docker's sake."),
    ]),
    Command("inspect", "inspect:inspect", "OBJECT...", "Show all that is known of containers, images and the like.", [
        _SHOW,
        Option("--type", "text", "KIND", "container, image, network or volume."),
        Option("-s --size", "flag", "", "Show what a container has written."),
    ]),
    Command("container prune", "prune:containers", "", "Remove every container that does not run.", [
        _YES, _PRUNE_FILTER,
    ]),
]  # fmt: skip

IMAGE = [
    Command("images", "images:images", "[IMAGE]", "List images, newest first.", [
        Option("-a --all", "flag", "", "Accepted for Docker's sake: no image is ever hidden."),
        _QUIET, _FILTER, _FORMAT, _NO_TRUNC,
    ]),
    Command("rmi", "image:rmi", "IMAGE...", "Remove images by name or id.", [
        Option("-f --force", "flag", "", "Take the name even of an image that a container uses."),
    ]),
    Command("tag", "image:tag", "IMAGE NAME", "Give an image one more name.", []),
    Command("load", "load:load", "", "Load images from a docker or OCI archive or an OCI layout directory.", [
        Option("-i --input", "text", "FILE", "Archive or OCI layout directory; - is standard input."),
        _QUIET_LOAD, _MAX_LAYER_SIZE, *EXPLAIN,
    ], surplus="an archive is named with -i: `pycontainer load -i FILE`; "),
    Command("save", "save:save", "IMAGE...", "Write images as one archive that docker, podman and load read.", [
        Option("-o --output", "text", "FILE", "To this file and not to standard output."),
    ]),
    Command("history", "history:history", "IMAGE", "Show what an image was made by, layer by layer, newest first.", [
        Option("-H --human", "flag", "", "Sizes and ages for people to read (true)."),
        _QUIET, _FORMAT, _NO_TRUNC,
    ]),
    Command("layers", "layers:show", "OBJECT [PATH]", "Show what each layer of an image or container does.", [
        _FORMAT, _NO_TRUNC,
    ]),
    Command("import", "load:import_", "FILE NAME", "Make an image of a root file system in a tarball (- is stdin).", [
        Option("-c --change", "list", "INSTRUCTION", "Apply a Dockerfile instruction, such as 'CMD [\"sh\"]'."),
        Option("-m --message", "text", "TEXT", "Comment for the image's history."),
        _QUIET_LOAD, _MAX_LAYER_SIZE, *EXPLAIN,
    ]),
    Command("pull", "pull:pull", "IMAGE", "Fetch an image from a registry.", [
        Option("-a --all-tags", "flag", "", "Fetch all tags of the repository."),
        Option("--platform", "text", "PLATFORM", "linux/amd64, linux/arm64: another than this machine's."),
        Option("-q --quiet", "flag", "", "Print only the digest."),
        Option("--verify", "list", "KEY.pub", "Refuse what cosign has not signed with this key, or another one given."),
        _MAX_LAYER_SIZE, *EXPLAIN,
    ]),
    Command("push", "push:push", "IMAGE", "Send an image to a registry.", [
        Option("-a --all-tags", "flag", "", "Send all tags of the repository."),
        Option("-q --quiet", "flag", "", "Print only the name."),
    ]),
    Command("login", "login:login", "[SERVER]", "Say who you are to a registry, and have it kept.", [
        Option("-u --username", "text", "NAME", "Your name there."),
        Option("-p --password", "text", "PASSWORD", "Others may see it: better --password-stdin, or be asked."),
        Option("--password-stdin", "flag", "", "Read the password from standard input."),
    ]),
    Command("logout", "login:logout", "[SERVER]", "Forget what login has kept.", []),
    Command("image inspect", "inspect:image", "IMAGE...", "Show what is known about images.", [_SHOW]),
    Command("image prune", "prune:images", "", "Remove images without a name.", [
        Option("-a --all", "flag", "", "Also those with a name that no container uses."),
        Option("--blobs", "flag", "", "Also the compressed layers of images that stay; run needs them unpacked."),
        _YES, _PRUNE_FILTER,
    ]),
]  # fmt: skip

VOLUME_AND_NETWORK = [
    Command("volume create", "volume:create", "[NAME]", "Make a volume.", [
        Option("-d --driver", "text", "NAME", "local, the only one."),
        Option("--label", "list", "KEY=VALUE", "Attach a label."),
        Option("-o --opt", "list", "KEY=VALUE", "Option of the driver's."),
        *EXPLAIN,
    ]),
    Command("volume ls", "volume:ls", "", "List volumes.", [_QUIET, _FILTER, _FORMAT]),
    Command("volume inspect", "volume:inspect", "VOLUME...", "Show what is known about volumes.", [_SHOW]),
    Command("volume rm", "volume:rm", "VOLUME...", "Remove volumes that no container uses.", [
        Option("-f --force", "flag", "", "No failure where there is none."),
        *EXPLAIN,
    ]),
    Command("volume prune", "volume:prune", "", "Remove anonymous volumes that no container uses.", [
        Option("-a --all", "flag", "", "Named ones too."), _YES, _PRUNE_FILTER,
    ]),
    Command("network create", "network:create", "NETWORK", "Make a network in which containers have names.", [
        Option("-d --driver", "text", "NAME", "bridge, the only one."),
        Option("--subnet", "list", "SUBNET", "Such as 10.20.0.0/16, or fd12:3456:789a::/64; else one that is free."),
        Option("--ipv6", "flag", "", "Also IPv6, by a prefix of its own."),
        Option("--gateway", "text", "ADDRESS", "The host's address in it; the first of the subnet."),
        Option("--ip-range", "text", "SUBNET", "Part of the subnet that addresses are taken from."),
        Option("--internal", "flag", "", "Nothing gets out of it, and nothing in."),
        Option("--label", "list", "KEY=VALUE", "Attach a label."),
        Option("-o --opt", "list", "KEY=VALUE", "Such as com.docker.network.driver.mtu=1400."),
        *EXPLAIN,
    ]),
    Command("network connect", "network:connect", "NETWORK CONTAINER", "Put a container into one more network.", [
        Option("--alias", "list", "NAME", "What else it is called there."),
        Option("--ip", "text", "ADDRESS", "Its address there."),
        Option("--ip6", "text", "ADDRESS", "Its IPv6 address there."),
        Option("--mac-address", "text", "ADDRESS", "Its link address there."),
        *EXPLAIN,
    ]),
    Command("network disconnect", "network:disconnect", "NETWORK CONTAINER", "Take a container out of a network.", [
        Option("-f --force", "flag", "", "Taken, and without effect: it is always done."),
        *EXPLAIN,
    ]),
    Command("network rm", "network:rm", "NETWORK...", "Remove networks that no running container is in.", [
        Option("-f --force", "flag", "", "No failure where there is none."),
        *EXPLAIN,
    ]),
    Command("network prune", "network:prune", "", "Remove networks that no container has.", [_YES, _PRUNE_FILTER]),
    Command("network ls", "network:ls", "", "List networks.", [_QUIET, _FILTER, _FORMAT, _NO_TRUNC]),
    Command("network inspect", "network:inspect", "NETWORK...", "Show what is known about networks.", [
        _SHOW, Option("--picture", "flag", "", "Draw who is plugged in where, with addresses, names and ports."),
    ]),
]  # fmt: skip

SYSTEM = [
    Command("events", "events:events", "", "Show what happens, as it happens.", [
        Option("--since", "text", "TIME", "Begin with what happened since then."),
        Option("--until", "text", "TIME", "End at that time."),
        _FILTER,
        _FORMAT,
    ]),
    Command("info", "system:info", "", "Show this installation and machine.", [_SHOW]),
    Command("version", "system:version", "", "Show the version, and of what it depends on.", [_SHOW]),
    Command("doctor", "doctor:doctor", "", "List what is on this machine under our name and belongs to nobody.", [
        Option("--fix", "flag", "", "Remove it, and plug in what is missing."), _FORMAT,
    ]),
    Command("lab", "lab:lab", "[LAB]", "Show what the kernel does, in throw-away containers.", [
        Option("--step", "flag", "", "Wait for a key before each part."),
    ]),
    Command("completion", "completion:completion", "SHELL", "Print the script by which a shell completes words.", []),
    Command("help", "help:help", "[COMMAND...]", "Show how a command is used.", []),
    # What the scripts call; not shown.
    Command("__complete", "completion:complete", "[WORD...]", "Complete the last word.", [], program=True),
    Command("system df", "system:df", "", "Show how much disk is used.", [
        Option("-v --verbose", "flag", "", "One line for each object."), _FORMAT,
    ]),
    Command("system prune", "prune:system", "", "Remove what is not used: containers, networks, nameless images.", [
        Option("-a --all", "flag", "", "Also every image that no container uses."),
        Option("--volumes", "flag", "", "Also anonymous volumes that no container uses."),
        _YES, _PRUNE_FILTER,
    ]),
    Command("system verify", "verify:verify", "[IMAGE...]", "Check what the store keeps, of all images or of these.", [
        Option("--deep", "flag", "", "Unpack each layer once more and compare it, file by file."),
    ]),
    Command("system boot", "boot:boot", "", "Start what should run after a reboot, by the restart policies.", []),
]  # fmt: skip

SECTIONS = {"Containers": CONTAINER, "Images": IMAGE, "Volumes and networks": VOLUME_AND_NETWORK, "System": SYSTEM}
GROUPS = {
    "container": "All that is done with containers.",
    "image": "All that is done with images.",
    "volume": "What keeps data longer than a container.",
    "network": "What containers are connected to.",
    "system": "This installation as a whole.",
}

# Docker's commands that will be there, and what does the same until then.
PLANNED = {
    "build": "until then `pycontainer commit` makes an image of a container, and `pycontainer load` takes any other's",
    "search": "until then the registry's own page, and `pycontainer pull NAME` where the name is known",
}

COMMANDS = {command.words: command for section in SECTIONS.values() for command in section}
# Docker's longer words for the same.
_IN_GROUP = {"ps": "ls", "images": "ls", "rmi": "rm"}
for _group, _commands in (("container", CONTAINER), ("image", IMAGE)):
    for _command in _commands:
        if " " not in _command.words:
            COMMANDS[f"{_group} {_IN_GROUP.get(_command.words, _command.words)}"] = _command
_SYNONYMS = {"list": "ls", "remove": "rm"}


def find(arguments: list[str]) -> tuple[Command, list[str]] | None:
    """The command that the arguments begin with, and the rest of them."""
    if len(arguments) > 1 and arguments[0] in GROUPS:
        command = COMMANDS.get(f"{arguments[0]} {_SYNONYMS.get(arguments[1], arguments[1])}")
        return (command, arguments[2:]) if command is not None else None
    command = COMMANDS.get(arguments[0]) if arguments and " " not in arguments[0] else None
    return (command, arguments[1:]) if command is not None else None
