from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ase_pet import load
from ase_pet.errors import CheckpointError
from ase_pet.formats import native
from ase_pet.testing.evaluators import graph_of
from ase_pet.testing.structures import structures
from tests.dense_tensornet import energies as dense_energies
from tests.foreign_tensornet import write_matgl
from tests.tiny import SPECIES, tiny_tensornet

EVERY = structures(SPECIES)
GATED: dict[str, Any] = {"readout": "gated", "readout_depth": 2, "energy_scale": 2.5}


def graph(cutoff: float = 2.6):
    return graph_of([EVERY[name] for name in ("molecule", "triclinic")], cutoff)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "option",
    [
        {"rbf": "smooth_bessel"},
        {"rbf": "bessel"},
        {"rbf": "gaussian"},
        {"rbf": "exponential"},
        {"rbf": "smooth_bessel", "group": "SO(3)"},
        {"rbf": "smooth_bessel", "energy_shift": -1.5},
    ],
    ids=str,
)
def test_energies_are_those_of_the_network_that_was_written(
    option: dict[str, Any], version: int, tmp_path: Path
) -> None:
    net = tiny_tensornet(2, **{**GATED, **option})
    model = load(write_matgl(net, tmp_path / "model", version=version))
    ours, expected = model.potential(graph()), dense_energies(net, graph())
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert model.architecture == "tensornet"
    assert model.dtype == "float64"
    assert model.metadata["source"]["model_version"] == version
    assert "model" in model.metadata["source"]["name"]


def test_the_dgl_version_sends_the_centers_own_tensors(tmp_path: Path) -> None:
    net = tiny_tensornet(2, messages="center", rbf="smooth_bessel", **GATED)
    path = write_matgl(net, tmp_path / "model", module="matgl.models._tensornet_dgl")
    expected = dense_energies(net, graph())
    torch.testing.assert_close(load(path).potential(graph()), expected, rtol=1e-12, atol=1e-12)


def test_elements_in_any_order_with_their_energies(tmp_path: Path) -> None:
    net = tiny_tensornet(1, rbf="smooth_bessel", **GATED)
    path = write_matgl(net, tmp_path / "model")
    state = torch.load(path / "state.pt", weights_only=True)
    table = "model.tensor_embedding.emb.weight"
    state[table] = state[table][[2, 0, 1]]
    state["element_refs.property_offset"] = torch.tensor([-300.0, -13.0, -1000.0])
    state["element_refs.onehot"] = torch.eye(3)
    torch.save(state, path / "state.pt")
    described = json.loads((path / "model.json").read_text())
    described["kwargs"]["model"]["init_args"]["element_types"] = ["O", "H", "C"]
    (path / "model.json").write_text(json.dumps(described))
    model = load(path)
    assert model.potential.composition is not None
    assert model.potential.composition.energies == {1: -13.0, 6: -1000.0, 8: -300.0}
    ours = model.potential.backbone(graph())
    torch.testing.assert_close(ours, dense_energies(net, graph()), rtol=1e-12, atol=1e-12)


