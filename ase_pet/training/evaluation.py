"""Errors of a model on labelled structures: a table, a parity plot, and the numbers as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from torch import Tensor

from ase_pet.data import Results, System
from ase_pet.engine import Engine
from ase_pet.formats import Model, load
from ase_pet.formats.files import write_atomically
from ase_pet.interfaces.ase_structures import evaluate_together, has_volume, system_from_atoms
from ase_pet.interfaces.calculator_options import with_state
from ase_pet.potentials.base import takes_charge, takes_spin
from ase_pet.training.config import SourceConfig
from ase_pet.training.dataset import check_frame, name_of, read_frames, select, tensor_labels
from ase_pet.training.loss import ErrorSums
from ase_pet.training.report import Report
from ase_pet.units import COULOMB_EV_A, EV_IN_MEV, EV_PER_A3_IN_GPA

#: Structures that are evaluated together.
_CHUNK = 16


@dataclass(frozen=True, slots=True, eq=False)
class Parity:
    """References and predictions, flattened.

    Attributes:
        reference: Energy per atom (eV), components of forces (eV/Å), stress (eV/Å³), dipole (e·Å)
            and polarizability (e²Å²/eV), as far as there are any.
        predicted: The same, of the model.
    """

    reference: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]


def evaluate(
    model: str | Path | Model,
    data: str | Path | Sequence[ase.Atoms],
    out_dir: str | Path | None = None,
    *,
    symmetry: str | None = "O(3)",
    ensemble: str = "auto",
    weights: str = "auto",
    where: dict[str, Any] | None = None,
    device: str = "auto",
    dtype: str | None = None,
    report: Report | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure a model on labelled structures, bare and, unless ``symmetry`` is None, symmetrised.

    Args:
        model: A loaded model or the path of a checkpoint.
        data: Labelled structures, or an extended-XYZ file (plain or ``.xz``).
        out_dir: Folder for ``errors.json`` and ``parity.png``; nothing is written if None.
        symmetry: ``"O(3)"``, ``"SO(3)"`` or None.
        ensemble: ``"auto"``, ``"local"``, ``"shared"`` or ``"global"``.
        weights: ``"auto"``, ``"smooth"``, ``"lean"`` or ``"paper"``.
        where: Keep only frames whose ``info[key]`` equals the value.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        dtype: ``"float32"`` or ``"float64"``; that of the checkpoint if None.
        report: Where the tables go.

    Returns:
        For ``"bare"`` and the symmetry, for ``"all"`` and each group, mean absolute and
        root-mean-square errors: ``energy_mae`` (eV/atom), ``forces_rmse`` (eV/Å), ``stress_mae``
        (eV/Å³), ``dipole_mae`` (e·Å), ``polarizability_mae`` (e²Å²/eV) and so on.

    Raises:
        ValueError: If there are no labelled frames, or one is not sound; names it.
    """
    model = model if isinstance(model, Model) else load(model)
    frames = _frames(data, where or {})
    report = report or Report()
    errors: dict[str, dict[str, dict[str, float]]] = {}
    parities: dict[str, Parity] = {}
    takes = {"charge": (takes_charge, 0.0), "spin": (takes_spin, 1.0)}
    backbone = model.potential.backbone
    state = {name: default for name, (taken, default) in takes.items() if taken(backbone)}
    for kind in dict.fromkeys((None, symmetry)):
        engine = Engine(
            model.potential,
            device=device,
            dtype=dtype or model.dtype,
            symmetry=kind,
            ensemble=ensemble,
            weights=weights,
            invariant_atoms=model.invariant_atoms,
        )
        label = kind or "bare"
        errors[label], parities[label] = measure(engine, frames, state)
        report.table(f"{label}, {len(frames)} frames", errors[label])
    if out_dir is not None:
        out = Path(out_dir)
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(errors, indent=1, allow_nan=False).encode()
        write_atomically(out / "errors.json", lambda file: file.write(text))
        plot_parity(parities, out / "parity.png")
    return errors


