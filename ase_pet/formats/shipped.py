"""The models that come with the package, found by name from any folder."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_models() -> dict[str, Path]:
    """Names and paths of the models that come with the package.

    They lie inside an installed package, and in ``checkpoints/`` of a clone.
    """
    clone = _PACKAGE.parent
    folder = _PACKAGE / "checkpoints"
    if not folder.is_dir() and (clone / "pyproject.toml").is_file():
        folder = clone / "checkpoints"
    return {path.stem: path for path in sorted(folder.glob("*.pt"))}


def locate(path: str | Path) -> Path:
    """Path of a model: the file or folder itself or, where there is none, the shipped one.

    Args:
        path: ``"some/model.pt"``, or the name of a shipped model such as ``"pet-si"``.
    """
    path = Path(path)
    return path if path.exists() else shipped_models().get(str(path), path)
