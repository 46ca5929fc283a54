"""Settings of the two ways to weigh coordinate systems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSettings:
    """Weights of the paper's original code, kept for parity with it.

    Attributes:
        beta: Sharpness of softmin and softmax of distances, 1/Å.
        beta_weights: Sharpness of the softmax of weights.
        largest_cutoff: Å, R is the cutoff of the model or this, whichever is smaller.
        switch_width: δ_R, Å, width of radial switches.
        min_sine2: W, where the squared sine of a pair's angle begins to count.
        sine2_width: δ_W, width of that rise.
        pruning_fraction: p, pairs below this fraction of the softmax are pruned.
        pruning_width: δ_p, width of that rise, as a fraction.
        n_prunings: How often pruning is repeated.

    Source:
        Pozdnyakov & Ceriotti, NeurIPS 2023 (arXiv 2305.19302), appendix on ECSE.
    """

    name = "paper"
    beta: float = 5.0
    beta_weights: float = 1.0
    largest_cutoff: float = 10.0
    switch_width: float = 0.15
    min_sine2: float = 0.2
    sine2_width: float = 0.15
    pruning_fraction: float = 0.9
    pruning_width: float = 0.1
    n_prunings: int = 4

    def __post_init__(self) -> None:
        _check(self, may_be_zero=("min_sine2", "pruning_fraction", "n_prunings"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothSettings:
    """Weights by a smooth competition of pairs; see :mod:`ase_pet.ecse.smooth`.

    Attributes:
        beta: Sharpness of the soft minimum, 1/Å.
        reach: Å beyond the nearest neighbour within which neighbours may make a pair.
        reach_penalty: Å that a neighbour at the end of the reach counts farther than it is.
        window: Å by which a pair may score worse than the best before its weight is zero.
        axis_window: The same for an axis alone: the wider, the gentler the change from one to the
            other.
        second_window: Å by which an axis' second edge may score worse than the best.
        first_preference: How much more the first axis' distance counts than the second's.
        angle_penalty: Å for each unit of squared cosine by which a pair is not perpendicular.
        parallel_penalty: Å for each unit of the squared cosine's fourth power: keeps nearly
            parallel pairs out.
        axis_penalty: Å that an axis alone scores worse than a perpendicular pair.
        fade_width: Å below the cutoff in which edges fade.
        edge_penalty: Å for each factor e by which an edge has faded at the cutoff.
        reach_edge_penalty: The same at the end of the reach.
        distance_penalty: Å for each factor e by which the walks to an atom have faded, in the
            shared ensemble.
        sine_penalty: Å for each factor e in the squared sine, in choosing an axis' second edge.
        preference: γ, Å that a coordinate system scores better for each unit of the sum of
            directions to all neighbours along its diagonal; 0 has no preference nor prominence.
        largest_preference: G, Å, which that gain approaches where the sum is large.
        preference_range: Å over which neighbours count less and less in that sum.
        prominence: Γ, Å that all coordinate systems of an atom score better for the square of that
            sum; matters where atoms compete.
        largest_prominence: P, Å, which that gain approaches.
        shared_hops: Hops within which coordinate systems compete in the shared ensemble.

    Raises:
        ValueError: If a value is out of its range, or pairs of parallel edges, which make no
            coordinate system, could win over axes.
    """

    name = "smooth"
    beta: float = 10.0
    reach: float = 2.0
    reach_penalty: float = 4.0
    window: float = 0.4
    axis_window: float = 0.6
    second_window: float = 0.4
    first_preference: float = 0.25
    angle_penalty: float = 2.0
    parallel_penalty: float = 3.0
    axis_penalty: float = 4.0
    fade_width: float = 1.0
    edge_penalty: float = 0.5
    reach_edge_penalty: float = 0.1
    distance_penalty: float = 0.5
    sine_penalty: float = 0.3
    preference: float = 0.0
    largest_preference: float = 12.0
    preference_range: float = 4.0
    prominence: float = 0.0
    largest_prominence: float = 4.0
    shared_hops: int = 2

    def __post_init__(self) -> None:
        penalties = [name for name in asdict(self) if name.endswith("_penalty")]
        _check(self, may_be_zero=("first_preference", "preference", "prominence", *penalties))
        parallel = self.angle_penalty + self.parallel_penalty
        if parallel <= self.axis_penalty + self.window:
            raise ValueError(
                "angle_penalty and parallel_penalty: expected more in sum than axis_penalty + "
                f"window = {self.axis_penalty + self.window:g}, got {parallel:g}: parallel edges "
                "would win over axes, and make no coordinate system"
            )


Settings = PaperSettings | SmoothSettings


def _check(settings: Settings, *, may_be_zero: Sequence[str]) -> None:
    for field in fields(settings):
        name, value = field.name, getattr(settings, field.name)
        kind, what = (Integral, "an integer") if field.type == "int" else (Real, "a finite number")
        is_number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < 0 or (value == 0 and name not in may_be_zero):
            wanted = "at least 0" if name in may_be_zero else "more than 0"
            raise ValueError(f"{name}: expected {what}, {wanted}, got {value!r}")


#: What a name stands for: gentle forces, few coordinate systems, the paper's original code, and
#: what "smooth" stood for in files of format version 3 and before.
PRESETS: dict[str, Settings] = {
    "smooth": SmoothSettings(),
    "lean": SmoothSettings(window=0.6, preference=12.0, prominence=10.0),
    "paper": PaperSettings(),
    "smooth-3": SmoothSettings(
        reach=1.5,
        reach_penalty=3.0,
        axis_window=0.8,
        second_window=0.8,
        parallel_penalty=2.0,
        axis_penalty=2.8,
        edge_penalty=0.1,
        sine_penalty=1.0,
    ),
}
#: The default: ``"lean"`` for the shared ensemble, ``"smooth"`` for the others.
AUTO = "auto"


def settings(weights: str | Settings, ensemble: str = "local") -> Settings:
    """Resolve a preset's name.

    Args:
        weights: A name, ``"auto"``, or settings.
        ensemble: For which they are wanted.

    Raises:
        ValueError: If there is no preset of this name.
    """
    if isinstance(weights, PaperSettings | SmoothSettings):
        return weights
    if weights == AUTO:
        weights = "lean" if ensemble == "shared" else "smooth"
    if not isinstance(weights, str) or weights not in PRESETS:
        names = ", ".join(repr(name) for name in (AUTO, *PRESETS))
        raise ValueError(f"weights: expected one of {names} or settings, got {weights!r}")
    return PRESETS[weights]


def describe(weights: Settings) -> dict[str, Any]:
    """Plain values of the settings, with the name of their kind, for checkpoints and summaries.

    The kind of ``"lean"`` is "smooth": its values tell them apart.
    """
    return {"weights": weights.name, **asdict(weights)}
