"""Predictions of a batch, the loss of their errors, and error statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, mse_loss

from ase_pet import derivatives
from ase_pet.potentials.base import Potential
from ase_pet.training.batches import Batch
from ase_pet.training.config import LossConfig, LossTerm


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What is compared with the labels.

    Attributes:
        energy: [n_systems], eV.
        forces: [n_atoms, 3], eV/Å.
        stress: [n_systems, 3, 3], eV/Å³.
        tensors: Whatever else the model predicts, [n_systems, ...] by name.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    tensors: dict[str, Tensor]


def predict(potential: Potential, batch: Batch, *, create_graph: bool = False) -> Prediction:
    """Evaluate a batch; with ``create_graph`` the result can be differentiated by the weights."""
    evaluation = derivatives.evaluate(potential, batch.graph, create_graph=create_graph)
    out = derivatives.results(evaluation, batch.graph)
    stress = out.virial / batch.volumes[:, None, None]
    return Prediction(out.energy, out.forces, stress, out.tensors)


def compute_loss(
    prediction: Prediction, batch: Batch, config: LossConfig, progress: float = 1.0
) -> Tensor:
    """Weighted sum of the mean losses of energy per atom, forces and so on; a scalar."""

    def term(error: Tensor, settings: LossTerm) -> Tensor:
        error = error / settings.scale
        zero = torch.zeros_like(error)
        weight = settings.weight_at(min(progress, 1.0))
        if config.kind == "mse":
            return weight * mse_loss(error, zero)
        return weight * huber_loss(error, zero, delta=config.delta) / config.delta

    loss = term((prediction.energy - batch.energy) / batch.n_atoms, config.energy)
    loss = loss + term(prediction.forces - batch.forces, config.forces)
    if config.stress.weight and bool(batch.has_stress.any()):
        error = (prediction.stress - batch.stress)[batch.has_stress]
        loss = loss + term(error, config.stress)
    for name, error in tensor_errors(prediction, batch).items():
        loss = loss + term(error, getattr(config, name))
    return loss


def tensor_errors(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """Errors [n_labelled, ...] of the tensors that are predicted and have labels in the batch."""
    errors = {}
    for name, predicted in prediction.tensors.items():
        labels = batch.tensors[name]
        labelled = ~torch.isnan(labels).flatten(1).any(1)
        if bool(labelled.any()):
            errors[name] = (predicted - labels)[labelled]
    return errors


class ErrorSums:
    """Sums from which mean absolute and root-mean-square errors follow."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, float, float]] = {}

    def add(self, quantity: str, error: Tensor) -> None:
        """Add errors of any shape to those of a quantity."""
        n, absolute, square = self._sums.get(quantity, (0, 0.0, 0.0))
        self._sums[quantity] = (
            n + error.numel(),
            absolute + float(error.abs().sum()),
            square + float(error.square().sum()),
        )

    def add_batch(self, prediction: Prediction, batch: Batch) -> None:
        """Add the errors of energy per atom and of the components of all else."""
        self.add("energy", (prediction.energy - batch.energy) / batch.n_atoms)
        self.add("forces", prediction.forces - batch.forces)
        if bool(batch.has_stress.any()):
            self.add("stress", (prediction.stress - batch.stress)[batch.has_stress])
        for name, error in tensor_errors(prediction, batch).items():
            self.add(name, error)

    def summary(self) -> dict[str, float]:
        """Return ``<quantity>_mae`` and ``<quantity>_rmse``: eV/atom, eV/Å, eV/Å³ and so on."""
        result = {}
        for quantity, (n, absolute, square) in self._sums.items():
            result[f"{quantity}_mae"] = absolute / n
            result[f"{quantity}_rmse"] = (square / n) ** 0.5
        return result
