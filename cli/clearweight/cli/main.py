"""Entry point of the console script: the verbs under one command."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from clearweight.cli import VERBS
from clearweight.cli.failure import INTERRUPTED, guarded

app = typer.Typer(
    name="clearweight",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _verb in VERBS.items():
    app.command(_name)(guarded(_verb))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("clearweight"))
        raise typer.Exit


@app.callback()
def clearweight(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Compress a classifier, keep its explanations, serve both, and watch them drift.

    Exit codes: 0 done, 1 a check failed, 2 bad input.

    Example: clearweight demo
    """


def main() -> None:
    """Run the command."""
    try:
        app()
    except KeyboardInterrupt:  # outside any verb, while modules are imported
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
