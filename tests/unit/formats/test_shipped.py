"""Shipped models are found by name, files come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from ase_pet.errors import CheckpointError
from ase_pet.formats import load, shipped


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that carries two models."""
    folder = tmp_path / "site" / "ase_pet"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("pet-a.pt", "pet-b.pt"):
        (folder / "checkpoints" / name).write_bytes(b"")
    monkeypatch.setattr(shipped, "_PACKAGE", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_models_of_an_installed_package_are_found_by_name(package: Path) -> None:
    assert list(shipped.shipped_models()) == ["pet-a", "pet-b"]
    assert shipped.locate("pet-b") == package / "checkpoints" / "pet-b.pt"


def test_models_of_a_clone_are_found_by_name(package: Path) -> None:
    (package / "checkpoints").rename(package.parent / "checkpoints")
    assert shipped.shipped_models() == {}  # a folder that happens to lie beside the package
    (package.parent / "pyproject.toml").write_text("")
    assert shipped.locate("pet-a") == package.parent / "checkpoints" / "pet-a.pt"


def test_a_file_comes_before_a_shipped_model(package: Path) -> None:
    Path("pet-a").write_bytes(b"mine")
    assert shipped.locate("pet-a") == Path("pet-a")


@pytest.mark.usefixtures("package")
def test_an_unknown_name_lists_the_shipped_models() -> None:
    with pytest.raises(CheckpointError, match=r"pet-c: no such file .*\(pet-a, pet-b\)"):
        load("pet-c")
