import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from ase_pet.training.batches import collate, make_samples
from ase_pet.training.config import LossConfig, LossTerm
from ase_pet.training.loss import ErrorSums, Prediction, compute_loss
from tests.tiny import TENSORS


@pytest.fixture
def batch(frames):
    return collate(make_samples(frames[:3], 4.0))


def shifted(batch, energy=0.0, forces=0.0, stress=0.0, **tensors):
    """Labels plus constant errors: energy in eV/atom."""
    return Prediction(
        batch.energy + energy * batch.n_atoms,
        batch.forces + forces,
        batch.stress + stress,
        {name: batch.tensors[name] + error for name, error in tensors.items()},
    )


def test_perfect_prediction_has_no_loss(batch):
    assert float(compute_loss(shifted(batch), batch, LossConfig())) == 0.0


def test_mse_by_hand(batch):
    config = LossConfig(
        kind="mse",
        energy=LossTerm(weight=2.0, scale=0.5),
        forces=LossTerm(weight=3.0, scale=0.1),
        stress=LossTerm(weight=5.0, scale=0.01),
    )
    loss = compute_loss(shifted(batch, 0.1, 0.05, 0.02), batch, config)
    assert float(loss) == pytest.approx(2 * 0.2**2 + 3 * 0.5**2 + 5 * 2.0**2)


@pytest.mark.parametrize(("error", "expected"), [(0.1, 0.5 * 0.5**2 / 2), (1.0, 5.0 - 1.0)])
def test_huber_is_quadratic_then_linear(batch, error, expected):
    off = LossTerm(weight=0.0, scale=1.0)
    config = LossConfig(delta=2.0, energy=off, forces=LossTerm(scale=0.2), stress=off)
    assert float(compute_loss(shifted(batch, forces=error), batch, config)) == pytest.approx(
        expected
    )


def test_frames_without_stress_do_not_count(batch):
    prediction = shifted(batch)
    prediction.stress[~batch.has_stress] = 1e6
    assert float(compute_loss(prediction, batch, LossConfig())) == 0.0


def test_tensors_count_where_they_are_predicted_and_labelled(frames):
    labelled = [atoms.copy() for atoms in frames[:3]]
    for atoms, original in zip(labelled, frames, strict=False):
        atoms.pbc = False
        atoms.calc = SinglePointCalculator(atoms, **original.calc.results)
    labelled[1].calc.results["dipole"] = np.array([0.1, -0.2, 0.3])
    labelled[1].info["polarizability"] = np.diag([1.0, 2.0, 3.0])
    batch = collate(make_samples(labelled, 4.0, TENSORS))
    assert batch.tensors["dipole"].isnan().all(1).tolist() == [True, False, True]
    config = LossConfig(kind="mse", dipole=LossTerm(weight=2.0, scale=0.5))
    assert float(compute_loss(shifted(batch), batch, config)) == 0.0
    wrong = shifted(batch, dipole=0.1, polarizability=0.0)
    assert float(compute_loss(wrong, batch, config)) == pytest.approx(2 * 0.2**2)
    sums = ErrorSums()
    sums.add_batch(wrong, batch)
    assert sums.summary()["dipole_mae"] == pytest.approx(0.1)
    assert sums.summary()["polarizability_rmse"] == 0.0


def test_error_sums_by_hand(batch):
    sums = ErrorSums()
    sums.add("forces", torch.tensor([3.0, -1.0]))
    sums.add("forces", torch.tensor([[0.0], [2.0]]))
    summary = sums.summary()
    assert summary["forces_mae"] == pytest.approx(1.5)
    assert summary["forces_rmse"] == pytest.approx((14 / 4) ** 0.5)
    sums = ErrorSums()
    sums.add_batch(shifted(batch, 0.1, 0.2, 0.3), batch)
    for name, error in (("energy", 0.1), ("forces", 0.2), ("stress", 0.3)):
        assert sums.summary()[f"{name}_mae"] == pytest.approx(error)
