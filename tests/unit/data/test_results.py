from __future__ import annotations

import pytest
import torch

from ase_pet.data import Results


def values(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    shapes = {
        "energies": (3,),
        "forces": (3, 3),
        "virials": (3, 3, 3),
        "energy": (2,),
        "virial": (2, 3, 3),
    }
    return {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", list(values()))
def test_shapes_and_dtypes_are_checked(name: str) -> None:
    good = values()
    assert getattr(Results(**good), name) is good[name]
    with pytest.raises(ValueError, match=f"{name}: expected dtype torch.float64"):
        Results(**{**good, name: good[name].float()})
    longer = torch.zeros(5, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"{name}: expected shape"):
        Results(**{**good, name: longer})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["energy", "forces", "virial", "dipole"])
def test_the_first_structure_that_is_not_finite_is_found(name: str, bad: float) -> None:
    index = torch.tensor([0, 1, 1])
    tensors = {"dipole": torch.zeros(2, 3, dtype=torch.float64)}
    results = Results(**values(), tensors=tensors)
    assert results.first_not_finite(index, virial=True) is None
    value = tensors[name] if name in tensors else getattr(results, name)
    value[-1] = bad
    assert results.first_not_finite(index, virial=True) == 1
    assert results.first_not_finite(index, virial=False) == (None if name == "virial" else 1)
    value[0] = -bad  # with the other infinity
    assert results.first_not_finite(index, virial=True) == 0


def test_numbers_whose_sum_overflows_are_finite() -> None:
    results = Results(**values())
    results.forces.fill_(1e308)
    assert results.first_not_finite(torch.tensor([0, 1, 1]), virial=True) is None
