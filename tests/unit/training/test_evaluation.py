import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure
from rich.console import Console

from ase_pet import PETCalculator
from ase_pet.engine import Engine
from ase_pet.errors import GeometryError
from ase_pet.formats import Model
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import PET, PETHypers
from ase_pet.potentials.total import Total
from ase_pet.training import evaluate
from ase_pet.training.evaluation import Parity, plot_parity
from ase_pet.training.report import Report
from tests.tiny import tiny_modern_pet


@pytest.fixture
def model():
    torch.manual_seed(0)
    pet = PET(PETHypers(cutoff=3.5, d_model=8, n_heads=2, n_attention_layers=1), [13, 29])
    total = Total(pet.double(), Composition({13: -1.0, 29: 2.0}))
    return Model(total, "float64", {"rotations": "atom"})


@pytest.fixture
def report():
    return Report(Console(quiet=True))


def relabelled(frames, model, shift=0.0):
    """The frames with the bare model's own answers, forces shifted."""
    result = []
    for atoms in frames:
        out = Engine(model.potential, device="cpu", symmetry=None)(system_from_atoms([atoms]))
        new = atoms.copy()
        values = {"energy": float(out.energy[0]), "forces": out.forces.numpy() + shift}
        if atoms.cell.rank == 3:
            values["stress"] = out.virial[0].numpy() / atoms.get_volume()
            values["stress"] = values["stress"].flatten()[[0, 4, 8, 5, 2, 1]]
        new.calc = SinglePointCalculator(new, **values)
        result.append(new)
    return result


def test_model_has_no_error_on_its_own_labels(frames, model, report):
    errors = evaluate(model, relabelled(frames, model), symmetry=None, report=report)
    assert set(errors) == {"bare"}
    assert set(errors["bare"]) == {"all", "g0", "g1", "g2"}
    for summary in errors["bare"].values():
        assert max(summary.values()) < 1e-12
    assert "stress_mae" not in errors["bare"]["g0"]


def test_known_error_is_measured(frames, model, report):
    labelled = relabelled(frames, model, shift=0.25)
    errors = evaluate(model, labelled, symmetry=None, report=report)["bare"]
    for group in errors.values():
        assert group["forces_mae"] == pytest.approx(0.25)
        assert group["forces_rmse"] == pytest.approx(0.25)


def test_symmetrised_errors_do_not_depend_on_orientation(frames, model, report, tmp_path):
    frames = [atoms.copy() for atoms in relabelled(frames, model)[:3]]
    labels = relabelled(frames, model)
    turned = []
    for atoms in labels:
        new = atoms.copy()
        new.rotate(70, (1, 2, 3), rotate_cell=True)
        rotation = np.linalg.lstsq(atoms.positions[:], new.positions, rcond=None)[0]
        forces = atoms.get_forces() @ rotation
        new.calc = SinglePointCalculator(new, energy=atoms.get_potential_energy(), forces=forces)
        turned.append(new)
    first = evaluate(model, labels, tmp_path / "out", report=report)
    second = evaluate(model, turned, report=report)
    assert set(first) == {"bare", "O(3)"}
    for name in ("energy_mae", "energy_rmse"):
        assert first["O(3)"]["all"][name] == pytest.approx(second["O(3)"]["all"][name], rel=1e-9)
    assert second["bare"]["all"]["energy_mae"] > 1e-6
    stored = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert stored["O(3)"]["all"] == pytest.approx(first["O(3)"]["all"])
    assert (tmp_path / "out" / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_a_frame_at_fault_is_named(frames, model, report, tmp_path):
    labels = relabelled(frames, model)
    labels[20].calc.results["stress"] = np.full(6, np.nan)
    with pytest.raises(ValueError, match=r"^frame 20: stress not finite"):
        evaluate(model, labels, tmp_path / "out", symmetry=None, report=report)
    labels = relabelled(frames, model)
    values = {"energy": 0.0, "forces": np.zeros((len(labels[20]), 3))}
    labels[20].positions[1] = labels[20].positions[0]
    labels[20].calc = SinglePointCalculator(labels[20], **values)
    with pytest.raises(GeometryError, match=r"^frame 20: positions: atoms 0 and 1"):
        evaluate(model, labels, symmetry=None, report=report)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rotations", "ensemble"), [(None, "local"), ("structure", "shared")])
def test_unknown_rotations_count_as_those_of_atoms(frames, model, report, rotations, ensemble):
    model = dataclasses.replace(model, metadata={"rotations": rotations})
    molecules = [atoms.copy() for atoms in frames[:2]]
    for atoms in molecules:
        atoms.pbc = False
    labels = relabelled(molecules, model)
    chosen = evaluate(model, labels, report=report)["O(3)"]["all"]
    forced = evaluate(model, labels, ensemble=ensemble, report=report)["O(3)"]["all"]
    assert chosen == forced


def test_file_and_where(data_path, model, report):
    errors = evaluate(model, data_path, symmetry=None, where={"group": "g1"}, report=report)
    assert set(errors["bare"]) == {"all", "g1"}
    with pytest.raises(ValueError, match="none of 30 frames"):
        evaluate(model, data_path, symmetry=None, where={"group": "x"}, report=report)


@pytest.mark.parametrize("conditioning", [True, False])
def test_structures_are_evaluated_with_their_charges(conditioning, report):
    model = Model(Total(tiny_modern_pet(conditioning=conditioning)), "float64")
    calculator = PETCalculator(model, symmetry=None)
    ion = molecule("CH3")
    charged = ion.copy()
    charged.info |= {"charge": 1, "spin": 2} if conditioning else {}
    energy, neutral = (found["energy"] for found in calculator.compute([charged, ion]))
    assert (energy != neutral) == conditioning
    ion.info |= {"charge": 1, "spin": 2}
    forces = calculator.compute([charged])[0]["forces"]
    ion.calc = SinglePointCalculator(ion, energy=energy, forces=forces)
    errors = evaluate(model, [ion], symmetry=None, report=report)
    assert errors["bare"]["all"]["energy_mae"] < 1e-12


def test_titles_of_the_parity_plot_are_within_it(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: drawn.append(f) or save(f, *a, **k))
    values = {name: np.linspace(0.0085, 0.0225, 5) for name in ("energy", "forces", "stress")}
    shifted = {name: value + 0.0012345 for name, value in values.items()}
    plot_parity({"symmetrized": Parity(values, shifted)}, tmp_path / "parity.png")
    (figure,) = drawn
    for axes in figure.axes:
        box = axes.title.get_window_extent()
        assert 0.0 <= box.x0 < box.x1 <= figure.bbox.x1
        labels = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(labels))
