"""Networks that ``torch.compile`` turns into fused kernels, whatever the number of atoms.

What depends on the data (which edges are within the cutoffs, how many neighbours an atom has, what
is in error) is decided before, by the network's ``inputs``; what is left, ``read``, depends on
shapes alone. Sizes are symbols to the compiler, so that one compilation serves all structures and
all chunks of rotated copies. On a GPU kernels are launched together, as CUDA graphs. Those are
recorded anew for each size, and therefore sizes are padded to one of few.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.base import Backbone, takes_charge, takes_spin
from ase_pet.potentials.wrapped import Wrapped

#: What ``torch.compile`` compiles with.
BACKEND: str | Callable[..., Any] = "inductor"
#: Each size that CUDA graphs are recorded for is larger than the one before by this factor.
RATIO = 1.25


class Inputs(Protocol):
    """What a network reads."""

    def pack(self, enlarge: Callable[[int], int]) -> tuple[Tensor | None, ...]:
        """The same in plain tensors, padded by what changes nothing."""
        ...

    @staticmethod
    def unpack(*tensors: Any) -> Any:
        """From such tensors."""
        ...


@runtime_checkable
class Compilable(Backbone, Protocol):
    """A backbone in two steps, of which the second depends on shapes alone."""

    @property
    def compilable(self) -> bool:
        """Whether all that it predicts is read that way."""
        ...

    def inputs(self, graph: Graph) -> Inputs:
        """What is in a graph.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
        """
        ...

    def read(self, inputs: Any, **options: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and whatever else is predicted of atoms."""
        ...


class Compiled(Wrapped):
    """A network for evaluation, compiled when it is evaluated first.

    Compilation takes tens of seconds, a few where torch finds its result in its cache (in the
    folder that ``TORCHINDUCTOR_CACHE_DIR`` names, by default one for temporary files). Energies
    have first derivatives only. Copies and pickles are compiled again.

    Args:
        backbone: Bare, with constant weights.
        padded: Whether sizes are padded to one of few; by default where there are CUDA graphs.

    Attributes:
        symmetry: That of the backbone.
        takes_charge: As the backbone.
        takes_spin: As the backbone.

    Raises:
        ValueError: If the network cannot be compiled.
    """

    def __init__(self, backbone: Backbone, *, padded: bool | None = None) -> None:
        super().__init__(backbone)
        if not isinstance(backbone, Compilable) or not backbone.compilable:
            raise ValueError(
                "compile: this model has long-range electrostatics or charges, which are not "
                "compiled; leave compile out"
            )
        self.padded = padded
        self.symmetry = backbone.symmetry
        self.takes_charge, self.takes_spin = takes_charge(backbone), takes_spin(backbone)
        self._run: Callable[..., tuple[Tensor, dict[str, Tensor]]] | None = None

    @property
    def direct(self) -> tuple[str, ...]:
        """What the backbone has heads for, see ``potentials.direct.direct_heads``."""
        return tuple(getattr(self.backbone, "direct", ()))

    def memory(self, n_atoms: int, n_neighbors: int) -> int:
        """Estimate the bytes of one evaluation with its gradient."""
        return self.backbone.memory(n_atoms, n_neighbors)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms, in the network's dtype.

        Raises:
            UnknownSpeciesError: If an element is not among ``species``.
            ValueError: If a charge or multiplicity is beyond the model's table.
            RuntimeError: If it cannot be compiled here.
        """
        return self._evaluate(graph)

    def predict_direct(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies, and what heads say without being derivatives of them; see :meth:`predict`."""
        return self._evaluate(graph, direct=True)

    def _evaluate(self, graph: Graph, **options: bool) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(self.backbone, Compilable)
        inputs = self.backbone.inputs(graph)
        on_gpu = graph.vectors.is_cuda
        padded = on_gpu if self.padded is None else self.padded
        packed = inputs.pack(enlarge if padded else int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where it compiles, torch warns of its own ways
            if self._run is None:
                self._run = _compile(self.backbone, type(inputs), graphs=on_gpu)
            try:
                energies, tensors = self._run(*packed, **options)
            except RuntimeError as error:
                _explain(error)
                raise
        # Of a CUDA graph, the next evaluation overwrites the results.
        n = graph.n_atoms
        return energies[:n].clone(), {name: value[:n].clone() for name, value in tensors.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was compiled."""
        return {**self.__dict__, "_run": None}


def enlarge(size: int) -> int:
    """The smallest of a series of sizes that grow by :data:`RATIO` that is not below ``size``."""
    padded = 2
    while padded < size:
        padded = max(padded + 1, int(RATIO * padded))
    return padded


def _compile(network: Compilable, kind: type[Inputs], *, graphs: bool) -> Callable[..., Any]:
    """What reads packed inputs, not compiled yet."""

    def evaluate(*packed: Tensor | None, **options: bool) -> Any:
        return network.read(kind.unpack(*packed), **options)

    # Compilations are remembered, and their number limited, by code object: this one is our own.
    own = types.FunctionType(
        evaluate.__code__.replace(co_name=f"evaluate_{id(network)}"),
        evaluate.__globals__,
        closure=evaluate.__closure__,
    )
    compiled: Callable[..., Any] = torch.compile(
        own,
        fullgraph=True,
        dynamic=True,
        backend=BACKEND,
        mode="reduce-overhead" if graphs else None,
    )
    return compiled


def _explain(error: RuntimeError) -> None:
    """Say what to do about an error, if it is the compiler's."""
    from torch._dynamo.exc import BackendCompilerFailed

    if isinstance(error, BackendCompilerFailed):
        raise RuntimeError(
            f"compile: torch.compile failed here, {type(error.inner_exception).__name__}; it needs "
            "a compiler, which is g++ or what the variable CXX names on a CPU, and Triton on a "
            "GPU: install it, or leave compile out"
        ) from error