def measure(
    engine: Callable[[System], Results],
    frames: Sequence[ase.Atoms],
    state: Mapping[str, float] | None = None,
) -> tuple[dict[str, dict[str, float]], Parity]:
    """Errors of an engine by group, and what a parity plot needs.

    Args:
        engine: Evaluates a batch of structures.
        frames: Labelled structures.
        state: What the engine wants to know of them beside their atoms, and its default: "charge",
            "spin".
    """
    sums = {"all": ErrorSums()}
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for atoms, quantities in _predictions(engine, frames, state or {}):
        group = str(atoms.info.get("group", "all"))
        for name, (reference, predicted) in quantities.items():
            for label in dict.fromkeys(("all", group)):
                sums.setdefault(label, ErrorSums()).add(name, predicted - reference)
            pairs.setdefault(name, []).append((_flat(reference), _flat(predicted)))
    parity = Parity(
        {name: np.concatenate([r for r, _ in both]) for name, both in pairs.items()},
        {name: np.concatenate([p for _, p in both]) for name, both in pairs.items()},
    )
    return {label: s.summary() for label, s in sums.items()}, parity


def _frames(data: str | Path | Sequence[ase.Atoms], where: dict[str, Any]) -> list[ase.Atoms]:
    if isinstance(data, str | Path):
        return read_frames(SourceConfig(path=[Path(data)], where=where))
    frames = select(data, where)
    if not frames:
        raise ValueError(f"data: no frames to evaluate (where={where})")
    for k, atoms in enumerate(frames):
        check_frame(atoms, name_of(atoms, k))
    return frames


def _predictions(
    engine: Callable[[System], Results], frames: Sequence[ase.Atoms], state: Mapping[str, float]
) -> Iterator[tuple[ase.Atoms, dict[str, tuple[Tensor, Tensor]]]]:
    """Each frame with (reference, predicted) of every quantity that it is labelled with."""
    for start in range(0, len(frames), _CHUNK):
        chunk = frames[start : start + _CHUNK]
        names = [name_of(atoms, start + k) for k, atoms in enumerate(chunk)]
        out = evaluate_together(
            lambda given: engine(with_state(system_from_atoms(given), given, state)),
            chunk,
            names.__getitem__,
        )
        forces = out.forces.cpu().split([len(atoms) for atoms in chunk])
        for k, atoms in enumerate(chunk):
            energy = torch.tensor(atoms.get_potential_energy() / len(atoms), dtype=torch.float64)
            quantities = {
                "energy": (energy, out.energy[k].cpu() / len(atoms)),
                "forces": (torch.tensor(atoms.get_forces(), dtype=torch.float64), forces[k]),
            }
            if "stress" in atoms.calc.results and has_volume(atoms):
                stress = torch.tensor(atoms.get_stress(voigt=False), dtype=torch.float64)
                quantities["stress"] = (stress, out.virial[k].cpu() / atoms.get_volume())
            for name, label in tensor_labels(atoms, out.tensors, names[k]).items():
                quantities[name] = (label, out.tensors[name][k].cpu())
            yield atoms, quantities


def _flat(values: Tensor) -> np.ndarray:
    return values.reshape(-1).numpy()


def plot_parity(parities: dict[str, Parity], path: Path) -> None:
    """Draw predictions over references, a row for each kind of evaluation, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    axes_of = {
        "energy": ("energy", "eV/atom", 1.0, EV_IN_MEV, "meV/atom"),
        "forces": ("force component", "eV/Å", 1.0, EV_IN_MEV, "meV/Å"),
        "stress": ("stress component", "GPa", EV_PER_A3_IN_GPA, 1.0, "GPa"),
        "dipole": ("dipole component", "e·Å", 1.0, 1000.0, "me·Å"),
        "polarizability": ("polarizability component", "Å³", COULOMB_EV_A, 1.0, "Å³"),
    }
    names = [n for n in axes_of if any(n in parity.reference for parity in parities.values())]
    figure = Figure(figsize=(4 * len(names), 4 * len(parities)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(parities), len(names), squeeze=False)
    for row, (label, parity) in zip(grid, parities.items(), strict=True):
        for axes, name in zip(row, names, strict=True):
            title, unit, scale, error_scale, error_unit = axes_of[name]
            x, y = parity.reference[name] * scale, parity.predicted[name] * scale
            axes.plot([x.min(), x.max()], [x.min(), x.max()], color="0.6", linewidth=1)
            axes.plot(x, y, ".", markersize=3)
            mae = np.abs(x - y).mean() * error_scale
            axes.set_title(f"{title}, {label}\nMAE {mae:.3g} {error_unit}", fontsize="medium")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.set(xlabel=f"reference, {unit}", ylabel=f"predicted, {unit}")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomically(path, lambda file: file.write(image.getvalue()))