def test_the_repulsion_of_nuclei(tmp_path: Path) -> None:
    """Parameters are stored such that softplus gives them; the amplitudes are normalised."""

    def inverse(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64).expm1().log()

    amplitudes, decays = [0.2, 0.5, 0.3, 0.05], [3.2, 0.94, 0.4, 0.2]
    extra = {
        "repuls.a_pow": inverse([0.25]),
        "repuls.a_div": inverse([2.1]),
        "repuls.coefficients": inverse(amplitudes),
        "repuls.exponents": inverse(decays),
        "repuls.ke": torch.tensor(14.4, dtype=torch.float64),
    }
    net = tiny_tensornet(1, rbf="smooth_bessel", **GATED)
    model = load(write_matgl(net, tmp_path / "model", extra=extra))
    zbl = model.potential.zbl
    assert zbl is not None
    bent = EVERY["bent"]
    expected = 0.0
    for i in range(3):
        for j in range(3):
            r = bent.get_distance(i, j)
            if i == j or r >= 2.6:
                continue
            zi, zj = bent.numbers[[i, j]].tolist()
            x = r * (zi**0.25 + zj**0.25) * 2.1
            screening = sum(a * math.exp(-d * x) for a, d in zip(amplitudes, decays, strict=True))
            t = r / 2.6
            switch = 1 - 10 * t**3 + 15 * t**4 - 6 * t**5
            expected += 0.5 * 14.4 * zi * zj / r * screening / sum(amplitudes) * switch
    assert float(zbl(graph_of([bent], 2.6)).sum()) == pytest.approx(expected, rel=1e-12)
    native.save(model, tmp_path / "native.pt")
    again = load(tmp_path / "native.pt")
    assert torch.equal(again.potential(graph()), model.potential(graph()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "M3GNet"}, "the class M3GNet; of MatGL only TensorNet"),
        ({"name": "CHGNet"}, "the class CHGNet"),
        ({"name": "SO3Net"}, "the class SO3Net"),
        ({"version": 7}, "model version 7, whose conventions are not known"),
        ({"module": "matgl.models._other"}, r"written by matgl\.models\._other"),
        ({"is_intensive": True}, "is_intensive: expected False, got True: .*not an energy"),
        ({"task_type": "classification"}, "task_type: expected 'regression'"),
        ({"include_state": True}, "include_state: .*state of the structure"),
        ({"activation_type": "softexp"}, "activation_type: 'softexp' is not supported"),
        ({"rbf_type": "Sine"}, "rbf_type: 'Sine' is not supported"),
        ({"use_smooth": False, "max_l": 3}, "max_l: .*max_l=1 only, got 3"),
        ({"element_types": ["H", "C", "Qq"]}, "chemical element, got 'Qq'"),
        ({"nblocks": 3}, r"layers\.1\.linears_scalar\.0\.weight is missing"),
        ({"nblocks": 0}, "unexpected weights"),
        ({"extra": {"model.layers.9.more": torch.zeros(1)}}, "unexpected weights"),
        ({"units": 4}, "expected shape"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    net = tiny_tensornet(1, rbf="smooth_bessel", **GATED)
    with pytest.raises(CheckpointError, match=message):
        load(write_matgl(net, tmp_path / "model", **changes))


@pytest.mark.parametrize(
    ("missing", "message"),
    [("state.pt", r"state\.pt is missing"), ("model.json", r"model\.json .*is missing")],
)
def test_missing_files_are_named(missing: str, message: str, tmp_path: Path) -> None:
    net = tiny_tensornet(1, rbf="smooth_bessel", **GATED)
    path = write_matgl(net, tmp_path / "model")
    (path / missing).unlink()
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_model_that_is_no_potential(tmp_path: Path) -> None:
    net = tiny_tensornet(1, rbf="smooth_bessel", **GATED)
    path = write_matgl(net, tmp_path / "model")
    described = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(described["kwargs"]["model"]))
    with pytest.raises(CheckpointError, match=r"TensorNet that is not inside a Potential"):
        load(path)


def test_damaged_descriptions(tmp_path: Path) -> None:
    path = write_matgl(tiny_tensornet(1, rbf="smooth_bessel", **GATED), tmp_path / "model")
    (path / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        load(path)


class Payload:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_matgl(tiny_tensornet(1, rbf="smooth_bessel", **GATED), tmp_path / "model")
    torch.save({"data_mean": torch.zeros(1), "hook": Payload()}, path / "state.pt")
    with pytest.raises(CheckpointError, match=r"refused, because loading it would run .*print"):
        load(path)
    assert capsys.readouterr().out == ""


def test_options_that_only_others_have(tmp_path: Path) -> None:
    path = write_matgl(tiny_tensornet(1, rbf="smooth_bessel", **GATED), tmp_path / "model")
    with pytest.raises(CheckpointError, match="target: only models with several targets"):
        load(path, target=0)
    with pytest.raises(CheckpointError, match="energy_unit: only those of TorchMD-NET"):
        load(path, energy_unit="hartree")
