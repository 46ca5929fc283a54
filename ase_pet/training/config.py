"""What a training run is told: a YAML file, checked before anything is computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ase_pet.formats.networks import ARCHITECTURES, check_hypers
from ase_pet.potentials.pet import PETHypers
from ase_pet.potentials.tensornet import TensorNetHypers

#: Hyperparameters of models that need total charges, which training data do not have here.
_UNTRAINED = {"charge", "n_charges", "coulomb"}
#: Backbones that are trained here; others are trained elsewhere and imported.
_TRAINED = ("pet", "tensornet")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SourceConfig(_Section):
    """Frames of one or several extended-XYZ files.

    Attributes:
        path: ``.extxyz`` or ``.extxyz.xz`` file(s); relative paths start at the YAML file.
        where: Keep only frames whose ``info[key]`` equals the value (or one of a list of values).
    """

    path: list[Path]
    where: dict[str, Any] = Field(default_factory=dict)

    @field_validator("path", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]


class DataConfig(_Section):
    """Which frames are trained on, which choose the best epoch, and which only measure.

    Attributes:
        train: Source of training frames.
        validation: A source of its own, or the fraction of training frames held back.
        test: Frames never used before the run is over, on which its model is then measured.
        max_force: Drop frames with a force component beyond this, eV/Å.
        max_energy: Drop frames this far above the lowest one after the composition fit, eV/atom.
    """

    train: SourceConfig
    validation: SourceConfig | float = 0.1
    test: SourceConfig | None = None
    max_force: float | None = Field(default=None, gt=0)
    max_energy: float | None = Field(default=None, gt=0)

    @field_validator("validation")
    @classmethod
    def _fraction(cls, value: SourceConfig | float) -> SourceConfig | float:
        if isinstance(value, float) and not 0 < value < 1:
            raise ValueError(f"expected a fraction between 0 and 1 or a source, got {value}")
        return value


class LossTerm(_Section):
    """One term of the loss.

    Attributes:
        weight: Its share of the loss at the end of the run; zero switches the term off.
        start_weight: Its share at the start, from which the weight grows geometrically with
            progress. Early gradients of energies are large and noisy beside those of forces,
            and a network can get stuck at the mean energy unless they start small.
        scale: The error that counts as one unit: eV/atom, eV/Å, eV/Å³ and so on.
    """

    weight: float = Field(default=1.0, ge=0)
    start_weight: float | None = Field(default=None, gt=0)
    scale: float = Field(gt=0)

    def weight_at(self, progress: float) -> float:
        """Weight at a progress from 0 to 1 of the run."""
        if self.start_weight is None or self.weight == 0:
            return self.weight
        return self.start_weight ** (1.0 - progress) * self.weight**progress


class LossConfig(_Section):
    """Loss of scaled errors.

    Attributes:
        kind: ``huber`` is quadratic below ``delta`` units and linear above, ``mse`` quadratic.
        delta: Where Huber's loss turns linear, in units of each term's scale.
        energy: Error of the energy per atom.
        forces: Error of each force component.
        stress: Error of each stress component, of the frames that have a stress.
        dipole: Error of each component, e·Å, of the frames that have one, if the model has.
        polarizability: Error of each component, e²Å²/eV, likewise.
    """

    kind: Literal["huber", "mse"] = "huber"
    delta: float = Field(default=1.0, gt=0)
    energy: LossTerm = LossTerm(scale=0.01)
    forces: LossTerm = LossTerm(scale=0.1)
    stress: LossTerm = LossTerm(scale=0.002)
    dipole: LossTerm = LossTerm(scale=0.01)
    polarizability: LossTerm = LossTerm(scale=0.005)


class ScheduleConfig(_Section):
    """Learning rate as a factor of ``optimizer.learning_rate``.

    Attributes:
        kind: ``cosine`` falls over the whole run, ``plateau`` when validation stops improving.
        warmup: Steps of linear rise.
        final: The cosine's last factor, or the factor below which ``plateau`` ends the run.
        factor: What ``plateau`` multiplies by.
        patience: Validations without improvement before ``plateau`` does so.
    """

    kind: Literal["cosine", "plateau"] = "cosine"
    warmup: int = Field(default=100, ge=0)
    final: float = Field(default=0.01, ge=0, lt=1)
    factor: float = Field(default=0.5, gt=0, lt=1)
    patience: int = Field(default=10, ge=1)


class OptimizerConfig(_Section):
    """AdamW, gradient clipping and the average of weights that is validated and kept.

    Attributes:
        learning_rate: Largest learning rate.
        weight_decay: Of weight matrices; biases and norms have none.
        clip: Largest gradient norm.
        ema: Decay of the exponential moving average of weights.
    """

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = Field(default=5.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)


class BatchConfig(_Section):
    """How frames are grouped.

    Attributes:
        structures: Most structures in a batch.
        slots: Most padded neighbour slots, atoms x (most neighbours + 1): bounds time and memory.
    """

    structures: int = Field(default=8, ge=1)
    slots: int = Field(default=20_000, ge=1)


class ProvenanceConfig(_Section):
    """Where the labels come from; copied into the checkpoint."""

    source: str
    level_of_theory: str
    licence: str
    citation: str = ""


class TrainConfig(_Section):
    """A whole training run.

    Attributes:
        model: ``architecture`` (``pet``, the default, or ``tensornet``) and its hyperparameters.
        rotations: ``structure`` rotates each structure at random; ``atom`` each atom's
            environment on its own (one message-passing layer only), which makes the energies of
            atoms, not only their sum, nearly invariant; ``none`` leaves orientations as they are.
        frames: With ``rotations: atom``, the share of steps in which each atom is seen in a
            coordinate system made by two of its neighbours, as in ECSE, instead of at random.
            Short runs need it: under random rotations alone a network first learns to ignore
            all but distances, and is long in finding angles.
        reflections: Whether random rotations are improper half the time.
        epochs: Passes over the training frames.
        max_time: Seconds of training after which the run ends; the cosine ends with it. A run
            that reaches this limit depends on the speed of the machine, others only on ``seed``.
        patience: Validations without improvement after which the run ends.
        save_every: Seconds between saved states; the end of an epoch is always saved.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    name: str
    output: Path
    data: DataConfig
    provenance: ProvenanceConfig
    model: dict[str, Any]
    rotations: Literal["structure", "atom", "none"] = "structure"
    frames: float = Field(default=0.0, ge=0, le=1)
    reflections: bool = True
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    batch: BatchConfig = BatchConfig()
    epochs: int = Field(default=100, ge=1)
    max_time: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1)
    validate_every: int = Field(default=1, ge=1)
    save_every: float = Field(default=60.0, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    @field_validator("model")
    @classmethod
    def _known_hypers(cls, value: dict[str, Any]) -> dict[str, Any]:
        name = value.get("architecture", "pet")
        if name not in _TRAINED:
            raise ValueError(f"architecture: expected one of {list(_TRAINED)}, got {name!r}")
        chosen = ARCHITECTURES[name][1]
        known = {field.name for field in dataclasses.fields(chosen)} - _UNTRAINED
        unknown = sorted(set(value) - known - {"architecture"})
        if unknown:
            raise ValueError(f"unknown option(s) {unknown}; known are {sorted(known)}")
        options = {key: v for key, v in value.items() if key != "architecture"}
        hypers = check_hypers(chosen, {**dataclasses.asdict(chosen()), **options}, "model")
        if name == "pet" and hypers.n_targets != 1:
            raise ValueError(
                f"n_targets: expected 1, the energy that is trained on, got {hypers.n_targets}"
            )
        return value

    @model_validator(mode="after")
    def _atom_rotations_need_one_layer(self) -> TrainConfig:
        if self.rotations != "atom":
            return self
        if not isinstance(self.hypers, PETHypers):
            raise ValueError(
                f"rotations: 'atom' is for backbones that are not invariant; {self.architecture} "
                "is, use rotations: none"
            )
        if self.hypers.n_message_layers != 1:
            raise ValueError(
                "rotations: 'atom' needs model.n_message_layers: 1 (messages between differently "
                f"rotated atoms mean nothing), got {self.hypers.n_message_layers}; "
                "use rotations: structure"
            )
        return self

    @model_validator(mode="after")
    def _frames_belong_to_atoms(self) -> TrainConfig:
        if self.frames and self.rotations != "atom":
            raise ValueError(f"frames: needs rotations: atom, got rotations: {self.rotations}")
        return self

    @property
    def architecture(self) -> str:
        """Name of the backbone."""
        return str(self.model.get("architecture", "pet"))

    @property
    def hypers(self) -> PETHypers | TensorNetHypers:
        """Hyperparameters of the backbone."""
        options = {key: v for key, v in self.model.items() if key != "architecture"}
        hypers: PETHypers | TensorNetHypers = ARCHITECTURES[self.architecture][1](**options)
        return hypers


def read_config(path: Path) -> TrainConfig:
    """Read and check a training recipe.

    Args:
        path: YAML file; paths inside are relative to it.

    Raises:
        ValueError: If it is not there or no YAML mapping in UTF-8, or naming each entry that is
            missing, unknown or out of range.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the recipe, a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8; save the recipe as one") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a recipe in YAML, lines like `name: mine`")
    try:
        config = TrainConfig.model_validate(content)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']} "
            f"(got {str(item['input'])[:80]})"
            for item in error.errors()
        ]
        raise ValueError(f"{path}: {len(lines)} invalid entries:\n" + "\n".join(lines)) from None
    return _with_absolute_paths(config, path.parent)


def _with_absolute_paths(config: TrainConfig, folder: Path) -> TrainConfig:
    def absolute(source: SourceConfig) -> SourceConfig:
        return source.model_copy(update={"path": [(folder / p).resolve() for p in source.path]})

    data = config.data
    sources: dict[str, Any] = {"train": absolute(data.train)}
    if isinstance(data.validation, SourceConfig):
        sources["validation"] = absolute(data.validation)
    if data.test is not None:
        sources["test"] = absolute(data.test)
    return config.model_copy(
        update={
            "output": (folder / config.output).resolve(),
            "data": data.model_copy(update=sources),
        }
    )
