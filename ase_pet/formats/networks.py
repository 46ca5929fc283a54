"""From a description to a network: hyperparameters and weights that must fit each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ase_pet.errors import CheckpointError
from ase_pet.potentials.pet import PET, ModernPET, ModernPETHypers, PETHypers
from ase_pet.potentials.tensornet import TensorNet, TensorNetHypers

AnyBackbone = PET | ModernPET | TensorNet
_Network = TypeVar("_Network", bound=AnyBackbone)

DTYPES = {"float32": torch.float32, "float64": torch.float64}
#: Backbone and hyperparameters by the name in a file.
ARCHITECTURES: dict[str, tuple[type[AnyBackbone], type]] = {
    "pet": (PET, PETHypers),
    "pet-metatrain": (ModernPET, ModernPETHypers),
    "tensornet": (TensorNet, TensorNetHypers),
}


def check_hypers(hypers_class: type, values: Mapping[str, Any], where: str) -> Any:
    """Build hyperparameters from a dictionary that must name all of them, correctly typed.

    Raises:
        CheckpointError: If one is missing, unknown, of a wrong type or out of range.
    """
    known = {f.name: f.default for f in fields(hypers_class) if f.default is not MISSING}
    missing, unknown = sorted(known.keys() - values.keys()), sorted(values.keys() - known.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{where}: hyperparameters: missing {missing}, unknown {unknown}; the file was "
            "changed by hand or written by another version of ase_pet"
        )
    for name, default in known.items():
        kinds = (int, float) if type(default) is float else (type(default),)
        value = values[name]
        if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
            raise CheckpointError(
                f"{where}: hyperparameters: {name}: expected a finite "
                f"{type(default).__name__}, got {value!r}"
            )
    try:
        return hypers_class(**values)
    except ValueError as error:
        raise CheckpointError(f"{where}: hyperparameters: {error}") from error


#: Tensors of one network may share numbers, but not so many that memory is at risk.
_SHARED = 4


class _Uninitialised(TorchFunctionMode):
    """Skips the initialisation of weights, which are replaced or have no memory.

    On the meta device it would import a compiler, which takes longer than all else in loading.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Return the tensor as it is from functions of ``torch.nn.init``."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build(
    network: type[_Network],
    hypers: Any,
    species: Sequence[int],
    weights: Mapping[str, Any],
    where: str,
    dtype: torch.dtype,
) -> _Network:
    """Build a network and fill it with weights that must fit it exactly.

    Nothing is allocated before they are known to fit: sizes are only what a file claims.

    Raises:
        CheckpointError: If species or sizes are impossible, or a weight is missing, unexpected, of
            another shape or not finite.
    """
    if hypers.n_blocks > len(weights):
        raise CheckpointError(
            f"{where}: weights: {len(weights)} cannot fill the {hypers.n_blocks} blocks that the "
            "hyperparameters ask for; they do not belong together"
        )
    try:
        with torch.device("meta"), _Uninitialised():  # shapes without memory
            expected = network(hypers, species).state_dict()
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{where}: species or hyperparameters: {reason}") from error
    _check_weights(weights, expected, where)
    with torch.random.fork_rng(devices=[]), _Uninitialised():  # others' random numbers stay
        built = network(hypers, species)
    built.to(dtype)
    built.load_state_dict(dict(weights))
    return built


def _check_weights(weights: Mapping[str, Any], expected: Mapping[str, Tensor], where: str) -> None:
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: weights: missing {sorted(missing)}, unexpected {sorted(unexpected)}; "
            "weights and hyperparameters do not belong together"
        )
    tensors = [value for value in weights.values() if isinstance(value, Tensor)]
    storages = {s.data_ptr(): s.nbytes() for s in (value.untyped_storage() for value in tensors)}
    if sum(value.nbytes for value in tensors) > _SHARED * sum(storages.values()):
        raise CheckpointError(
            f"{where}: weights: the same numbers are used more than {_SHARED} times; the file is "
            "damaged"
        )
    for name, value in weights.items():
        if not isinstance(value, Tensor) or value.shape != expected[name].shape:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(
                f"{where}: weights: {name}: expected shape {list(expected[name].shape)}, got {got}"
            )
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{where}: weights: {name}: expected finite floating-point numbers, got NaN, "
                "infinity or another type; the training diverged or the file is damaged"
            )
