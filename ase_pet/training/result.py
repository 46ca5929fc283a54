"""What a run leaves behind: the model of its best epoch, and where it comes from."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ase
import torch

from ase_pet.engine import Engine
from ase_pet.formats.files import sha256_of
from ase_pet.formats.model import Model
from ase_pet.formats.self_test import make_self_test
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.training.config import SourceConfig, TrainConfig
from ase_pet.training.evaluation import evaluate

if TYPE_CHECKING:
    from ase_pet.training.loop import Trainer

#: How a trained model is symmetrised when it is measured; ``auto`` as for who uses it.
ECSE: dict[str, Any] = {"symmetry": "O(3)", "ensemble": "auto", "weights": "auto"}


def describe(run: Trainer) -> Iterator[str]:
    """Say what is going to be trained on what."""
    split, config = run.split, run.config
    n_parameters = sum(p.numel() for p in run.potential.parameters())
    atoms = sum(len(a) for a in split.train)
    yield (
        f"{config.name}: {n_parameters} parameters, {len(split.train)} training frames "
        f"({atoms} atoms), {len(split.validation)} for validation, {len(split.test)} held out "
        f"for test, {split.n_dropped} dropped"
    )
    if run.step:
        yield f"continuing at epoch {run.epoch}, step {run.step}, after {run.elapsed:.0f} s"


def make_model(run: Trainer) -> Model:
    """The averaged weights of the best epoch, with metadata."""
    potential = run.potential.to("cpu")
    with torch.no_grad():
        for parameter, value in zip(potential.parameters(), run.best["weights"], strict=True):
            parameter.copy_(value)
    frames = [*run.split.validation, *run.split.train]
    smallest = min((atoms for atoms in frames if len(atoms) > 1), key=len, default=frames[0])
    architecture = run.config.architecture
    model = Model(potential, run.config.dtype, _metadata(run), architecture=architecture)
    model.metadata["accuracy"].update(_test(run, model))
    return replace(model, self_test=record_self_test(model, smallest))


def record_self_test(model: Model, atoms: ase.Atoms) -> dict[str, Any]:
    """Evaluate a structure in float64, bare and symmetrised, for ``ase-pet check`` to replay.

    Args:
        model: The model.
        atoms: A small structure.
    """
    system = system_from_atoms([atoms])
    bare = Engine(model.potential, device="cpu", symmetry=None)
    symmetrized = Engine(
        model.potential, device="cpu", invariant_atoms=model.invariant_atoms, **ECSE
    )
    way = symmetrized.way(len(atoms), periodic=bool(atoms.pbc.any()))
    return make_self_test(
        system,
        bare(system),
        symmetrized(system),
        symmetry=ECSE["symmetry"],
        # Without copies any ensemble replays the same evaluation.
        ensemble=way.ensemble if way else "local",
        weights=str(way.weights) if way else "smooth",
    )


def _test(run: Trainer, model: Model) -> dict[str, dict[str, dict[str, float]]]:
    """Errors on the frames that were held out for it, bare and symmetrised, if there are any."""
    if not run.split.test:
        return {}
    device, report = str(run.device), run.report
    report.line("errors on the frames held out for test:")
    errors = evaluate(model, run.split.test, device=device, report=report, **ECSE)
    return {"test": {kind: groups["all"] for kind, groups in errors.items()}}


def _metadata(run: Trainer) -> dict[str, Any]:
    config, best = run.config, run.best
    errors = {k: float(v) for k, v in best.items() if k.endswith(("_mae", "_rmse"))}
    return {
        **config.provenance.model_dump(exclude={"source"}),
        "training_data": {
            "source": config.provenance.source,
            "files": _files(config),
            "n_train": len(run.split.train),
            "n_validation": len(run.split.validation),
            "n_test": len(run.split.test),
            "n_dropped": run.split.n_dropped,
        },
        "rotations": config.rotations,
        "reflections": config.reflections,
        "ecse": dict(ECSE),
        "accuracy": {"validation": errors},
        "source": f"ase_pet trainer, recipe {config.name}",
        "recipe": config.model_dump(mode="json", exclude={"data", "output"}),
        "seed": config.seed,
        "best_epoch": int(best["epoch"]),
        "epochs": run.epoch,
        "steps": run.step,
        "training_seconds": float(run.elapsed),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "ase": ase.__version__,
        },
    }


def _files(config: TrainConfig) -> dict[str, str]:
    sources = [config.data.train, config.data.validation, config.data.test]
    paths = {p for s in sources if isinstance(s, SourceConfig) for p in s.path}
    return {path.name: sha256_of(path) for path in sorted(paths)}
