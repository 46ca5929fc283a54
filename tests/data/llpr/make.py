"""Makes the checkpoints and reference numbers of this folder with metatrain, see README.md.

python make.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from metatomic.torch import ModelOutput, systems_to_torch
from metatrain.utils.io import load_model
from metatrain.utils.neighbor_lists import (
    get_requested_neighbor_lists,
    get_system_with_neighbor_lists,
)

HERE = Path(__file__).parent
SIZES = "cutoff: 3.0, d_pet: 8, d_head: 4, d_feedforward: 8, num_heads: 2, num_attention_layers: 1"
VARIANTS = {
    "feedforward": "d_node: 12, num_gnn_layers: 1",
    "residual": (
        "d_node: 8, num_gnn_layers: 2, featurizer_type: residual, transformer_type: PostLN, "
        "activation: SiLU, normalization: LayerNorm"
    ),
}
OPTIONS = """
seed: 1
base_precision: 32
architecture: {{name: {name}, model: {{{model}}}, training: {{{training}}}}}
training_set: &data
  systems: {{read_from: data.xyz, length_unit: angstrom}}
  targets: {{energy: {{key: total, unit: eV, forces: false, stress: false}}}}
validation_set: *data
test_set: *data
"""


def structures() -> list[Atoms]:
    """Distorted molecules, half of them in a periodic box, with energies of ASE's toy EMT."""
    rng = np.random.default_rng(5)
    found = []
    for k in range(16):
        atoms = molecule(("H2O", "CH3OH", "CH4", "H2CO")[k % 4])
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        atoms.set_initial_magnetic_moments(None)
        if k % 8 >= 4:
            atoms.set_cell(np.diag([4.0, 4.5, 5.0]) + rng.normal(0.0, 0.2, (3, 3)))
            atoms.pbc = True
        molecular = atoms.copy()
        molecular.calc = EMT()
        atoms.info["total"] = molecular.get_potential_energy()
        found.append(atoms)
    return found


def train(model: str, folder: Path) -> Path:
    """One epoch of a small PET, then the wrapper around it; all on the same structures."""
    steps = {
        "pet": (f"{SIZES}, {model}", "num_epochs: 1, batch_size: 4"),
        "llpr": (
            "num_ensemble_members: {energy: 5}",
            "model_checkpoint: pet.ckpt, batch_size: 4",
        ),
    }
    for name, (hypers, training) in steps.items():
        text = OPTIONS.format(name=name, model=hypers, training=training)
        (folder / f"{name}.yaml").write_text(text)
        command = [str(Path(sys.executable).with_name("mtt")), "train", f"{name}.yaml"]
        subprocess.run([*command, "-o", f"{name}.pt"], cwd=folder, check=True)
    return folder / "llpr.ckpt"


def evaluate(path: Path, atoms: Atoms) -> dict[str, object]:
    """What the wrapped model says of one structure, in double precision."""
    model = load_model(str(path)).to(torch.float64).eval()
    system = systems_to_torch(atoms, dtype=torch.float64)
    system = get_system_with_neighbor_lists(system, get_requested_neighbor_lists(model))
    names = ("energy", "energy_uncertainty", "energy_ensemble")

    def ask(kind: str, gradients: list[str]) -> dict[str, object]:
        outputs = {name: ModelOutput(unit="eV", sample_kind=kind) for name in names}
        outputs["energy_ensemble"].explicit_gradients = gradients
        return {name: value.block() for name, value in model([system], outputs).items()}

    of_atoms, whole = ask("atom", []), ask("system", ["positions", "strain"])
    found: dict[str, object] = {
        "energy": whole["energy"].values.item(),
        "uncertainty": whole["energy_uncertainty"].values.item(),
        "uncertainties": of_atoms["energy_uncertainty"].values[:, 0].tolist(),
        "ensemble": whole["energy_ensemble"].values[0].tolist(),
        "ensemble_forces": (
            -whole["energy_ensemble"].gradient("positions").values.permute(2, 0, 1)
        ).tolist(),
    }
    if atoms.pbc.all():
        strain = whole["energy_ensemble"].gradient("strain").values[0].permute(2, 0, 1)
        found["ensemble_virials"] = strain.tolist()
    return found


def main() -> None:
    """Write everything."""
    chosen = structures()
    ase.io.write(HERE / "structures.xyz", chosen[1:8:2], format="extxyz")
    asked = ase.io.read(HERE / "structures.xyz", ":")  # as rounded as they are in the file
    reference = {}
    for name, model in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            ase.io.write(Path(folder) / "data.xyz", chosen, format="extxyz")
            made = train(model, Path(folder))
            (HERE / f"{name}.ckpt").write_bytes(made.read_bytes())
        reference[name] = [evaluate(HERE / f"{name}.ckpt", atoms) for atoms in asked]
    (HERE / "reference.json").write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
