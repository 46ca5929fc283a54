"""What several commands have in common: the calculator's options, reading, and tables."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ase import Atoms

    from ase_pet import PETCalculator
    from ase_pet.formats import Model

SYMMETRIES = {"o(3)": "O(3)", "o3": "O(3)", "so(3)": "SO(3)", "so3": "SO(3)", "none": None}


def complete_model(incomplete: str) -> list[str]:
    """Shipped models whose names begin like what was typed, after the last comma if any."""
    from ase_pet.formats.shipped import shipped_models

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in shipped_models() if name.startswith(last)]


ModelPath = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint, or the name of a shipped model.",
        autocompletion=complete_model,
    ),
]
ModelPaths = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint, or the name of a shipped model; a committee with commas between them.",
        autocompletion=complete_model,
    ),
]
StructurePath = Annotated[
    Path, typer.Argument(metavar="STRUCTURE", help="File in any format that ASE reads.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Symmetry = Annotated[str, typer.Option(help="O3, SO3, or none for the bare model.")]
Ensemble = Annotated[str, typer.Option(help="auto, local, shared or global.")]
Weights = Annotated[str, typer.Option(help="auto, smooth, lean or paper.")]
Dtype = Annotated[str | None, typer.Option(help="float32 or float64 (default: the checkpoint's).")]
Target = Annotated[
    str | None, typer.Option(help="Which target of a model with several: number or name.")
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")]


def _calculator(
    model: ModelPaths,
    *,
    device: Device = "auto",
    dtype: Dtype = None,
    symmetry: Symmetry = "O3",
    ensemble: Ensemble = "auto",
    weights: Weights = "auto",
    neighbors: Annotated[
        str, typer.Option(help="auto, torch_cluster, vesin, cell_list or brute_force.")
    ] = "auto",
    skin: Annotated[float, typer.Option(help="Of neighbour lists, in Å.")] = 0.5,
    memory_budget: Annotated[str, typer.Option(help="Like 500MB or 2GB.")] = "2GB",
    charge: Annotated[float, typer.Option(help="Total charge, for models that take one.")] = 0.0,
    spin: Annotated[float, typer.Option(help="Spin multiplicity, likewise.")] = 1.0,
    splines: Annotated[bool, typer.Option(help="Faster wide TensorNets, within rounding.")] = False,
    forces: Annotated[
        str, typer.Option(help="conservative, or direct: faster, does not conserve energy.")
    ] = "conservative",
    compile: Annotated[  # noqa: A002
        bool, typer.Option(help="Use torch.compile: for GPUs and long runs.")
    ] = False,
    target: Target = None,
    uncertainty_threshold: Annotated[
        float | None, typer.Option(help="Warn once above this uncertainty, eV an atom.")
    ] = None,
) -> PETCalculator:
    from ase_pet import PETCalculator

    names = split_models(model)
    return PETCalculator(
        names if len(names) > 1 else model,
        device=device,
        dtype=dtype,
        symmetry=parse_symmetry(symmetry),
        ensemble=ensemble,
        weights=weights,
        neighbors=neighbors,
        skin=skin,
        memory_budget=memory_budget,
        charge=charge,
        spin=spin,
        splines=splines,
        forces=forces,
        compile=compile,
        target=parse_target(target),
        uncertainty_threshold=uncertainty_threshold,
    )


def takes_calculator(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument MODEL and all options of the calculator.

    Args:
        command: Its first parameter ``calculator`` receives the calculator.
    """
    template = inspect.signature(_calculator).parameters
    own = list(inspect.signature(command).parameters.values())[1:]
    model, *options = template.values()

    @wraps(command)
    def with_model(**given: Any) -> None:
        calculator = _calculator(**{name: given.pop(name) for name in template})
        command(calculator, **given)

    # Annotations are strings until they are resolved, and typer would not find its options in them.
    hints = {
        **get_type_hints(_calculator, {**globals(), "PETCalculator": Any}, include_extras=True),
        **get_type_hints(command, {**command.__globals__, "PETCalculator": Any}, None, True),
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        p.replace(kind=keyword, annotation=hints[p.name]) for p in (model, *own, *options)
    ]
    with_model.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_model.__annotations__ = {p.name: p.annotation for p in parameters}
    del with_model.__wrapped__
    return with_model


def split_models(text: str) -> list[str]:
    """Names of models from what was typed: one, or those of a committee.

    Raises:
        ValueError: If a name between commas is empty.
    """
    names = [text] if Path(text).exists() else text.split(",")
    if len(names) > 1 and not all(names):
        raise ValueError(f"MODEL: expected names with a comma between two of them, got {text!r}")
    return names


