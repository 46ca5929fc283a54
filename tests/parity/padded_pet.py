"""The original's PET written as it runs there: rows padded to the longest environment.

The original's softmax runs over the padding too; multiplying by cutoff factors and dividing by
their sum plus 1e-15 then removes it, but for the 1e-15: where padding takes nearly all of the
softmax, energies move by up to 1e-8 eV with the length of the row. ``pad_softmax=False`` leaves
padding out. Only the options of the trained reference folders are covered.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ase_pet.data import Graph


def energies(
    weights: dict[str, Tensor], hypers: dict, species: list[int], graph: Graph, *, pad_softmax: bool
) -> Tensor:
    """Atomic energies [n_atoms], eV, without self contributions, float64."""
    weights = {k.removeprefix("model.pet_model."): v.double() for k, v in weights.items()}
    n, n_heads = graph.n_atoms, hypers["TRANSFORMER_N_HEAD"]
    index = torch.tensor([species.index(z) for z in graph.numbers.tolist()])
    counts = torch.bincount(graph.centers, minlength=n)
    width = int(counts.max())
    place = torch.arange(graph.n_edges) - (counts.cumsum(0) - counts)[graph.centers]
    slot = (graph.centers, place)
    x = torch.zeros(n, width, 3, dtype=torch.float64).index_put(slot, graph.vectors)
    kinds = torch.full((n, width), len(species)).index_put(slot, index[graph.others])
    real = torch.zeros(n, width, dtype=torch.bool).index_put(slot, torch.tensor(True))
    reverse = (graph.centers[graph.reverse], place[graph.reverse])

    def linear(name: str, z: Tensor) -> Tensor:
        return functional.linear(z, weights[name + ".weight"], weights[name + ".bias"])

    def norm(name: str, z: Tensor) -> Tensor:
        return functional.layer_norm(
            z, z.shape[-1:], weights[name + ".weight"], weights[name + ".bias"]
        )

    def head(name: str, z: Tensor) -> Tensor:
        inner = functional.silu(linear(f"{name}.2", functional.silu(linear(f"{name}.0", z))))
        return linear(f"{name}.4", inner)[..., 0]

    square = x.square().sum(-1)
    r, cutoff, delta = (square + 1e-16).sqrt(), hypers["R_CUT"], hypers["CUTOFF_DELTA"]
    factor = 0.5 + 0.5 * torch.cos(math.pi * ((r - cutoff) / delta + 1.0).clamp(0.0, 1.0))
    factor = factor * real
    lengths = (square + 1e-15).sqrt()[..., None]
    geometry = lengths if hypers["USE_ONLY_LENGTH"] else torch.cat([x, lengths], -1)
    messages, total = weights["embedding.weight"][kinds], torch.zeros(n, dtype=torch.float64)
    ones = torch.ones(n, 1, dtype=torch.float64)
    for k in range(hypers["N_GNN_LAYERS"]):
        layer = f"gnn_layers.{k}"
        merged = torch.cat([linear(f"{layer}.r_embedding", geometry), messages], -1)
        tokens = linear(
            f"{layer}.compress.2", functional.silu(linear(f"{layer}.compress.0", merged))
        )
        central = weights[f"{layer}.central_embedder.weight"][index][:, None]
        tokens, factors = torch.cat([central, tokens], 1), torch.cat([ones, factor], 1)
        for b in range(hypers["N_TRANS_LAYERS"]):
            block = f"{layer}.trans.layers.{b}"
            qkv = linear(f"{block}.attention.input_linear", tokens)
            q, key, v = qkv.view(n, width + 1, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
            scores = q @ key.transpose(-1, -2) / math.sqrt(q.shape[-1])
            if not pad_softmax:
                scores = scores.masked_fill((factors == 0)[:, None, None, :], -math.inf)
            alpha = scores.softmax(-1) * factors[:, None, None, :]
            alpha = alpha / (alpha.sum(-1, keepdim=True) + 1e-15)
            mixed = (alpha @ v).transpose(1, 2).reshape(n, width + 1, -1)
            attended = tokens + linear(f"{block}.attention.output_linear", mixed)
            tokens = norm(f"{block}.norm_attention", attended)
            inner = functional.silu(linear(f"{block}.mlp.0", tokens))
            tokens = norm(f"{block}.norm_mlp", tokens + linear(f"{block}.mlp.3", inner))
        total = total + head(f"heads.{k}.model.nn", tokens[:, 0])
        total = total + (head(f"bond_heads.{k}.model.nn", tokens[:, 1:]) * factor).sum(1)
        received = tokens[:, 1:][reverse]
        messages = messages.index_put(slot, 0.5 * (messages[slot] + received))
    return total
