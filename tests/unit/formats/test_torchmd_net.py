from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ase_pet import PETCalculator, load
from ase_pet.errors import CheckpointError
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.dense_tensornet import energies as dense_energies
from tests.foreign_tensornet import write_torchmd
from tests.tiny import SPECIES, tiny_tensornet

EVERY = structures(SPECIES)
BOHR, HARTREE = 0.5291772105638411, 27.211386024367243


def graph():
    return graph_of([EVERY[name] for name in ("molecule", "triclinic")], 2.6)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "option",
    [
        {},
        {"n_layers": 0},
        {"rbf": "gaussian"},
        {"group": "SO(3)"},
        {"inner_cutoff": 0.7},
        {"activation": "shifted_softplus"},
        {"activation": "tanh", "readout_depth": 2},
        {"energy_scale": 3.0, "energy_shift": -0.5},
    ],
    ids=str,
)
def test_energies_are_those_of_the_network_that_was_written(
    option: dict[str, Any], old: bool, tmp_path: Path
) -> None:
    net = tiny_tensornet(**{"n_layers": 2, "self_loops": True, **option})
    model = load(write_torchmd(net, tmp_path / "model.ckpt", old=old))
    expected = dense_energies(net, graph())
    torch.testing.assert_close(model.potential(graph()), expected, rtol=1e-12, atol=1e-12)
    assert model.species == tuple(range(1, 10))
    assert model.dtype == "float64"


@pytest.mark.parametrize("as_list", [False, True])
def test_reference_energies_of_elements(as_list: bool, tmp_path: Path) -> None:
    net = tiny_tensornet(1, self_loops=True)
    energies = torch.arange(10, dtype=torch.float64)[:, None]
    prefix = "model.prior_model.0." if as_list else "model.prior_model."
    path = write_torchmd(
        net,
        tmp_path / "model.ckpt",
        extra={prefix + "atomref.weight": energies, prefix + "initial_atomref": energies},
        prior_model=[{"Atomref": None}] if as_list else "Atomref",
        prior_args=None if as_list else {"max_z": 10},
    )
    composition = load(path, energy_unit="hartree").potential.composition
    assert composition is not None
    assert composition.energies == pytest.approx({z: z * HARTREE for z in range(1, 10)})


def test_the_repulsion_of_nuclei_in_physical_units(tmp_path: Path) -> None:
    """Data in bohr and hartree; the term is fixed by nature in any unit."""
    settings = {
        "cutoff_distance": 3.0,
        "max_num_neighbors": 32,
        "atomic_number": torch.arange(10, dtype=torch.int8),
        "distance_scale": 5.29177210903e-11,
        "energy_scale": 4.3597447222071e-18,
    }
    path = write_torchmd(
        tiny_tensornet(1, self_loops=True),
        tmp_path / "model.ckpt",
        extra={"model.prior_model.0.atomic_number": settings["atomic_number"]},
        prior_model=[{"ZBL": settings}],
    )
    zbl = load(path, length_unit="bohr", energy_unit="hartree").potential.zbl
    assert zbl is not None
    assert zbl.cutoff == pytest.approx(3.0 * BOHR)
    dimer = EVERY["dimer"].copy()
    direction = dimer.positions[1] - dimer.positions[0]
    r = 1.1
    dimer.positions[1] = dimer.positions[0] + r * direction / math.sqrt(direction @ direction)
    zi, zj = dimer.numbers.tolist()
    x = r * (zi**0.23 + zj**0.23) / (0.8854 * BOHR)
    terms = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4029), (0.02817, 0.2016))
    screening = sum(a * math.exp(-d * x) for a, d in terms)
    switch = 0.5 * (math.cos(math.pi * r / (3.0 * BOHR)) + 1.0)
    expected = 14.399645478425668 * zi * zj / r * screening * switch
    # The constants of the original are those of CODATA 2018, ours of 2014.
    assert float(zbl(graph_of([dimer], 2.6)).sum()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "equivariant-transformer"}, "of the kind 'equivariant-transformer'"),
        ({"model": "graph-network"}, "of the kind 'graph-network'"),
        ({"output_model": "DipoleMoment"}, "output_model: 'DipoleMoment' is not supported"),
        ({"reduce_op": "mean"}, "reduce_op: 'mean' is not supported"),
        ({"rbf_type": "sine"}, "rbf_type: 'sine' is not supported"),
        ({"activation": "relu"}, "activation: 'relu' is not supported"),
        ({"prior_model": "D2"}, "prior_model: D2 is not supported"),
        ({"num_layers": 0}, "unexpected weights"),
        ({"num_layers": 4}, r"layers\.1\.linears_scalar\.0\.weight is missing"),
        ({"embedding_dimension": 3}, "expected shape"),
        ({"cutoff_lower": 9.0}, "inner_cutoff: expected at least 0 and less"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(write_torchmd(tiny_tensornet(1, self_loops=True), tmp_path / "x.ckpt", **changes))


def test_units_are_checked(tmp_path: Path) -> None:
    path = write_torchmd(tiny_tensornet(1, self_loops=True), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"energy_unit: expected one of .*got 'cal'"):
        load(path, energy_unit="cal")
    with pytest.raises(CheckpointError, match="target: only models with several targets"):
        load(path, target=0)


def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    class Callback:
        def __reduce__(self):
            return print, ("executed",)

    path = write_torchmd(tiny_tensornet(1, self_loops=True), tmp_path / "model.ckpt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "callbacks": {"one": Callback()}}, path)
    with pytest.raises(CheckpointError, match=r"refused, because loading it would run .*print"):
        load(path)
    assert capsys.readouterr().out == ""


def test_mirror_images_are_averaged_only_where_asked(tmp_path: Path) -> None:
    net = tiny_tensornet(1, self_loops=True, group="SO(3)")
    model = load(write_torchmd(net, tmp_path / "model.ckpt"))
    molecule = EVERY["molecule"]
    energies = {
        symmetry: PETCalculator(model, symmetry=symmetry, device="cpu").compute([molecule])[0]
        for symmetry in ("O(3)", "SO(3)", None)
    }
    assert energies["SO(3)"]["energy"] == energies[None]["energy"]
    assert abs(energies["O(3)"]["energy"] - energies[None]["energy"]) > 1e-6
