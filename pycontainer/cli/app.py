"""The click application: every command's grammar and help."""

from __future__ import annotations

from typing import Any

import click

from pycontainer import __version__
from pycontainer.cli import container, image, main, options
from pycontainer.engine.settings import Settings

EPILOG = "Run `pycontainer COMMAND --help` for a command's own options."


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["--help"]})
@click.version_option(__version__, prog_name="pycontainer", message="%(prog)s %(version)s")
@click.pass_context
def app(context: click.Context) -> None:
    """A container engine for Linux that can be read."""
    context.obj = Settings()


def _run_command() -> click.Command:
    def callback(image: str, command: tuple[str, ...], **values: Any) -> int:
        return main.run({key: value for key, value in values.items() if value not in (None, ())}, [image, *command])

    parameters: list[click.Parameter] = []
    for option in options.RUN:
        parameters.append(
            click.Option(
                [*option.flags, option.name],
                # None, because click takes False for "the value may be left out".
                is_flag=True if option.kind == "flag" else None,
                multiple=option.kind == "list",
                metavar=option.metavar or None,
                help=option.help,
            )
        )
    parameters.append(click.Argument(["image"]))
    parameters.append(click.Argument(["command"], nargs=-1, type=click.UNPROCESSED))
    return click.Command(
        "run",
        params=parameters,
        callback=callback,
        help="Run a command in a new container, in the foreground.",
        epilog="The exit status is the program's; 128+n when signal n ended it; 125 when pycontainer failed, "
        "126 when the program cannot be executed, 127 when it is not found.",
        context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]},
    )


app.add_command(_run_command())
for _command in [*container.COMMANDS, *image.COMMANDS]:
    app.add_command(_command)
