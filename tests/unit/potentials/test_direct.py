from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ase_pet.potentials.composition import Composition
from ase_pet.potentials.direct import Direct, direct_heads, direct_results
from ase_pet.potentials.total import Total
from ase_pet.potentials.zbl_covalent import CovalentZBL
from ase_pet.testing.evaluators import graph_of
from tests.tiny import tiny_modern_pet, tiny_pet

ONES = (1.0, 1.0, 1.0)
PAIR = graph_of([molecule("CH3OH"), molecule("H2O")], 2.6)
NETWORK = tiny_modern_pet(2, forces_scales=ONES, stress_scales=ONES)


def test_heads_are_read_and_structures_have_no_net_force() -> None:
    energies, heads = NETWORK.predict_direct(PAIR)
    found = direct_results(Total(Direct(NETWORK, oriented=False)), PAIR)
    assert torch.equal(found.energies, energies)
    for k, atoms in enumerate((slice(0, 6), slice(6, 9))):
        forces, stress = heads["forces"][atoms], heads["stress"][atoms].sum(0)
        assert float(forces.mean(0).norm()) > 1e-3
        torch.testing.assert_close(found.forces[atoms], forces - forces.mean(0))
        torch.testing.assert_close(found.virial[k], 0.5 * (stress + stress.T))
    assert bool(found.virials.isnan().all())
    assert not found.forces.requires_grad


def test_baselines_add_to_the_energy_alone() -> None:
    zbl, composition = (
        CovalentZBL({1: 0.31, 6: 0.76, 8: 1.6}),
        Composition({1: 1.0, 6: 2.0, 8: 3.0}),
    )
    backbone = Direct(NETWORK, oriented=False)
    plain = direct_results(Total(backbone), PAIR)
    found = direct_results(Total(backbone, composition, zbl), PAIR)
    assert bool((found.energies - plain.energies > 0.9).all())
    assert torch.equal(found.forces, plain.forces)
    assert torch.equal(found.virial, plain.virial)


def test_without_a_head_for_stress_there_is_none() -> None:
    network = tiny_modern_pet(1, forces_scales=ONES)
    assert direct_heads(network) == ("forces",)
    found = direct_results(Total(Direct(network, oriented=False)), PAIR)
    assert bool(torch.isfinite(found.forces).all())
    assert bool(found.virial.isnan().all())


def test_atoms_alone_have_no_direction_where_coordinate_systems_are_asked_for() -> None:
    # A neighbour beyond the cutoff of the network is none, even if the graph has it.
    atoms = molecule("CH3OH") + Atoms("OO", [(20.0, 0.0, 0.0), (22.7, 0.0, 0.0)])
    graph = graph_of([atoms], 3.0)
    found = {k: Direct(NETWORK, oriented=k).predict(graph)[1] for k in (True, False)}
    assert torch.equal(found[True]["forces"][:6], found[False]["forces"][:6])
    assert torch.equal(found[True]["forces"][6:], torch.zeros(2, 3, dtype=torch.float64))
    assert float(found[False]["forces"][6:].abs().min()) > 1e-4
    stress = found[True]["virial"][6:]
    trace = found[False]["virial"][6:].diagonal(dim1=1, dim2=2).mean(1)
    torch.testing.assert_close(stress, trace[:, None, None] * torch.eye(3).double())


@pytest.mark.parametrize("network", [tiny_pet(), tiny_modern_pet(stress_scales=ONES)])
def test_a_model_without_heads_for_forces_is_refused(network: object) -> None:
    with pytest.raises(ValueError, match="no heads for direct forces; use forces='conservative'"):
        Direct(network, oriented=True)


def test_it_reaches_as_far_as_its_backbone() -> None:
    direct = Direct(NETWORK, oriented=True)
    assert (direct.cutoff, direct.n_layers) == (NETWORK.cutoff, NETWORK.n_layers)
    assert (direct.species, direct.symmetry) == (NETWORK.species, None)
    assert direct.memory(3, 4) == NETWORK.memory(3, 4)
    one = Direct(tiny_modern_pet(forces_scales=ONES), oriented=True)
    assert (direct.tensors, one.tensors) == (("forces", "virial"), ("forces",))
    energies, _ = NETWORK.predict_direct(PAIR)
    assert torch.equal(direct(PAIR), energies)
