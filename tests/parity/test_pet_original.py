"""The importer and our PET against frozen float64 numbers of the original code of 2023."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.io import read
from ase.neighborlist import neighbor_list

from ase_pet import derivatives
from ase_pet.data import Edges, Graph, Results, System
from ase_pet.errors import CheckpointError
from ase_pet.formats import load
from tests.parity.padded_pet import energies as padded_energies

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "pet_original"
TRAINED = ("methane_gnn1", "methane_gnn2", "gan_gnn1")
REFUSED = {
    "long_range": "USE_LONG_RANGE",
    "scalar_attr": "USE_ADDITIONAL_SCALAR_ATTRIBUTES",
    "scalar_attr_2": "USE_ADDITIONAL_SCALAR_ATTRIBUTES",
    "scalar_attr_linear_ract": "USE_ADDITIONAL_SCALAR_ATTRIBUTES",
}
SUPPORTED = (
    *("base", "preln", "no_tokens", "no_bonds", "avg_bonds", "r_act", "mish", "no_length"),
    *("only_length", "cutdelta1", "gnn1", "gnn3", "multi_target3"),
)

pytestmark = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"reference numbers are not here: {REFERENCE}"
)


def graph_of(atoms: Atoms, cutoff: float) -> Graph:
    """A graph by ASE's neighbour list, independent of our searches."""
    i, j, shifts = neighbor_list("ijS", atoms, cutoff)
    place = {(a, b, *s): e for e, (a, b, s) in enumerate(zip(i, j, shifts.tolist(), strict=True))}
    reverse = [
        place[(b, a, -s[0], -s[1], -s[2])] for a, b, s in zip(i, j, shifts.tolist(), strict=True)
    ]
    system = System(
        torch.tensor(atoms.positions),
        torch.tensor(atoms.numbers),
        torch.tensor(atoms.cell.array)[None],
        torch.tensor(atoms.pbc)[None],
        torch.zeros(len(atoms), dtype=torch.int64),
    )
    integers = [torch.tensor(np.asarray(v), dtype=torch.int64) for v in (i, j, shifts, reverse)]
    return Graph.build(system, Edges(*integers))


def evaluate(potential: torch.nn.Module, graph: Graph) -> Results:
    return derivatives.results(derivatives.evaluate(potential, graph), graph)


def structures(name: str) -> list[tuple[Atoms, float, float, np.ndarray, np.ndarray | None]]:
    """Atoms, energy of the network, self contributions, forces, stress of a reference file."""
    data = np.load(REFERENCE / f"{name}_reference.npz", allow_pickle=False)
    ends = np.cumsum(data["natoms"])
    found = []
    for k, (start, end) in enumerate(zip(ends - data["natoms"], ends, strict=True)):
        part = slice(start, end)
        atoms = Atoms(data["numbers"][part], data["positions"][part])
        atoms.cell, atoms.pbc = data["cells"][k], data["pbc"][k]
        stress = data["stress_plain"][k] if len(data["stress_plain"]) else None
        found.append((atoms, data["e_plain"][k], data["e_self"][k], data["f_plain"][part], stress))
    return found


def relative(ours: list, theirs: list) -> float:
    """Norm of the difference over the norm of the reference."""
    a = np.concatenate([np.ravel(x) for x in ours])
    b = np.concatenate([np.ravel(x) for x in theirs])
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("name", TRAINED)
def test_bare_energies_and_forces_agree_with_the_original(name: str) -> None:
    model = load(REFERENCE / name)
    model.potential.double()
    ours, theirs = [], []
    for atoms, energy, self_energy, forces, _ in structures(name):
        results = evaluate(model.potential, graph_of(atoms, model.cutoff))
        total = energy + self_energy
        assert float(results.energy) == pytest.approx(total, rel=1e-8, abs=0)
        ours.append((float(results.energy) - self_energy, results.forces.numpy()))
        theirs.append((energy, forces))
    assert relative([e for e, _ in ours], [e for e, _ in theirs]) < 1e-8
    assert relative([f for _, f in ours], [f for _, f in theirs]) < 1e-8


