from __future__ import annotations

import pytest

from ase_pet import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.CheckpointError, ValueError),
        (errors.UnknownSpeciesError, ValueError),
        (errors.GeometryError, ValueError),
        (errors.NeighborError, RuntimeError),
    ],
)
def test_callers_who_know_only_builtins_can_catch_them(error: type, builtin: type) -> None:
    with pytest.raises(builtin, match="what to do"):
        raise error("what to do")


def test_they_can_be_told_apart() -> None:
    kinds = [errors.CheckpointError, errors.UnknownSpeciesError, errors.GeometryError]
    kinds.append(errors.NeighborError)
    for kind in kinds:
        assert not any(issubclass(kind, other) for other in kinds if other is not kind)
