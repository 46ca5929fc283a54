from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_pet import engine as engine_module
from ase_pet.data import Results, System
from ase_pet.ecse import SmoothSettings
from ase_pet.ecse import choice as choice_module
from ase_pet.engine import Engine, resolve_device, resolve_dtype
from ase_pet.errors import GeometryError, NeighborError, UnknownSpeciesError
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl import ZBL
from ase_pet.testing.structures import structures
from tests.tiny import SPECIES, TENSORS, tiny_modern_pet, tiny_pet, tiny_tensornet

STRUCTURES = structures(SPECIES)
COMPOSITION = Composition({1: -13.5, 6: -1030.25, 8: -2041.125})


def total(n_layers: int = 1, **hypers) -> Total:
    return Total(tiny_pet(n_layers, **hypers), COMPOSITION, ZBL(0.5, 1.2))


def ask(engine: Engine, *structures: Atoms) -> Results:
    return engine(system_from_atoms(structures))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"symmetry": "O(2)"},
            r"symmetry: expected one of .* or None \(bare model\), got 'O\(2\)'",
        ),
        ({"ensemble": "own"}, "ensemble: expected one of .*auto.*, got 'own'"),
        ({"skin": -0.1}, "skin: expected a finite length in Å, at least 0, got -0.1"),
        ({"skin": float("nan")}, "skin: expected a finite length"),
        ({"dtype": "float16"}, "dtype: expected 'float32' or 'float64', got 'float16'"),
        ({"device": "gpu"}, "device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        ({"device": "meta"}, "device: expected .* got 'meta'"),
        ({"weights": "soft"}, "weights: expected .* got 'soft'"),
        ({"memory_budget": -1}, "memory_budget: expected a positive number"),
        ({"forces": "both"}, r"forces: expected one of \('conservative', 'direct'\), got 'both'"),
        ({"forces": "direct"}, "forces: this model has no heads for direct forces"),
    ],
)
def test_bad_options_are_named(option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Engine(total(), **option)


def test_a_device_that_is_not_there_is_said_to_be_missing() -> None:
    n = torch.cuda.device_count()
    with pytest.raises(ValueError, match=f"'cuda:{n}' asked for, but {n} CUDA device"):
        resolve_device(f"cuda:{n}")
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_dtype("float32") is torch.float32


def test_total_energy_by_its_terms() -> None:
    atoms = STRUCTURES["molecule"]
    bare = Engine(total(), symmetry=None)
    energies = ask(bare, atoms).energies
    potential = total()
    expected = sum(term(bare.graph(system_from_atoms([atoms]))) for term in potential.terms)
    torch.testing.assert_close(energies, expected, rtol=1e-14, atol=0)


def test_the_potential_given_is_left_alone() -> None:
    potential = total()
    potential.train()
    for parameter in potential.parameters():
        parameter.requires_grad_(True)
    engine = Engine(potential, dtype="float32")
    ask(engine, STRUCTURES["molecule"])
    assert potential.training
    for parameter in potential.parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
        assert parameter.dtype == torch.float64
    assert engine.bare.backbone.dtype == torch.float32
    assert not engine.bare.training


@pytest.mark.parametrize(
    ("n_layers", "invariant", "small_molecule", "big_molecule", "cell"),
    [
        (1, True, ("local", "smooth"), ("local", "smooth"), ("local", "smooth")),
        (1, False, ("shared", "smooth"), ("local", "smooth"), ("local", "smooth")),
        (2, True, ("shared", "smooth"), ("shared", "lean"), ("shared", "lean")),
    ],
)
def test_auto_chooses_by_size_and_depth(
    n_layers: int,
    invariant: bool,
    small_molecule: tuple[str, str],
    big_molecule: tuple[str, str],
    cell: tuple[str, str],
) -> None:
    engine = Engine(total(n_layers), invariant_atoms=invariant)
    assert engine.way(32, periodic=False) == small_molecule
    assert engine.way(33, periodic=False) == big_molecule
    assert engine.way(2, periodic=True) == cell
    assert engine.ensemble(2, periodic=True) == cell[0]
    assert Engine(total(n_layers), symmetry=None).ensemble(10, periodic=False) is None
    whole = Engine(total(n_layers), ensemble="global")
    assert whole.way(10**6, periodic=True) == ("global", "lean")
    paper = Engine(total(n_layers), invariant_atoms=invariant, weights="paper")
    assert paper.ensemble(2, periodic=False) == (
        "local" if small_molecule[0] == "local" else "global"
    )


def test_a_batch_is_sorted_whatever_its_parts_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_module, "SMOOTH_MOLECULE", 3)
    monkeypatch.setattr(engine_module, "_BATCH_ATOMS", 7)
    names = ["molecule", "dimer", "one_atom_cell", "cluster", "atom", "line", "triclinic", "bent"]
    engine = Engine(total(2, cutoff=2.2), neighbors="brute_force")
    every = [STRUCTURES[name] for name in names]
    ways = {engine.way(len(atoms), periodic=bool(atoms.pbc.any())) for atoms in every}
    assert ways == {("shared", "smooth"), ("shared", "lean")}
    batch = ask(engine, *(STRUCTURES[name] for name in names))
    start = 0
    for k, name in enumerate(names):
        single = ask(engine, STRUCTURES[name])
        part = slice(start, start := start + len(STRUCTURES[name]))
        torch.testing.assert_close(batch.energy[k], single.energy[0], rtol=1e-13, atol=0)
        torch.testing.assert_close(batch.virial[k], single.virial[0], rtol=1e-10, atol=1e-11)
        for field in ("energies", "forces", "virials"):
            ours, theirs = getattr(batch, field)[part], getattr(single, field)
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