def test_bare_stress_agrees_with_the_original() -> None:
    model = load(REFERENCE / "gan_gnn1")
    model.potential.double()
    for atoms, _, _, _, stress in structures("gan_gnn1"):
        virial = evaluate(model.potential, graph_of(atoms, model.cutoff)).virial[0]
        # The stress of a bare PET has an antisymmetric part; ours is the symmetric one.
        expected = (stress + stress.T) / 2
        assert relative([virial.numpy() / atoms.get_volume()], [expected]) < 1e-10


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_left_is_the_padding_of_the_original(name: str) -> None:
    """Structure by structure, with the original's padded softmax and without it."""
    model = load(REFERENCE / name)
    model.potential.double()
    folder = REFERENCE / name
    weights = torch.load(folder / "best_val_rmse_both_model_state_dict", weights_only=True)
    hypers = yaml.safe_load((folder / "hypers_used.yaml").read_text())["ARCHITECTURAL_HYPERS"]
    species = list(model.species)
    for atoms, energy, _, forces, _ in structures(name):
        graph = graph_of(atoms, model.cutoff)
        if graph.n_edges == 0:
            continue

        def padded(graph: Graph, pad_softmax: bool = True) -> torch.Tensor:
            return padded_energies(weights, hypers, species, graph, pad_softmax=pad_softmax)

        theirs = evaluate(padded, graph)
        assert float(theirs.energy) == pytest.approx(energy, rel=1e-11, abs=1e-11)
        np.testing.assert_allclose(theirs.forces.numpy(), forces, rtol=0, atol=1e-9)
        without = float(padded(graph, pad_softmax=False).sum())
        ours = float(evaluate(model.potential.backbone, graph).energy)
        assert ours == pytest.approx(without, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("variant", SUPPORTED)
def test_every_supported_option_agrees_with_the_original(variant: str) -> None:
    reference = json.loads((REFERENCE / "variants" / "variants_reference.json").read_text())
    near, far = read(REFERENCE / "variants" / "methane3.extxyz", ":")
    for key, expected in reference[variant]["results"].items():
        target = int(key[-1]) if variant == "multi_target3" else None
        model = load(REFERENCE / "variants" / variant, target=target)
        model.potential.double()
        graph = graph_of(far if "far" in key else near, model.cutoff)
        results = evaluate(model.potential.backbone, graph)
        assert relative([results.forces.numpy()], [expected["forces"]]) < 1e-10
        if variant == "avg_bonds" and "far" in key:
            # The average over the bonds of an atom without any is 0/0 there, and nothing here.
            assert np.isnan(expected["energy"])
            assert np.isfinite(float(results.energy))
        else:
            assert float(results.energy) == pytest.approx(expected["energy"], rel=1e-10, abs=0)


@pytest.mark.parametrize("variant", sorted(REFUSED))
def test_unsupported_options_are_refused_by_name(variant: str) -> None:
    with pytest.raises(CheckpointError, match=REFUSED[variant] + ".*not supported"):
        load(REFERENCE / "variants" / variant)


def test_several_targets_ask_for_a_choice() -> None:
    with pytest.raises(CheckpointError, match=r"N_TARGETS.*target=0.*target=2"):
        load(REFERENCE / "variants" / "multi_target3")
    with pytest.raises(CheckpointError, match="target: expected 0 to 2"):
        load(REFERENCE / "variants" / "multi_target3", target=3)


@pytest.mark.parametrize("name", ["methane_aux1", "methane_aux2", "methane_gnn1_localaug"])
def test_folders_without_numbers_load(name: str) -> None:
    model = load(REFERENCE / name)
    assert model.species == (1, 6)
    assert model.metadata["rotations"] == ("atom" if "local" in name else "structure")


def test_all_reference_folders_are_covered() -> None:
    folders = {p.name for p in (REFERENCE / "variants").iterdir() if p.is_dir()}
    assert folders == set(SUPPORTED) | set(REFUSED)
