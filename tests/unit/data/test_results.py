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
