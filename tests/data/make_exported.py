"""Make the small exported models in this folder, where metatrain is installed; see README.md."""

from __future__ import annotations

import io
import json
import lzma
import pickletools
import sys
import zipfile
from pathlib import Path

import torch
from ase import Atoms
from metatensor.torch import TensorBlock, TensorMap, save_buffer
from metatomic_ase import MetatomicCalculator
from metatrain.pet import PET
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import get_energy_target_info

HERE = Path(__file__).parent
REFERENCE = HERE / "exported.json"
SPECIES = [1, 6, 8]
POSITIONS = [[0, 0, 0], [1.2, 0.1, 0], [-0.5, 1.0, 0.2], [-0.4, -0.7, 0.8], [1.5, -0.6, 0.8]]
#: What differs from metatrain's defaults; an older version leaves out what it does not know.
COMMON = {"cutoff": 4.5, "d_pet": 4, "d_head": 6, "d_node": 8, "d_feedforward": 10, "num_heads": 2}
OPTIONS = {
    "pet_exported": {
        "num_attention_layers": 1,
        "zbl": True,
        "system_conditioning": True,
        "max_charge": 2,
        "max_spin_multiplicity": 3,
        "num_neighbors_adaptive": 3,
        "cutoff_width_adaptive": 0.8,
        "attention_temperature": 1.5,
    },
    "pet_exported_llpr": {"num_attention_layers": 1, "num_gnn_layers": 1},
    "pet_exported_old": {"num_attention_layers": 2, "zbl": True},
}


def energy_target(name: str):
    about = {"unit": "eV", "quantity": "energy"}
    try:
        return get_energy_target_info(name, about)
    except TypeError:
        return get_energy_target_info(about)


def made(name: str) -> PET:
    known = get_default_hypers("pet")["model"]
    options = {k: v for k, v in (COMMON | OPTIONS[name]).items() if k in known}
    targets = {"energy": energy_target("energy")}
    if name == "pet_exported":
        targets["energy/other"] = energy_target("energy/other")
    info = DatasetInfo(length_unit="angstrom", atomic_types=SPECIES, targets=targets)
    torch.manual_seed(1)
    model = PET(known | options, info)
    for weights in model.parameters():
        weights.data = torch.randn_like(weights) / weights.shape[-1] ** 0.5
    for k, target in enumerate(targets):
        baseline = model.additive_models[0]
        energies = torch.tensor([-13.6, -1030.25, -2041.125])[:, None] + k
        filled = replaced(baseline.model.weights[target], energies.double())
        baseline.model.weights[target] = filled
        baseline.register_buffer(f"{target}_composition_buffer", save_buffer(filled))
        if hasattr(model.scaler, "scales"):
            model.scaler.scales.fill_(0.75)
            continue
        for kind, scale in (("per_target_", 0.75), ("per_property_", 2.0), ("", 1.5)):
            maps = getattr(model.scaler.model, f"{kind}scales")
            maps[target] = replaced(maps[target], torch.tensor([[scale]], dtype=torch.float64))
            model.scaler.register_buffer(f"{target}_{kind}scaler_buffer", save_buffer(maps[target]))
    return model


def replaced(old: TensorMap, values: torch.Tensor) -> TensorMap:
    block = old.block()
    new = TensorBlock(values.contiguous(), block.samples, block.components, block.properties)
    return TensorMap(old.keys, [new])


def wrapped(model: PET) -> torch.nn.Module:
    from metatrain.llpr.model import LLPRUncertaintyModel

    hypers = get_default_hypers("llpr")["model"] | {"num_ensemble_members": {"energy": 3}}
    wrapper = LLPRUncertaintyModel(hypers, model.dataset_info)
    wrapper.set_wrapped_model(model)
    n = wrapper.ll_feat_size
    wrapper.cholesky_energy_uncertainty.copy_(torch.tril(torch.rand(n, n)) + torch.eye(n))
    wrapper.multiplier_energy_uncertainty.fill_(0.5)
    return wrapper


def stripped(path: Path) -> bytes:
    """The archive without its program, without prose and without padding."""
    content = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            inside, data = name.split("/", 1)[1], old.read(name)
            if inside == "data.pkl":
                data = without_prose(data)
            if not inside.startswith(("code/", "extra/", ".data/")):
                new.writestr(zipfile.ZipInfo(f"model/{inside}"), data)
    return content.getvalue()


def without_prose(pickled: bytes) -> bytes:
    """The same pickle with empty descriptions, and addresses as the only references."""
    found, last = b"", 0
    for instruction, text, place in pickletools.genops(pickled):
        if instruction.name == "BINUNICODE" and text.startswith("{") and '"class"' in text:
            about = json.loads(text, object_hook=blanked)
            new = json.dumps(about).encode()
            found += pickled[last:place] + b"X" + len(new).to_bytes(4, "little") + new
            last = place + 5 + len(text.encode())
    return found + pickled[last:]


def blanked(about: dict) -> dict:
    if "description" in about:
        about["description"] = ""
    for kind, references in about.get("references", {}).items():
        about["references"][kind] = [r for r in references if r.startswith("https://")]
    return about


def main(name: str) -> None:
    dtype = torch.float32 if name.endswith("old") else torch.float64
    model = made(name).eval().to(dtype)
    path = Path(f"{name}.pt")
    (wrapped(model) if name.endswith("llpr") else model).export().save(str(path))
    atoms = Atoms("COH3", POSITIONS, info={"charge": -1, "spin": 2})
    atoms.calc = MetatomicCalculator(str(path), device="cpu")
    numbers = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().tolist()}
    known = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    REFERENCE.write_text(json.dumps(known | {name: numbers}, indent=1) + "\n")
    (HERE / f"{name}.pt.xz").write_bytes(lzma.compress(stripped(path), preset=9))


if __name__ == "__main__":
    main(sys.argv[1])
