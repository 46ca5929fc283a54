import pytest
import torch

from ase_pet.errors import NeighborError
from ase_pet.neighbors import memory
from ase_pet.neighbors.memory import available_memory, memory_errors, require_memory

CPU = torch.device("cpu")


def test_available_memory_is_known_and_sensible() -> None:
    assert available_memory(CPU) > 2**20


def test_for_a_small_list_the_free_memory_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(memory, "available_memory", lambda device: asked.append(device) or 2.0**40)
    require_memory("pairs", 1e3, 250, CPU)
    assert not asked
    require_memory("pairs", 1e9, 250, CPU)
    assert asked == [CPU]


def test_too_little_memory_names_need_have_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 2.0**30)
    require_memory("pairs", 2**22, 250, CPU)
    with pytest.raises(NeighborError) as caught:
        require_memory("pairs", 2**23, 256, CPU)
    assert "about 8.4e+06 pairs need about 2 GiB, but 1 GiB are free on cpu" in str(caught.value)
    assert "use a shorter cutoff" in str(caught.value)


def test_container_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_container_memory", lambda: 123.0)
    assert available_memory(CPU) == 123.0


def test_failed_allocations_become_neighbor_errors() -> None:
    with (
        pytest.raises(NeighborError, match="out of memory for 7 atoms and cutoff 5 Å"),
        memory_errors(7, 5.0),
    ):
        torch.empty(2**60, dtype=torch.int8)
    with pytest.raises(NeighborError), memory_errors(7, 5.0):
        raise MemoryError


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_errors(7, 5.0):
        raise RuntimeError("shape")
