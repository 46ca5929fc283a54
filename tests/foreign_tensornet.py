"""Writes our TensorNets as other codes do, so that their importers have something to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from ase_pet.potentials.tensornet import TensorNet


def layout(net: TensorNet, prefix: str, *, part_fastest: bool, reverse: bool, flip: bool) -> dict:
    """Weights of all but radial basis and output network under the names of the other codes.

    Args:
        net: The network.
        prefix: Put before all names.
        part_fastest: Store fused factors as (channel, part).
        reverse: Embed edges as (neighbour, centre).
        flip: Vectors point to the centre.
    """
    w, found = net.state_dict(), {}

    def put(theirs: str, ours: str, fused: bool = False) -> None:
        for kind in ("weight", "bias"):
            value = w[f"{ours}.{kind}"]
            if fused and part_fastest:
                value = value.view(3, -1, *value.shape[1:]).transpose(0, 1).flatten(0, 1)
            found[f"{prefix}{theirs}.{kind}"] = value.clone()

    emb = "tensor_embedding."
    found[f"{prefix}{emb}emb.weight"] = w["embedding.species.weight"].clone()
    put(emb + "emb2", "embedding.pair")
    if reverse:
        halves = found[f"{prefix}{emb}emb2.weight"].chunk(2, 1)
        found[f"{prefix}{emb}emb2.weight"] = torch.cat(halves[::-1], 1)
    for kind in ("weight", "bias"):
        for k, part in enumerate(w[f"embedding.filters.{kind}"].chunk(3)):
            sign = -1.0 if flip and k == 1 else 1.0
            found[f"{prefix}{emb}distance_proj{k + 1}.{kind}"] = sign * part
    put(emb + "init_norm", "embedding.norm")
    put(emb + "linears_scalar.0", "embedding.gate.0")
    put(emb + "linears_scalar.1", "embedding.gate.2", fused=True)
    mixes = [(emb, "embedding.mix", 0)]
    for n in range(net.hypers.n_layers):
        for k in range(3):
            put(f"layers.{n}.linears_scalar.{k}", f"layers.{n}.filters.{2 * k}", fused=k == 2)
        mixes += [(f"layers.{n}.", f"layers.{n}.mix_in", 0)]
        mixes += [(f"layers.{n}.", f"layers.{n}.mix_out", 3)]
    for theirs, ours, first in mixes:
        for k in range(3):
            name = f"{prefix}{theirs}linears_tensor.{first + k}.weight"
            found[name] = w[f"{ours}.weight"][k].clone()
    put("out_norm", "readout.norm")
    put("linear", "readout.linear")
    return found


def renamed(net: TensorNet, ours: str, theirs: str) -> dict[str, Tensor]:
    w = net.state_dict()
    return {theirs + k[len(ours) :]: v.clone() for k, v in w.items() if k.startswith(ours)}


def write_matgl(
    net: TensorNet,
    folder: Path,
    *,
    module: str = "matgl.models._tensornet_pyg",
    version: int = 1,
    name: str = "TensorNet",
    extra: dict[str, Tensor] | None = None,
    **changed: Any,
) -> Path:
    """A folder of MatGL; ``changed`` replaces arguments of the model."""
    h = net.hypers
    reverse = version == 1
    state = layout(net, "model.", part_fastest=True, reverse=reverse, flip=reverse)
    for part, theirs in (("values", "layers"), ("gates", "gates")):
        state |= renamed(net, f"readout.{part}.", f"model.final_layer.gated.{theirs}.")
    radial = {"gaussian": {"means": "centers"}, "exponential": {"means": "means", "betas": "betas"}}
    for ours, theirs in radial.get(h.rbf, {}).items():
        state[f"model.bond_expansion.rbf.{theirs}"] = net.state_dict()[f"radial.{ours}"].clone()
    if "bessel" in h.rbf:
        state["model.bond_expansion.rbf.cutoff"] = torch.tensor(h.cutoff)
    state["data_mean"] = torch.tensor(h.energy_shift, dtype=torch.float64)
    state["data_std"] = torch.tensor(h.energy_scale, dtype=torch.float64)
    kinds = {"gaussian": "Gaussian", "exponential": "ExpNorm"}
    arguments = {
        "element_types": [chemical_symbols[z] for z in net.species],
        "units": h.n_units,
        "nblocks": h.n_layers,
        "num_rbf": h.n_functions,
        "max_n": h.n_functions,
        "max_l": 1,
        "rbf_type": kinds.get(h.rbf, "SphericalBessel"),
        "use_smooth": h.rbf == "smooth_bessel",
        "width": float(net.radial.gammas[0]) if h.rbf == "gaussian" else 0.5,
        "activation_type": "swish",
        "cutoff": h.cutoff,
        "equivariance_invariance_group": h.group,
        "is_intensive": False,
        "ntargets": 1,
        **changed,
    }
    inner = {"@class": name, "@module": module, "@model_version": version, "init_args": arguments}
    described = {"@class": "Potential", "@module": "matgl.apps.pes", "kwargs": {"model": inner}}
    folder.mkdir(exist_ok=True)
    torch.save(state | (extra or {}), folder / "state.pt")
    (folder / "model.json").write_text(json.dumps(described))
    return folder


def write_torchmd(
    net: TensorNet,
    path: Path,
    *,
    old: bool = False,
    extra: dict[str, Tensor] | None = None,
    **changed: Any,
) -> Path:
    """A checkpoint of TorchMD-NET; ``changed`` replaces hyperparameters."""
    h, prefix = net.hypers, "model.representation_model."
    state = layout(net, prefix, part_fastest=old, reverse=False, flip=True)
    rows = state[f"{prefix}tensor_embedding.emb.weight"]
    table = torch.zeros(10, h.n_units, dtype=rows.dtype)
    table[list(net.species)] = rows
    state[f"{prefix}tensor_embedding.emb.weight"] = table
    layers = "" if old else "layers."
    state |= renamed(net, "readout.values.", f"model.output_model.output_network.{layers}")
    if h.rbf == "gaussian":
        state[f"{prefix}distance_expansion.offset"] = net.radial.means.clone()
        state[f"{prefix}distance_expansion.coeff"] = -net.radial.gammas[0].clone()
    else:
        state |= renamed(net, "radial.", f"{prefix}distance_expansion.")
    state["model.mean"] = torch.tensor(h.energy_shift, dtype=torch.float64)
    state["model.std"] = torch.tensor(h.energy_scale, dtype=torch.float64)
    names = {"shifted_softplus": "ssp"}
    options = {
        "model": "tensornet",
        "embedding_dimension": h.n_units,
        "num_layers": h.n_layers,
        "num_rbf": h.n_functions,
        "rbf_type": "gauss" if h.rbf == "gaussian" else "expnorm",
        "activation": names.get(h.activation, h.activation),
        "cutoff_lower": h.inner_cutoff,
        "cutoff_upper": h.cutoff,
        "equivariance_invariance_group": h.group,
        "output_model": "Scalar",
        "reduce_op": "add",
        "prior_model": None,
        **({"check_errors": True} if old else {}),
        **changed,
    }
    torch.save({"hyper_parameters": options, "state_dict": state | (extra or {})}, path)
    return path
