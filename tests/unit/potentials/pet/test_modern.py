from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ase_pet.data import Graph
from ase_pet.ecse.ensemble import Domains, Expansion
from ase_pet.errors import UnknownSpeciesError
from ase_pet.potentials.pet import ModernPET, ModernPETHypers
from ase_pet.testing.evaluators import graph_of
from tests.tiny import NEEDS_TORCH_PME, SPECIES, tiny_modern_pet

OPTIONS = [
    {"cutoff_function": "Cosine"},
    {"cutoff_width": 0.3},
    {"n_neighbors": 3.0},
    {"n_neighbors": 3.0, "adaptive_method": "grid"},
    {"n_neighbors": 3.0, "adaptive_width": 0.5},
    {"transformer": "PostLN"},
    {"normalization": "LayerNorm"},
    {"activation": "SiLU"},
    {"messages": "residual"},
    {"temperature": 2.0},
    {"d_node": 8},
    {"n_heads": 4},
    {"n_attention_layers": 2},
    {"conditioning": True},
    {"energy_scale": 2.0},
    pytest.param({"long_range": True}, marks=NEEDS_TORCH_PME),
]


def identify(option: dict) -> str:
    return "-".join(map(str, option.values())) or "defaults"


@pytest.fixture(scope="module")
def methanol() -> Graph:
    return graph_of([molecule("CH3OH")], 2.6, whole=True)


@pytest.mark.parametrize("option", OPTIONS, ids=identify)
def test_every_option_changes_the_energy(option: dict, methanol: Graph) -> None:
    base = {"n_neighbors": 3.0} if len(option) > 1 else {}
    base |= {"cutoff": 2.3}
    plain, changed = tiny_modern_pet(2, **base), tiny_modern_pet(2, **{**base, **option})
    shared = {k: v for k, v in plain.state_dict().items() if k in changed.state_dict()}
    fitting = {k: v for k, v in shared.items() if v.shape == changed.state_dict()[k].shape}
    changed.load_state_dict(fitting, strict=False)
    assert float((plain(methanol) - changed(methanol)).abs().max()) > 1e-5


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize(
    "option",
    [
        {},
        {"messages": "residual"},
        {"n_neighbors": 2.5},
        {"n_neighbors": 2.5, "messages": "residual"},
        {"n_neighbors": 2.5, "adaptive_method": "grid"},
    ],
    ids=identify,
)
def test_the_receptive_field_is_what_it_says(option: dict, n_layers: int) -> None:
    torch.manual_seed(3)
    positions = torch.rand(16, 3).double() - 0.5
    positions[:, 0] += 0.9 * torch.arange(16)
    graph = graph_of([Atoms("COHC" * 4, positions.numpy())], 1.9)
    pet = tiny_modern_pet(n_layers, cutoff=1.9, **option)
    deviations = []
    for depth in (pet.n_layers, pet.n_layers - 1):
        if depth > 0:
            domains = Domains.ego(graph, depth)
            atoms = torch.arange(graph.n_atoms)
            copies = Expansion(graph, domains, depth).copies(atoms, atoms, atoms)
            found = pet(copies.graph)[copies.reads]
            deviations.append(float((found - pet(graph)).abs().max()))
    assert deviations[0] < 1e-14
    assert all(deviation > 1e-6 for deviation in deviations[1:])


def test_edges_beyond_the_cutoff_are_not_seen(methanol: Graph) -> None:
    pet = tiny_modern_pet(2)
    wider = graph_of([molecule("CH3OH")], 4.0)
    assert wider.n_edges > methanol.n_edges
    torch.testing.assert_close(pet(wider), pet(methanol), rtol=1e-14, atol=1e-14)


