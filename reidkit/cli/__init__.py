"""The command line: `reidkit --help`. Each command is a thin caller of the package."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reidkit.cli import compare, data, pictures, reproduce, results, training
from reidkit.cli.options import interruptible, parse_settings
from reidkit.errors import ReIDKitError
from reidkit.lifetime import end_with_caller

__all__ = ["app", "main", "parse_settings"]


def group(about: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """A group of commands; without one named it prints its help."""
    return typer.Typer(cls=cls, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=about)


def at_home(word: str) -> str:
    """`~/runs` and `--out=~/runs` with the home folder for the ~, as shells do it where it stands alone."""
    found = re.fullmatch(r"(--[\w-]+=|)(~(?:/.*)?)", word, re.DOTALL)
    return found[1] + os.path.expanduser(found[2]) if found else word


class Interruptible(TyperGroup):
    """Every command knows the home folder, and ends with one line when it is interrupted; `going_on_later` says more
    where more is kept."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [at_home(word) for word in args])

    def invoke(self, ctx: typer.Context) -> Any:
        with interruptible("no file is left half written, and the same command begins again"):
            return super().invoke(ctx)


app = group("Part-aware person re-identification: MPN and CGPN, from data to tables.", Interruptible)
for command in (
    training.variants,
    training.train,
    training.evaluate,
    training.ablate,
    reproduce.reproduce,
    results.report,
    compare.compare,
    results.claims,
):
    app.command()(command)
app.command("attention-scores")(results.attention_scores)
for command in (pictures.search, pictures.attention, results.bench, results.ship, results.export):
    app.command()(command)
for name, about, commands in (
    ("data", "Check data sets on disk.", {"check": data.data_check, "restore": data.data_restore}),
    ("sidewalk", "The rendered data set.", {"render": data.sidewalk_render}),
    ("priors", "Coarse priors of body part locations.", {"build": data.priors_build}),
):
    app.add_typer(room := group(about), name=name)
    for verb, command in commands.items():
        room.command(verb)(command)


def _say_version(asked: bool) -> None:
    if asked:
        from reidkit.provenance import provenance

        here = provenance("cpu")
        typer.echo(f"reidkit {here['reidkit']} ({here['commit']}), torch {here['torch']}, Python {here['python']}")
        raise typer.Exit


@app.callback()
def before_a_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_say_version, help="Say which kit, torch and Python this is, and end."
        ),
    ] = False,
) -> None:
    """What may stand before a command."""


def main() -> None:
    """Entry point: an error of the kit is one line, not a traceback, and so is a warning."""
    warnings.formatwarning = lambda message, *where, **more: f"reidkit: warning: {message}\n"
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8, nor terminals
        sys.stdout.reconfigure(errors="backslashreplace")
    end_with_caller()
    try:
        app()
    except ReIDKitError as e:
        typer.echo(f"reidkit: {e}", err=True)
        sys.exit(2)