def test_results_do_not_depend_on_the_skin() -> None:
    rng = np.random.default_rng(0)
    atoms = STRUCTURES["bulk"].copy()
    skinned = Engine(total(), symmetry=None, skin=0.6)
    plain = Engine(total(), symmetry=None, skin=0.0)
    for step in range(12):
        atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
        if step == 5:
            atoms.wrap()
        if step == 8:
            atoms.set_cell(atoms.cell.array * 1.03, scale_atoms=True)
        one, other = ask(skinned, atoms), ask(plain, atoms)
        torch.testing.assert_close(one.energy, other.energy, rtol=1e-14, atol=0)
        torch.testing.assert_close(one.forces, other.forces, rtol=1e-11, atol=1e-12)
    assert 1 < skinned.skinned.n_builds < 12


def test_a_network_in_single_precision_is_nearly_as_exact() -> None:
    names = ["cluster", "triclinic", "line"]
    double = ask(Engine(total()), *(STRUCTURES[name] for name in names))
    single = ask(Engine(total(), dtype="float32"), *(STRUCTURES[name] for name in names))
    assert single.energies.dtype == torch.float64
    torch.testing.assert_close(single.energy, double.energy, rtol=0, atol=1e-5)
    torch.testing.assert_close(single.forces, double.forces, rtol=0, atol=1e-4)


def test_settings_reach_the_ensemble() -> None:
    atoms = STRUCTURES["cluster"]
    base = ask(Engine(total()), atoms).energy
    wide = ask(Engine(total(), weights=SmoothSettings(window=0.9)), atoms).energy
    paper = ask(Engine(total(), weights="paper"), atoms).energy
    assert len({round(float(e), 7) for e in (base, wide, paper)}) == 3


@pytest.mark.parametrize("n_layers", [1, 2])
def test_no_atoms_have_no_energy(n_layers: int) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    empty = System(
        torch.zeros(0, 3, dtype=torch.float64),
        none,
        torch.zeros(1, 3, 3, dtype=torch.float64),
        torch.zeros(1, 3, dtype=torch.bool),
        none,
    )
    results = Engine(total(n_layers))(empty)
    assert results.energy.tolist() == [0.0]
    assert results.forces.shape == (0, 3)
    both = Engine(total(n_layers))(System.cat([empty, system_from_atoms([STRUCTURES["dimer"]])]))
    assert both.energy[0] == 0.0
    assert both.energy[1] < -1000


def test_coincident_atoms_are_named() -> None:
    twice = Atoms("COO", [[0, 0, 0], [1.2, 0, 0], [1.2, 0, 0]])
    with pytest.raises(GeometryError, match=r"atoms 1 and 2 \(O, O\) are 0.0e\+00 Å apart"):
        ask(Engine(total()), twice)
    across = Atoms("CO", [[0, 0, 0], [3.0, 1e-4, 0]], cell=[3, 3, 3], pbc=True)
    with pytest.raises(GeometryError, match=r"atoms 0 and 1 .*periodic image \[-1, 0, 0\]"):
        ask(Engine(total()), across)
    itself = Atoms("C", cell=[5e-4, 30, 30], pbc=True)
    with pytest.raises(GeometryError, match="atoms 0 and 0"):
        ask(Engine(total()), itself)


def test_unknown_elements_are_named() -> None:
    with pytest.raises(UnknownSpeciesError, match="does not know N, Xe"):
        ask(Engine(total()), Atoms("NXeC", [[0, 0, 0], [2, 0, 0], [4, 0, 0]]))


