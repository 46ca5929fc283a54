"""Commands put together; any failure becomes one sentence on stderr and a non-zero exit code."""

from __future__ import annotations

import errno
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ase_pet import __version__
from ase_pet.cli import (
    checking,
    crystals,
    dynamics,
    learning,
    models,
    relaxation,
    single_points,
    vibrations,
)
from ase_pet.cli.config import configurable
from ase_pet.workflows.provenance import COMMAND


class Commands(TyperGroup):
    """A group whose commands fail with a sentence instead of a traceback."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:
        """Run a command line, remembered as typed for summaries."""
        typed = sys.argv[1:] if args is None else list(args)
        token = COMMAND.set(shlex.join(["ase-pet", *typed]))
        try:
            return super().main(args, *others, **options)
        finally:
            COMMAND.reset(token)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            with warnings.catch_warnings():
                if not ctx.params.get("debug"):
                    warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)  # noqa: T201
            raise
        except Exception as error:
            # Exits and errors of usage carry their exit code; typer shows them itself. A pipe
            # that was closed, as by `| head`, is no error; typer ends silently.
            wanted = hasattr(error, "exit_code") or isinstance(error, typer.Abort | BrokenPipeError)
            if wanted or ctx.params.get("debug"):
                raise
            print(f"error: {_sentence(error)}", file=sys.stderr)  # noqa: T201
            raise typer.Exit(1) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one sentence, without the line of code that it comes from."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)  # noqa: T201


def _sentence(error: Exception) -> str:
    """The message on one line; the class as well where the message was not written for a user."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({text}); free some space and give the command again"
    if isinstance(error, ValueError | RuntimeError | OSError | ImportError | ArithmeticError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (`ase-pet --debug ...` shows where)"


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"ase-pet {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Exactly equivariant machine-learned potentials: simulate, check, train."""


_MODULES = (
    single_points,
    relaxation,
    crystals,
    dynamics,
    vibrations,
    checking,
    models,
    learning,
)
for _module in _MODULES:
    for _name, _command in _module.COMMANDS.items():
        app.command(_name)(configurable(_command))
