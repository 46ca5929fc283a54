from importlib.util import find_spec

import pytest

from ase_pet.errors import NeighborError
from ase_pet.neighbors import choice, make_search
from ase_pet.neighbors.brute_force import brute_force
from ase_pet.neighbors.search import Search


def name_of(search: object) -> str:
    assert isinstance(search, Search)
    return search.name


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    def find(name: str) -> object:
        return None if name in packages else find_spec(name)

    monkeypatch.setattr(choice, "find_spec", find)
    if "torch_cluster" in packages:
        monkeypatch.setattr(choice.torch_cluster, "kernel_for", lambda device_type: None)


def test_names() -> None:
    assert name_of(make_search("cell_list")) == "cell_list"
    assert make_search("brute_force") is brute_force


@pytest.mark.skipif(find_spec("vesin") is None, reason="vesin is not installed")
def test_auto_is_vesin_on_a_cpu() -> None:
    assert name_of(make_search()) == "vesin"
    assert name_of(make_search("auto", device="cpu")) == "vesin"


def test_auto_without_packages_is_the_cell_list(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "vesin", "torch_cluster")
    for device in ("cpu", "cuda", "cuda:1", "mps"):
        assert name_of(make_search("auto", device=device)) == "cell_list"


def test_auto_on_cuda_is_torch_cluster_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice.torch_cluster, "kernel_for", lambda device_type: object())
    assert name_of(make_search("auto", device="cuda")) == "torch_cluster"


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"neighbors: expected one of auto.*got 'matscipy'"):
        make_search("matscipy")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("vesin", r"pip install vesin"), ("torch_cluster", r"pip install ase-pet\[cluster\]")],
)
def test_missing_package_says_how_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    without(monkeypatch, name)
    with pytest.raises(NeighborError, match=f"'{name}' is not installed.*{remedy}"):
        make_search(name)