def load_one(text: str, target: str | None = None, **options: Any) -> Model:
    """The model that was named, where a committee makes no sense.

    Raises:
        ValueError: If several were named.
    """
    from ase_pet import load

    names = split_models(text)
    if len(names) > 1:
        raise ValueError(
            f"MODEL: one is needed here, got {len(names)}; give {' or '.join(names)} alone"
        )
    return load(text, target=parse_target(target), **options)


def parse_target(text: str | None) -> int | str | None:
    """Target of a model with several from what was typed: a number or a name."""
    return int(text) if text is not None and text.isdecimal() else text


def parse_symmetry(text: str) -> str | None:
    """Symmetry from what was typed; parentheses, which shells dislike, are not needed.

    Raises:
        ValueError: If it is unknown.
    """
    if text.lower() not in SYMMETRIES:
        raise ValueError(f"--symmetry: expected O3, SO3 or none, got {text!r}")
    return SYMMETRIES[text.lower()]


def read_structures(path: Path, index: str = ":") -> list[Atoms]:
    """Structures of a file, without the results that it may hold.

    Args:
        path: In any format that ASE reads.
        index: Which, as ASE writes it.

    Raises:
        ValueError: If the file cannot be read or holds no structure.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError
    from ase.utils import string2index

    if not path.is_file():
        what = "a folder; give a file" if path.is_dir() else "no such file; check the path"
        raise ValueError(f"{path}: {what}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; write it again")
    try:
        found = ase.io.read(path, index)
    except (IndexError, StopIteration) as error:
        raise ValueError(
            f"{path}: ASE finds no structure of index {index} in it; they count from 0, or back "
            "from -1"
        ) from error
    except UnknownFileTypeError as error:
        raise ValueError(
            f"{path}: ASE cannot read it as a structure: no format that it knows; give a file like "
            "x.extxyz, x.cif or POSCAR"
        ) from error
    except Exception as error:
        if isinstance(string2index(index), str):  # databases have indices in words
            raise ValueError(
                f"--index: expected a number or a slice like 0, : or -10:, got {index!r}"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: ASE cannot read it as a structure: {reason}") from error
    structures = found if isinstance(found, list) else [found]
    if not structures:
        raise ValueError(f"{path}: no structure in it for index {index!r}")
    for atoms in structures:
        atoms.calc = None
    return structures


def frame_number(path: Path, index: str, k: int) -> int:
    """Number in a file of the ``k``-th structure that ``read_structures`` chose by an index."""
    import ase.io
    from ase.utils import string2index

    wanted = string2index(index)
    if not isinstance(wanted, slice):
        return wanted if isinstance(wanted, int) else k
    return range(len(ase.io.read(path, ":")))[wanted][k]


def check_out(path: Path, *, folder: bool = False, name: str = "--out") -> None:
    """Refuse, before anything is computed, a place where the outcome could not be written.

    Args:
        path: File, or folder, which is made later if it is not there.
        folder: Whether it is a folder.
        name: Of the option, for messages.

    Raises:
        ValueError: If a file is where a folder should be or the other way round, or the file's
            folder does not exist, or nothing can be written there.
    """
    if path.is_dir() and not folder:
        raise ValueError(f"{name}: {path} is a folder; give the name of a file")
    place = path if folder else path.parent
    if not (place.exists() or folder):
        raise ValueError(f"{name}: no folder {place}; make it first")
    place = next(p for p in (place, *place.absolute().parents) if p.exists())
    if not place.is_dir():
        raise ValueError(f"{name}: {place} is a file, where a folder is needed; give another name")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"{name}: nothing can be written in {place}; give another folder")


def make_console() -> Console:
    """Console on standard output; a progress bar appears only if that is a terminal."""
    return Console(highlight=False)


def show(rows: Mapping[str, Any], title: str, *, as_json: bool) -> None:
    """Print named values, as a table of two columns or as JSON."""
    if as_json:
        return show_json(rows)
    console = make_console()
    table = Table(title=title, show_header=False, min_width=min(len(title), console.width))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), readable(value))
    console.print(table)
    return None


def show_json(content: Any) -> None:
    """Print JSON on standard output."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=_plain))


def readable(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "\n".join(_named(name, part) for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(part, Mapping) for part in value):
            return "\n".join(readable(part).replace("\n", "; ") for part in value)
        return ", ".join(map(readable, value))
    return "-" if value is None else str(value)


def _named(name: str, value: Any) -> str:
    """A part of a mapping; what it holds itself is set off to the right."""
    if isinstance(value, Mapping) and value:
        return f"{name}:\n{indent(readable(value), '  ')}"
    return f"{name}: {readable(value)}"


def _plain(value: Any) -> Any:
    """Arrays as lists, everything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