def test_tensors_that_are_not_finite_are_never_passed_on() -> None:
    """Energy and forces are right; the dipole is not."""
    broken = Total(tiny_tensornet(1, dipole=True))
    assert ask(Engine(broken), STRUCTURES["molecule"]).tensors["dipole"].isfinite().all()
    broken.backbone.tensor_heads["dipole"].factors[2].bias.fill_(torch.nan)
    with pytest.raises(GeometryError, match="results of structure 0 are not finite"):
        ask(Engine(broken), STRUCTURES["molecule"], STRUCTURES["atom"])


def test_tensors_of_several_batches_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Total(tiny_tensornet(1, **TENSORS)))
    chosen = [STRUCTURES[name] for name in ("molecule", "line", "bent", "molecule")]
    whole = ask(engine, *chosen).tensors
    monkeypatch.setattr(engine_module, "_BATCH_ATOMS", 4)
    parts = ask(engine, *chosen).tensors
    for name in TENSORS:
        assert float(whole[name][0].abs().max()) > 1e-3
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("symmetry", [None, "O(3)"])
def test_numbers_that_are_not_finite_are_never_passed_on(symmetry: str | None) -> None:
    broken = total()
    with torch.no_grad():
        broken.backbone.embedding.weight.fill_(1e308)
    with pytest.raises(GeometryError, match="results are not finite"):
        ask(Engine(broken, symmetry=symmetry), STRUCTURES["molecule"])


@pytest.mark.parametrize("head", ["forces", "stress"])
def test_direct_predictions_that_are_not_finite_are_not_passed_on(head: str) -> None:
    ones = (1.0, 1.0, 1.0)
    broken = tiny_modern_pet(1, forces_scales=ones, stress_scales=ones)
    broken.direct[head][0].nodes[4].bias.fill_(torch.nan)
    engine = Engine(Total(broken), forces="direct")
    with pytest.raises(GeometryError, match="results of structure 0 are not finite"):
        ask(engine, STRUCTURES["molecule"], STRUCTURES["bent"])


