"""What networks with long-range electrostatics promise, bare on a mesh and symmetrised."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_pet import PETCalculator, derivatives
from ase_pet.ecse import Symmetrized
from ase_pet.engine import Engine
from ase_pet.errors import GeometryError
from ase_pet.formats import Model
from ase_pet.interfaces.ase_structures import system_from_atoms
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.pet import ModernPET
from ase_pet.potentials.total import Total
from ase_pet.testing import contracts, suite
from ase_pet.testing.evaluators import potential_evaluator
from ase_pet.testing.structures import structures
from tests.tiny import NEEDS_TORCH_PME, SPECIES, tiny_modern_pet

pytestmark = NEEDS_TORCH_PME

EVERY = structures(SPECIES)
WHOLE = {name: a for name, a in EVERY.items() if a.pbc.all() or not a.pbc.any()}
FEW = {name: EVERY[name] for name in ("triclinic", "one_atom_cell", "bent", "atom")}
CRYSTAL = EVERY["triclinic"]


def network(n_layers: int = 2, **options: Any) -> ModernPET:
    far = {"long_range": True, "smearing": 0.9, "mesh_spacing": 0.8, "cutoff": 2.2}
    return tiny_modern_pet(n_layers, **far, **options)


def calculator(**options: Any) -> PETCalculator:
    model = Model(Total(network()), "float64", architecture="pet-metatrain")
    return PETCalculator(model, device="cpu", **options)


@pytest.mark.parametrize("option", [{}, {"messages": "residual"}, {"conditioning": True}], ids=str)
def test_symmetrised_networks_are_exact(option: dict[str, Any]) -> None:
    potential = Symmetrized(network(**option), ensemble="global")
    ask, chosen = potential_evaluator(potential), FEW if option else WHOLE
    contracts.check_batch(ask, list(chosen.values()))
    for atoms in chosen.values():
        contracts.check_permutation(ask, atoms)
        contracts.check_translation(ask, atoms)
        contracts.check_net_force(ask, atoms)
        contracts.check_forces(ask, atoms)
        contracts.check_rotation(ask, atoms, reflections=True)
        suite.check_gradients(potential, atoms)
        suite.check_mutation(potential, atoms)
        if atoms.pbc.any():
            contracts.check_supercell(ask, atoms)
            contracts.check_handedness(ask, atoms)
            contracts.check_virial(ask, atoms)
        else:
            contracts.check_net_torque(ask, atoms)


@pytest.mark.parametrize("option", [{}, {"messages": "residual"}], ids=str)
def test_bare_networks_have_exact_derivatives(option: dict[str, Any]) -> None:
    potential = Total(network(**option), Composition(dict.fromkeys(SPECIES, -1.0)))
    ask = potential_evaluator(potential)
    contracts.check_batch(ask, list(WHOLE.values()))
    for atoms in WHOLE.values():
        contracts.check_permutation(ask, atoms)
        contracts.check_forces(ask, atoms)
        suite.check_gradients(potential, atoms)
        if atoms.pbc.any():
            contracts.check_virial(ask, atoms)
        else:
            contracts.check_translation(ask, atoms)


def test_energy_and_forces_are_continuous_through_the_cutoff() -> None:
    potential = Symmetrized(network(1), ensemble="global")
    found = suite._continuity(potential_evaluator(potential), SPECIES, 2.2, suite.FLOAT64)
    assert len(list(found)) > 1


def test_atoms_feel_each_other_beyond_all_hops() -> None:
    near, far = (Atoms("HO", [[0, 0, 0], [0, 0, d]]) for d in (20.0, 21.0))
    calc = calculator()
    energies = [found["energy"] for found in calc.compute([near, far])]
    assert abs(energies[1] - energies[0]) > 1e-6
    assert float(np.abs(calc.compute([near])[0]["forces"]).max()) > 1e-6


@pytest.mark.parametrize("symmetry", ["O(3)", "SO(3)", None])
def test_positions_may_be_given_in_any_cell(symmetry: str | None) -> None:
    moved = CRYSTAL.copy()
    moved.positions += np.array([[3, -2, 1], [0, 0, 0], [-7, 1, 4]]) @ CRYSTAL.cell.array
    ours, other = calculator(symmetry=symmetry).compute([CRYSTAL, moved])
    assert other["energy"] == pytest.approx(ours["energy"], abs=1e-11)
    for name in ("forces", "stress"):
        np.testing.assert_allclose(other[name], ours[name], rtol=0, atol=1e-11)


def test_a_bare_network_is_summed_on_the_mesh_and_copies_are_not() -> None:
    shifted = CRYSTAL.copy()
    shifted.positions += [0.1, 0.2, 0.3]
    for symmetry, least, most in ((None, 1e-9, 1e-3), ("O(3)", 0.0, 1e-11)):
        energies = [f["energy"] for f in calculator(symmetry=symmetry).compute([CRYSTAL, shifted])]
        assert least <= abs(energies[1] - energies[0]) <= most


@pytest.mark.parametrize("memory_budget", [1, "2GB"])
def test_chunks_of_copies_change_nothing(memory_budget: int | str) -> None:
    chosen = [CRYSTAL, EVERY["molecule"]]
    calculators = (calculator(), calculator(memory_budget=memory_budget))
    for ours, other in zip(*(c.compute(chosen) for c in calculators), strict=True):
        for name, value in ours.items():
            np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-12)


def test_results_do_not_depend_on_the_skin() -> None:
    rng = np.random.default_rng(0)
    skinned, plain = calculator(skin=0.6, symmetry=None), calculator(skin=0.0, symmetry=None)
    atoms = CRYSTAL.copy()
    for _ in range(4):
        atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
        a, b = (c.compute([atoms])[0] for c in (skinned, plain))
        np.testing.assert_allclose(a["forces"], b["forces"], rtol=0, atol=1e-13)


def test_stresses_of_atoms_add_up() -> None:
    found = calculator().compute([CRYSTAL])[0]
    np.testing.assert_allclose(found["stresses"].sum(0), found["stress"], rtol=0, atol=1e-14)


def test_single_precision_is_within_its_rounding() -> None:
    chosen = [CRYSTAL, EVERY["molecule"]]
    single, double = (calculator(dtype=d).compute(chosen) for d in ("float32", "float64"))
    for ours, other in zip(single, double, strict=True):
        assert ours["energy"] == pytest.approx(other["energy"], abs=1e-4)
        np.testing.assert_allclose(ours["forces"], other["forces"], rtol=0, atol=1e-3)
        assert ours["energy"] != other["energy"]


def test_charge_and_spin_reach_the_charges() -> None:
    model = Model(Total(network(conditioning=True)), "float64", architecture="pet-metatrain")
    calc = PETCalculator(model, device="cpu")
    ion = CRYSTAL.copy()
    ion.info |= {"charge": 1, "spin": 2}
    neutral, charged = calc.compute([CRYSTAL, ion])
    assert abs(neutral["energy"] - charged["energy"]) > 1e-4


def test_copies_of_a_calculator_are_the_same() -> None:
    ours = calculator()
    expected = ours.compute([CRYSTAL])[0]["energy"]
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert other.compute([CRYSTAL])[0]["energy"] == expected


def test_global_is_chosen_and_local_refused() -> None:
    calc = calculator()
    assert calc.ensemble == "global"
    assert Engine(Total(network(1))).ensemble(10_000, periodic=True) == "global"
    with pytest.raises(ValueError, match=r"'local' needs energies of finite reach.*take 'global'"):
        calculator(ensemble="local").compute([CRYSTAL])
    assert calculator(ensemble="local", symmetry=None).compute([CRYSTAL])
    assert calculator(ensemble="global").ensemble == "global"


@pytest.mark.parametrize("symmetry", ["O(3)", None])
def test_inference_mode_of_a_caller_takes_no_forces_away(symmetry: str | None) -> None:
    expected = calculator(symmetry=symmetry).compute([CRYSTAL])[0]["forces"]
    with torch.inference_mode():
        found = calculator(symmetry=symmetry).compute([CRYSTAL])[0]["forces"]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["slab", "wire"])
@pytest.mark.parametrize("symmetry", ["O(3)", None])
def test_slabs_and_chains_are_refused(name: str, symmetry: str | None) -> None:
    with pytest.raises(GeometryError, match="pbc: the model has long-range electrostatics"):
        calculator(symmetry=symmetry).compute([CRYSTAL, EVERY[name]])


def test_training_could_differentiate_forces() -> None:
    net = network(1)
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    engine = Engine(Total(net), symmetry=None)
    graph = engine.graph(system_from_atoms([CRYSTAL, EVERY["bent"]]))
    found = derivatives.results(derivatives.evaluate(net, graph, create_graph=True), graph)
    (g,) = torch.autograd.grad(found.forces.square().sum(), net.long_range.charges.weight)
    assert float(g.abs().max()) > 1e-8
