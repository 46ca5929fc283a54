"""What ML-PEG's registry names: a calculator whose precision the benchmark chooses."""

from __future__ import annotations

import pytest

from ase_pet.interfaces.ml_peg import calculator


def test_benchmarks_choose_the_precision() -> None:
    assert calculator("pet-emt", device="cpu").engine.dtype == "float32"  # the checkpoint's
    made = calculator("pet-emt", device="cpu", default_dtype="float64", symmetry=None)
    assert made.engine.dtype == "float64"
    assert made.parameters["symmetry"] is None


def test_options_are_named() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'dtype'"):
        calculator("pet-emt", dtype="float64")