def test_direct_results_of_several_batches_come_back_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(Total(tiny_modern_pet(1, forces_scales=(1.0, 2.0, 3.0))), forces="direct")
    chosen = [STRUCTURES[name] for name in ("molecule", "line", "bent")]
    whole = ask(engine, *chosen)
    monkeypatch.setattr(engine_module, "_BATCH_ATOMS", 4)
    parts = ask(engine, *chosen)
    torch.testing.assert_close(parts.forces, whole.forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(parts.energy, whole.energy, rtol=0, atol=1e-12)
    assert bool(parts.virial.isnan().all())


def test_costs_are_those_of_the_ensembles() -> None:
    system = system_from_atoms([STRUCTURES["molecule"]])
    found = Engine(total(2)).costs(system)
    assert list(found) == [None, "shared", "global", "local"]
    assert (found[None].n_copies, found[None].n_atoms) == (1, 5)
    assert found["global"].n_atoms == 5 * found["global"].n_copies
    assert found["local"].n_copies > found["global"].n_copies > 1
    assert found["local"].n_copies > found["shared"].n_copies > 1
    assert list(Engine(total(1)).costs(system)) == [None, "local", "shared", "global"]
    assert list(Engine(total(1), weights="paper").costs(system)) == [None, "local", "global"]
    assert list(Engine(Total(tiny_tensornet())).costs(system)) == [None]


def test_running_out_of_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    def too_large(*_: object) -> None:
        torch.empty(2**60)

    for failure in (full, too_large):
        monkeypatch.setattr(engine_module, "evaluate", failure)
        with pytest.raises(NeighborError, match=r"memory for 5 atoms.*lower memory_budget"):
            ask(Engine(total()), STRUCTURES["molecule"])


def test_other_failures_are_not_taken_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("another matter")

    monkeypatch.setattr(engine_module, "evaluate", broken)
    with pytest.raises(RuntimeError, match="another matter"):
        ask(Engine(total()), STRUCTURES["molecule"])


@pytest.mark.parametrize("symmetry", [None, "O(3)"])
def test_inference_mode_of_a_caller_takes_no_forces_away(symmetry: str | None) -> None:
    engine = Engine(total(), symmetry=symmetry)
    expected = ask(engine, STRUCTURES["molecule"])
    with torch.inference_mode():
        found = ask(engine, STRUCTURES["molecule"])
    assert torch.equal(found.forces, expected.forces)
    assert float(found.forces.abs().max()) > 1e-3


def test_errors_name_the_structure_of_a_batch() -> None:
    twice = Atoms("CO", [[0, 0, 0], [0, 0, 1e-5]])
    whole = [STRUCTURES["molecule"], STRUCTURES["bulk"], twice, STRUCTURES["molecule"]]
    with pytest.raises(GeometryError, match=r"positions: structure 2, atoms 0 and 1 "):
        Engine(total(2))(system_from_atoms(whole))


@pytest.mark.parametrize("ensemble", ["auto", "local", "global"])
def test_a_backbone_with_a_symmetry_of_its_own_is_never_copied(ensemble: str) -> None:
    potential = Total(tiny_tensornet(2), COMPOSITION, ZBL(0.5, 1.2))
    atoms = STRUCTURES["bulk"]
    bare = ask(Engine(potential, symmetry=None, device="cpu"), atoms)
    for symmetry in ("O(3)", "SO(3)"):
        engine = Engine(potential, symmetry=symmetry, ensemble=ensemble, device="cpu")
        assert engine.ensemble(4, periodic=True) is None
        exact = ask(engine, atoms)
        assert torch.equal(exact.energies, bare.energies)
        assert torch.equal(exact.forces, bare.forces)


def test_reflections_are_added_to_rotations_by_one_more_evaluation() -> None:
    potential = Total(tiny_tensornet(2, group="SO(3)"), COMPOSITION)
    atoms, mirrored = STRUCTURES["molecule"], STRUCTURES["molecule"].copy()
    mirrored.positions *= -1.0
    energies = {
        symmetry: [
            float(ask(Engine(potential, symmetry=symmetry, device="cpu"), a).energy)
            for a in (atoms, mirrored)
        ]
        for symmetry in ("O(3)", "SO(3)", None)
    }
    assert energies["SO(3)"] == energies[None]
    left, right = energies["SO(3)"]
    assert abs(left - right) > 1e-4
    assert energies["O(3)"] == pytest.approx([0.5 * (left + right)] * 2, rel=1e-14)


def test_a_charge_is_used_or_refused() -> None:
    takes = Total(tiny_tensornet(2, charge=True))
    neutral, charged = (ask(Engine(takes, charge=q), STRUCTURES["bent"]) for q in (0.0, 1.0))
    assert abs(float(neutral.energy - charged.energy)) > 1e-6
    for potential in (total(), Total(tiny_tensornet())):
        Engine(potential, charge=0.0)
        with pytest.raises(ValueError, match=r"charge: .*trained without.*got charge=1"):
            Engine(potential, charge=1.0)
    with pytest.raises(ValueError, match="charge: expected a finite number, got nan"):
        Engine(takes, charge=float("nan"))


def test_charge_and_spin_of_each_structure_go_before_the_options() -> None:
    takes = Total(tiny_modern_pet(conditioning=True, max_charge=2, max_spin=3))
    system = system_from_atoms([STRUCTURES["bent"], STRUCTURES["atom"]])
    states = {
        "charge": torch.tensor([1.0, -2.0]).double(),
        "spin": torch.tensor([2.0, 3.0]).double(),
    }
    for symmetry in (None, "O(3)"):
        found = Engine(takes, symmetry=symmetry)(replace(system, **states)).energy
        for k, name in enumerate(("bent", "atom")):
            options = {key: float(value[k]) for key, value in states.items()}
            engine = Engine(takes, symmetry=symmetry, **options)
            alone = ask(engine, STRUCTURES[name]).energy
            assert float(found[k]) == pytest.approx(float(alone), rel=1e-12)
            plain = ask(Engine(takes, symmetry=symmetry), STRUCTURES[name]).energy
            assert abs(float(alone - plain)) > 1e-6


def test_a_spin_is_used_or_refused() -> None:
    with pytest.raises(ValueError, match=r"spin: .*trained without.*got spin=2"):
        Engine(total(), spin=2.0)
    for spin in (0.0, float("nan")):
        with pytest.raises(ValueError, match="spin: expected a multiplicity"):
            Engine(total(), spin=spin)
    takes = Total(tiny_modern_pet(conditioning=True, max_charge=2, max_spin=3))
    for options in ({"charge": 3.0}, {"charge": 0.5}, {"spin": 4.0}):
        with pytest.raises(ValueError, match="whole numbers from"):
            ask(Engine(takes, **options), STRUCTURES["bent"])


def test_options_are_checked_where_no_copies_need_them() -> None:
    with pytest.raises(ValueError, match="weights: expected one of 'auto', 'smooth'"):
        Engine(Total(tiny_tensornet()), weights="soft")
