"""What every command takes: options from a YAML file, and its arguments by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
import yaml
from typer.models import ArgumentInfo

from ase_pet.workflows.provenance import ARGUMENTS

#: At the end of the parameter's name where an argument is given by name.
_BY_NAME = "_by_name"
_EMPTY = inspect.Parameter.empty


def configurable(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take its arguments by name as well, and all that it takes from a YAML file.

    ``run MODEL STRUCTURE`` becomes ``run --model MODEL --structure STRUCTURE`` or
    ``run --config run.yaml`` with the keys "model" and "structure" and the names of options. What
    is typed goes before the file.

    Args:
        command: A function whose parameters typer understands. One with a parameter ``config``
            reads a file of its own.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    defaults = {name: parameters[name].default for name in parameters if _argument(hints[name])}

    @wraps(command)
    def with_file(**given: Any) -> None:
        named = {name: given.pop(name + _BY_NAME) for name in defaults}
        typed = [value for name in defaults if (value := given.pop(name)) is not None]
        file = {} if "config" in parameters else given.pop("config")
        bound = {**defaults, **_bind(typed, named, file)}
        for name, value in bound.items():
            if value is _EMPTY:
                raise ValueError(f"{name.upper()}: missing; give it here or by --{name}")
            given[name] = value if value is None else _kind(hints[name])(value)
        token = ARGUMENTS.set({n: str(given[n]) for n in defaults if given[n] is not None})
        try:
            command(**given)
        finally:
            ARGUMENTS.reset(token)

    signature = [*_open(parameters, hints), *_named(defaults, hints)]
    if "config" not in parameters:
        signature.append(_keyword("config", Config, None))
    with_file.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    with_file.__annotations__ = {p.name: p.annotation for p in signature}
    del with_file.__wrapped__
    return with_file


def _argument(hint: Any) -> ArgumentInfo | None:
    return next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, ArgumentInfo)), None)


def _kind(hint: Any) -> type[Path] | type[str]:
    """What an argument is given as: a path or text."""
    kind = get_args(hint)[0]
    return Path if Path in (kind, *get_args(kind)) else str


def _keyword(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _open(
    parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> Iterator[inspect.Parameter]:
    """Parameters as they are, but arguments may be left out: they may come from elsewhere."""
    for name, parameter in parameters.items():
        argument = _argument(hints[name])
        if argument is None:
            yield _keyword(name, hints[name], parameter.default)
        else:
            yield _keyword(name, Annotated[_kind(hints[name]) | None, argument], None)


def _named(names: Mapping[str, Any], hints: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    """An option for each argument."""
    for name in names:
        argument = _argument(hints[name])
        assert argument is not None
        option = typer.Option(
            f"--{name}", help=f"{name.upper()}, by name.", autocompletion=argument.autocompletion
        )
        yield _keyword(name + _BY_NAME, Annotated[_kind(hints[name]) | None, option], None)


def _bind(
    typed: Sequence[Any], named: Mapping[str, Any], file: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of arguments: typed ones fill, in order, the places that nothing else fills."""
    by_name = {name: value for name, value in named.items() if value is not None}
    places = [name for name in named if name not in by_name]
    if len(typed) != len(places):  # all that could be: the file is overridden
        places = [name for name in places if name not in file]
    if len(typed) > len(places):
        raise ValueError(
            f"{typed[len(places)]}: {', '.join(n.upper() for n in named if n not in places)} "
            "given already; override a --config file by name, as with --model"
        )
    return {**file, **by_name, **dict(zip(places, typed, strict=False))}


def _read(ctx: typer.Context, path: Path | None) -> dict[str, Any]:
    """Set options from a file as their defaults, and return the values of arguments."""
    if path is None or ctx.resilient_parsing:
        return {}
    known = dict(_known(ctx.command.params))
    options: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for key, value in _content(path).items():
        param = known.get(str(key).replace("_", "-"))
        if param is None:
            near = get_close_matches(str(key).replace("_", "-"), known, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(known)}"
            raise ValueError(f"{path}: unknown key {key!r}; {hint}")
        place = arguments if param.param_type_name == "argument" else options
        if param.name in place:
            raise ValueError(f"{path}: {key!r} is given twice; keep one")
        try:
            place[param.name] = _as_typed(param, value)
            param.process_value(ctx, place[param.name])
        except typer.BadParameter as error:
            raise ValueError(f"{path}: {key}: {error.message} (got {value!r})") from None
        except ValueError as error:
            raise ValueError(f"{path}: {key}: {error} (got {value!r})") from None
    ctx.default_map = {**(ctx.default_map or {}), **options}
    return arguments


def _known(params: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Keys that a file may have, and what takes their values."""
    for param in params:
        if param.param_type_name == "argument":
            yield param.name.replace("_", "-"), param
        elif not param.name.endswith(_BY_NAME) and param.name not in ("config", "help"):
            yield max(param.opts, key=len).lstrip("-"), param


def _content(path: Path) -> Mapping[Any, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--config: {path} cannot be read as text: {error}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--config: {path} is not YAML: {reason}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"--config: {path} holds no options; write lines like `temperature: 300`")
    return content


def _as_typed(param: Any, value: Any) -> Any:
    """What would have been typed for a value, which YAML may have read as another type."""
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value
    several = param.nargs != 1 or getattr(param, "multiple", False)
    values = value if isinstance(value, list) and several else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise ValueError("expected a number, or text, in quotes where YAML means another thing")
    texts = [str(one) for one in values]
    if param.nargs not in (1, -1, len(texts)):
        raise ValueError(f"expected a list of {param.nargs}")
    return texts if several else texts[0]


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read,
        is_eager=True,
        metavar="FILE",
        help="YAML file with any of these options and arguments; what is typed goes before it.",
    ),
]