def test_charge_and_spin_choose_rows_of_tables(methanol: Graph) -> None:
    pet = tiny_modern_pet(conditioning=True, max_charge=1, max_spin=2)
    assert pet.takes_charge
    assert pet.takes_spin

    def with_state(charge: float, spin: float) -> Graph:
        values = (torch.tensor([x], dtype=torch.float64) for x in (charge, spin))
        return replace(methanol, **dict(zip(("charge", "spin"), values, strict=True)))

    states = [(q, m) for q in (-1.0, 0.0, 1.0) for m in (1.0, 2.0)]
    energies = {state: float(pet(with_state(*state)).sum()) for state in states}
    assert len(set(energies.values())) == 6
    assert float(pet(methanol).sum()) == energies[0.0, 1.0]
    for state, message in (((2.0, 1.0), "charge: .*from -1 to 1, got 2"), ((0.0, 3.0), "spin: ")):
        with pytest.raises(ValueError, match=message):
            pet(with_state(*state))


def test_direct_predictions_are_scaled_by_element(methanol: Graph) -> None:
    ones, scales = (1.0, 1.0, 1.0), (0.5, 2.0, 3.0)
    pet = tiny_modern_pet(2, messages="residual", forces_scales=scales, stress_scales=ones)
    plain = ModernPET(replace(pet.hypers, forces_scales=ones), SPECIES).double()
    plain.load_state_dict(pet.state_dict())
    (energies, found), (_, expected) = pet.predict_direct(methanol), plain.predict_direct(methanol)
    torch.testing.assert_close(energies, pet(methanol), rtol=1e-13, atol=0.0)
    factor = torch.tensor(
        [dict(zip(SPECIES, scales, strict=True))[z] for z in methanol.numbers.tolist()]
    )
    torch.testing.assert_close(found["forces"], factor[:, None] * expected["forces"])
    assert found["stress"].shape == (methanol.n_atoms, 3, 3)
    assert torch.equal(found["stress"], expected["stress"])
    assert tiny_modern_pet().predict_direct(methanol)[1] == {}


def test_single_precision_is_close(methanol: Graph) -> None:
    pet = tiny_modern_pet(2, n_neighbors=3.0)
    expected = pet(methanol)
    found = pet.float()(methanol)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_element_is_named() -> None:
    with pytest.raises(UnknownSpeciesError, match="Si"):
        tiny_modern_pet()(graph_of([Atoms("Si")], 2.6))


def test_more_memory_for_more_neighbors() -> None:
    pet = tiny_modern_pet()
    assert pet.memory(2, 10) == 2 * pet.memory(1, 10)
    assert pet.memory(1, 20) > 2 * pet.memory(1, 10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cutoff": 0.0}, "cutoff: expected more than 0, got 0.0"),
        ({"cutoff": float("nan")}, "cutoff: expected more than 0"),
        ({"cutoff_width": 5.0}, "cutoff_width: expected more than 0 and at most cutoff=4.5"),
        ({"d_model": 12, "n_heads": 5}, "n_heads: expected a divisor of d_model=12, got 5"),
        ({"n_message_layers": 0}, "n_message_layers: expected at least 1, got 0"),
        ({"n_neighbors": -1.0}, "n_neighbors: expected at least 0"),
        ({"max_charge": -1}, "max_charge: expected at least 0"),
        ({"max_spin": 0}, "max_spin: expected at least 1"),
        ({"temperature": 0.0}, "temperature: expected more than 0"),
        ({"messages": "none"}, "messages: expected one of"),
        ({"normalization": "rms"}, "normalization: expected one of"),
        ({"energy_scale": float("nan")}, "energy_scale: expected a finite number, got nan"),
        ({"forces_scales": (1.0, float("inf"))}, "forces_scales: expected finite numbers"),
        (
            {"cutoff": 0.7, "cutoff_width": 0.2, "n_neighbors": 3.0, "adaptive_method": "grid"},
            "cutoff: expected more than 0.75 for adaptive_method='grid'",
        ),
    ],
)
def test_hyperparameters_out_of_range_are_named(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModernPETHypers(**values)


def test_scales_belong_to_elements() -> None:
    with pytest.raises(ValueError, match="stress_scales: expected one for each of 3 elements"):
        ModernPET(ModernPETHypers(stress_scales=(1.0, 2.0)), SPECIES)
