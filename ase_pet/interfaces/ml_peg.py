"""ML-PEG: a model as its registry of models names one.

In a file for the option ``--models-file`` of its command ``ml_peg``:

    pet-emt:
      module: ase_pet.interfaces.ml_peg
      class_name: calculator
      device: cpu
      trained_on_dispersion: false
      kwargs: {model: pet-emt}
"""

from __future__ import annotations

from ase_pet.interfaces.ase_calculator import PETCalculator


def calculator(
    model: str,
    *,
    device: str = "auto",
    default_dtype: str | None = None,
    symmetry: str | None = "O(3)",
    ensemble: str = "auto",
    weights: str = "auto",
) -> PETCalculator:
    """Make the calculator; benchmarks choose ``default_dtype``, which is its ``dtype``.

    ML-PEG refuses options that are not named here; they mean what they do in
    :class:`~ase_pet.interfaces.ase_calculator.PETCalculator`.
    """
    return PETCalculator(
        model,
        device=device,
        dtype=default_dtype,
        symmetry=symmetry,
        ensemble=ensemble,
        weights=weights,
    )
