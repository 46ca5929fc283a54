"""The training loop: from a recipe to a checkpoint, resumable at any moment.

All randomness is a function of the seed and of the place in the run (epoch, batch), so that a
state needs no generators and a resumed run repeats an uninterrupted one bit for bit on a CPU (with
as many threads).
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.engine import resolve_device
from ase_pet.formats import native
from ase_pet.formats.files import remove_leftovers
from ase_pet.formats.networks import ARCHITECTURES
from ase_pet.potentials.base import Potential
from ase_pet.potentials.composition import Composition
from ase_pet.potentials.total import Total
from ase_pet.training.batches import (
    Batch,
    Sample,
    collate,
    group_batches,
    make_samples,
    require_labels,
)
from ase_pet.training.config import TrainConfig, read_config
from ase_pet.training.dataset import fit_composition, split_frames
from ase_pet.training.loss import ErrorSums, compute_loss, predict
from ase_pet.training.optimization import MovingAverage, Schedule, make_optimizer
from ase_pet.training.report import Report, write_history
from ase_pet.training.result import describe, make_model
from ase_pet.training.rotations import draw_frames, orient_randomly
from ase_pet.training.state import damaged, load_state, run_fingerprint, save_state

#: Random streams that must not repeat one another.
_SPLIT, _SHUFFLE, _ROTATE, _VALIDATE = 0, 1, 2, 3


def train(config_path: Path, *, resume: bool = True) -> Path:
    """Train a model by a recipe and write its checkpoint.

    The folder ``output`` of the recipe receives ``state.pt`` (from which an interrupted run
    continues when it is called again), ``history.csv`` and ``model.pt``, the checkpoint of the
    epoch with the lowest validation loss, measured on the recipe's ``test`` source if it has one.

    Args:
        config_path: The recipe, see :class:`~ase_pet.training.config.TrainConfig`.
        resume: Continue an interrupted run; otherwise start anew.

    Returns:
        Path of the checkpoint.

    Raises:
        ValueError: If the recipe or the data are invalid, the device is not there, or a state is
            damaged or of another recipe.
        FloatingPointError: If the loss is no longer finite; the last good state is kept.
    """
    config = read_config(Path(config_path))
    return Trainer(config, resume=resume).run()


class Trainer:
    """One run.

    Args:
        config: The recipe.
        resume: Continue from ``state.pt`` if there is one.
        report: Where messages go.
    """

    def __init__(
        self, config: TrainConfig, *, resume: bool = True, report: Report | None = None
    ) -> None:
        self.config = config
        self.report = report or Report()
        self.device = resolve_device(config.device)
        config.output.mkdir(parents=True, exist_ok=True)
        self.state_path = config.output / "state.pt"
        for name in ("state.pt", "history.csv", "model.pt"):
            remove_leftovers(config.output / name)
        self.split = split_frames(config.data, _seed(config.seed, _SPLIT))
        self.fingerprint = run_fingerprint(config, self.split)
        hypers = config.hypers
        tensors = [name for name in hypers.tensors if getattr(config.loss, name).weight]
        self.train_samples = make_samples(self.split.train, hypers.cutoff, tensors)
        self.validation_samples = make_samples(self.split.validation, hypers.cutoff, tensors)
        require_labels(self.train_samples, tensors, "training")
        require_labels(self.validation_samples, tensors, "validation")
        self.potential = self._initial_potential().to(self.device)
        self.optimizer = make_optimizer(self.potential, config.optimizer)
        self.schedule = Schedule(config.schedule)
        self.average = MovingAverage(self.potential, config.optimizer.ema)
        self.epoch = self.next_batch = self.step = 0
        self.loss_sum = self.elapsed = 0.0
        self.n_worse = 0
        self.best: dict[str, Any] = {"loss": math.inf, "weights": None, "epoch": -1}
        self.history: list[dict[str, float]] = []
        self.finished = False
        self.kept = False
        if resume and self.state_path.exists():
            self._restore(load_state(self.state_path, self.fingerprint))

    def _initial_potential(self) -> Total:
        offsets = fit_composition(self.split.train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            network: Any = ARCHITECTURES[self.config.architecture][0]
            backbone = network(self.config.hypers, sorted(offsets))
        return Total(backbone.to(getattr(torch, self.config.dtype)), Composition(offsets))

    def run(self) -> Path:
        """Train until the recipe is fulfilled; return the path of the checkpoint."""
        for line in describe(self):
            self.report.line(line)
        self._before, self._started = self.elapsed, time.monotonic()
        self.saved = self._started
        # No saving when interrupted: that may be within a step, and a state is between steps.
        while not self.finished:
            self._run_epoch()
        return self._finish()

    def _run_epoch(self) -> None:
        config = self.config
        generator = _generator(config.seed, _SHUFFLE, self.epoch)
        batches = group_batches(
            self.train_samples,
            structures=config.batch.structures,
            slots=config.batch.slots,
            generator=generator,
        )
        for k in self.report.track(range(self.next_batch, len(batches)), f"epoch {self.epoch}"):
            progress = self._progress((self.epoch + k / len(batches)) / config.epochs)
            samples = [self.train_samples[i] for i in batches[k]]
            self.loss_sum += self._step(collate(samples, self.device), k, progress) * len(samples)
            self.next_batch = k + 1
            if progress >= 1.0:
                break
            if time.monotonic() - self.saved > config.save_every:
                self.save()
        self.elapsed = self._before + time.monotonic() - self._started
        self._end_epoch()
        self.save()

    def _progress(self, of_epochs: float) -> float:
        self.elapsed = self._before + time.monotonic() - self._started
        limit = self.config.max_time
        return max(of_epochs, self.elapsed / limit) if limit else of_epochs

    def _step(self, batch: Batch, k: int, progress: float) -> float:
        config = self.config
        rate = config.optimizer.learning_rate * self.schedule.factor(self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = _generator(config.seed, _ROTATE, self.epoch, k)
        potential = orient_randomly(
            self.potential,
            batch.graph,
            config.rotations,
            generator,
            reflections=config.reflections,
            frames=config.frames,
        )
        prediction = predict(potential, batch, create_graph=True)
        loss = compute_loss(prediction, batch, config.loss, progress)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.potential.parameters(), config.optimizer.clip)
        self._check_finite(loss, norm)
        self.optimizer.step()
        self.average.update()
        self.step += 1
        return float(loss.detach())

    def _check_finite(self, loss: Tensor, norm: Tensor) -> None:
        if not bool(torch.isfinite(loss.detach()) & torch.isfinite(norm)):
            raise FloatingPointError(
                f"training: loss {float(loss.detach()):.3g}, gradient norm {float(norm):.3g} at "
                f"epoch {self.epoch}, step {self.step}; {self._last_state()}. Lower "
                "optimizer.learning_rate, raise schedule.warmup, or look for wrong labels "
                "(data.max_force, data.max_energy)"
            )

    def _last_state(self) -> str:
        if not self.kept:
            return "no state was saved"
        return f"the last good state is kept in {self.state_path}"

    def validate(self, samples: list[Sample]) -> dict[str, float]:
        """Errors and loss of the averaged weights on samples that are not trained on."""
        config, sums, total = self.config, ErrorSums(), 0.0
        batch_config = config.batch
        groups = group_batches(
            samples, structures=batch_config.structures, slots=batch_config.slots, generator=None
        )
        with self.average.applied():
            for indices in groups:
                batch = collate([samples[i] for i in indices], self.device)
                # Judged in coordinate systems, always the same, if trained in them.
                potential: Potential = self.potential
                if config.frames:
                    drawn = _generator(config.seed, _VALIDATE, indices[0])
                    potential = draw_frames(potential, batch.graph, drawn, reflections=True)
                prediction = predict(potential, batch)
                total += float(compute_loss(prediction, batch, config.loss)) * len(indices)
                sums.add_batch(prediction, batch)
        return {"loss": total / len(samples), **sums.summary()}

    def _end_epoch(self) -> None:
        config = self.config
        train_loss = self.loss_sum / len(self.train_samples)
        self.epoch, self.next_batch, self.loss_sum = self.epoch + 1, 0, 0.0
        over = self._progress(self.epoch / config.epochs) >= 1.0
        if over or self.epoch % config.validate_every == 0:
            errors = self.validate(self.validation_samples)
            row = {
                "epoch": self.epoch,
                "step": self.step,
                "elapsed": self.elapsed,
                "rate": self.optimizer.param_groups[0]["lr"],
                "train_loss": train_loss,
                **{f"validation_{name}": value for name, value in errors.items()},
            }
            self.history.append(row)
            write_history(config.output / "history.csv", self.history)
            self._judge(errors)
            self.report.epoch(row)
        stopped = config.patience is not None and self.n_worse >= config.patience
        self.finished = over or stopped or self.schedule.is_over

    def _judge(self, errors: dict[str, float]) -> None:
        improved = errors["loss"] < self.best["loss"]
        self.schedule.validated(improved=improved)
        self.n_worse = 0 if improved else self.n_worse + 1
        if improved:
            weights = [average.detach().cpu().clone() for average in self.average.averages]
            self.best = {"weights": weights, "epoch": self.epoch, **errors}
        elif not math.isfinite(errors["loss"]):
            raise FloatingPointError(
                f"training: validation loss {errors['loss']} at epoch {self.epoch}; "
                f"{self._last_state()}. Lower optimizer.learning_rate or look for wrong labels"
            )

    def _finish(self) -> Path:
        path = self.config.output / "model.pt"
        native.save(make_model(self), path)
        best = {k: v for k, v in self.best.items() if k not in ("weights", "epoch", "loss")}
        self.report.table(f"best epoch {self.best['epoch']}", {"validation": best})
        self.report.line(f"wrote {path}")
        return path

    def save(self) -> None:
        """Write the state from which the run continues."""
        state = {
            "weights": [p.detach().cpu() for p in self.potential.parameters()],
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state(),
            "schedule": self.schedule.state(),
        }
        for name in _PLAIN_STATE:
            state[name] = getattr(self, name)
        save_state(state, self.state_path, self.fingerprint)
        self.saved, self.kept = time.monotonic(), True

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            weights = zip(self.potential.parameters(), state["weights"], strict=True)
            with torch.no_grad():
                for parameter, value in weights:
                    parameter.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.restore(state["average"])
            self.schedule.restore(state["schedule"])
            for name in _PLAIN_STATE:
                setattr(self, name, state[name])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise damaged(self.state_path) from error
        self.kept = True


_PLAIN_STATE = (
    "epoch", "next_batch", "step", "loss_sum", "elapsed", "n_worse", "best", "history", "finished"
)  # fmt: skip


def _seed(*parts: int) -> int:
    """Mix integers into one seed (SplitMix64), so that streams do not overlap."""
    state = 0
    for part in parts:
        state = (state ^ part) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def _generator(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*parts))
