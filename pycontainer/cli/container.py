"""Commands for containers other than `run`."""

from __future__ import annotations

import time

import click

from pycontainer.cli.main import require_root
from pycontainer.engine import containers, remove
from pycontainer.engine.settings import Settings


@click.command()
@click.option("-a", "--all", "show_all", is_flag=True, help="Show exited containers too.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.pass_obj
def ps(settings: Settings, show_all: bool, quiet: bool) -> None:
    """List containers."""
    require_root()
    found = remove.list_containers(settings)
    rows = [container for container in found if show_all or container.status == "running"]
    if quiet:
        click.echo("".join(f"{container.id[:12]}\n" for container in rows), nl=False)
        return
    table = [("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES")]
    for container in rows:
        command = " ".join(container.command)
        command = f'"{command if len(command) <= 20 else command[:19] + "…"}"'
        created = f"{_age(container.created)} ago"
        table.append((container.id[:12], container.image, command, created, _status(container), container.name))
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for row in table:
        click.echo("   ".join(f"{cell:{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip())


def _status(container: containers.Container) -> str:
    if container.status == "exited":
        return f"Exited ({container.exit_status}) {_age(container.finished)} ago"
    return f"Up {_age(container.started)}" if container.status == "running" else "Created"


def _age(moment: float | None) -> str:
    seconds = int(time.time() - (moment or time.time()))
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


@click.command()
@click.option("-f", "--force", is_flag=True, help="Remove running containers too, by SIGKILL.")
@click.argument("names", metavar="CONTAINER…", nargs=-1, required=True)
@click.pass_obj
def rm(settings: Settings, force: bool, names: tuple[str, ...]) -> int:
    """Remove containers with their files."""
    require_root()
    return remove.remove_containers(settings, names, force=force, report=click.echo)


COMMANDS: list[click.Command] = [ps, rm]
