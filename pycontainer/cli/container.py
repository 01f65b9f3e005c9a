"""Commands for containers other than `run`."""

from __future__ import annotations

import time

import click

from pycontainer.cli.main import for_each, notice
from pycontainer.cli.table import human_age, print_table
from pycontainer.engine import containers
from pycontainer.engine.remove import remove_container
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import printable


@click.command()
@click.option("-a", "--all", "show_all", is_flag=True, help="Show exited containers too.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.pass_obj
def ps(settings: Settings, show_all: bool, quiet: bool) -> None:
    """List containers."""
    found = containers.list_all(open_engine(settings, notice))
    rows = [container for container in found if show_all or container.status == "running"]
    if quiet:
        click.echo("".join(f"{container.id[:12]}\n" for container in rows), nl=False)
        return
    table = []
    for container in rows:
        command = printable(" ".join(container.command))
        command = f'"{command if len(command) <= 20 else command[:19] + "…"}"'
        created = human_age(time.time() - container.created)
        table.append(
            (container.id[:12], printable(container.image), command, created, _status(container), container.name)
        )
    print_table(("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"), table)


def _status(container: containers.Container) -> str:
    now = time.time()
    if container.status == "exited":
        return f"Exited ({container.exit_status}) {human_age(now - (container.finished or now))}"
    if container.status == "running":
        return f"Up {human_age(now - (container.started or now)).removesuffix(' ago')}"
    return "Created"


@click.command()
@click.option("-f", "--force", is_flag=True, help="Remove running containers too, by SIGKILL.")
@click.argument("names", metavar="CONTAINER…", nargs=-1, required=True)
@click.pass_obj
def rm(settings: Settings, force: bool, names: tuple[str, ...]) -> int:
    """Remove containers with their files."""
    connection = open_engine(settings, notice)

    def remove(name: str) -> None:
        remove_container(settings, connection, name, force=force)
        click.echo(name)

    return for_each(names, remove)


COMMANDS: list[click.Command] = [ps, rm]
