"""From labelled structures to a checkpoint, and the errors of a model."""

from ase_pet.training.config import TrainConfig, read_config
from ase_pet.training.evaluation import evaluate
from ase_pet.training.loop import train

__all__ = ["TrainConfig", "evaluate", "read_config", "train"]
