"""Exceptions that a caller may want to catch; each message says what to do."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A model file cannot be read, is damaged, foreign, or asks for something unsupported."""


class UnknownSpeciesError(ValueError):
    """A structure holds an element that the model was not trained on."""


class NeighborError(RuntimeError):
    """A neighbour list cannot be built: no memory, or a search that would have been truncated."""


class GeometryError(ValueError):
    """Positions or cell make no physical system: not finite, coincident atoms, zero volume."""
