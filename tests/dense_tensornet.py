"""TensorNet as its equations have it: full 3×3 matrices, one for every edge and channel.

It shares nothing with the network but weights and hyperparameters, and is slow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ase_pet.data import Graph
from ase_pet.potentials.tensornet import TensorNet

EYE = torch.eye(3, dtype=torch.float64)


def energies(net: TensorNet, graph: Graph) -> Tensor:
    """Energies [n_atoms], eV, without total charge or predicted charges."""
    h, w = net.hypers, {k: v.double() for k, v in net.state_dict().items()}
    act = {
        "silu": functional.silu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "mish": functional.mish,
        "shifted_softplus": lambda x: torch.log((1.0 + x.exp()) / 2.0),
    }[h.activation]
    d, n = h.n_units, graph.n_atoms
    i, j, v = graph.centers, graph.others, graph.vectors
    if h.self_loops:
        atoms = torch.arange(n)
        i, j = torch.cat([i, atoms]), torch.cat([j, atoms])
        v = torch.cat([v, v.new_zeros(n, 3)])
    r = torch.where((v == 0).all(1), 0.0, v.norm(dim=1))
    u = torch.where(r[:, None] > 0, v / r[:, None].clamp_min(1e-9), 0.0)
    functions, f = radial(h, w, r), envelope(h, r)[:, None]

    def linear(x: Tensor, name: str) -> Tensor:
        out = x @ w[f"{name}.weight"].T
        return out + w[f"{name}.bias"] if f"{name}.bias" in w else out

    def mix(x: Tensor, weight: Tensor) -> Tensor:
        return torch.einsum("naxy,ba->nbxy", x, weight)

    def add_up(values: Tensor) -> Tensor:
        return values.new_zeros(n, *values.shape[1:]).index_add(0, i, values)

    table = w["embedding.species.weight"][
        torch.searchsorted(torch.tensor(net.species), graph.numbers)
    ]
    z = linear(torch.cat([table[i], table[j]], 1), "embedding.pair")
    filters = (f * linear(functions, "embedding.filters")).view(-1, 3, d) * z[:, None]
    skew = torch.linalg.cross(EYE[None].expand(len(u), 3, 3), u[:, None].expand(-1, 3, -1))
    skew = -skew.transpose(1, 2)  # column k is e_k × u, and [u]× e_k = u × e_k
    outer = u[:, :, None] * u[:, None, :] - u.square().sum(1)[:, None, None] / 3 * EYE
    shapes = [EYE.expand(len(u), 3, 3), skew, outer]
    parts = [add_up(filters[:, k, :, None, None] * s[:, None]) for k, s in enumerate(shapes)]
    norm = (parts[0] + parts[1] + parts[2]).square().sum((2, 3))
    norm = functional.layer_norm(norm, (d,), w["embedding.norm.weight"], w["embedding.norm.bias"])
    gate = act(linear(act(linear(norm, "embedding.gate.0")), "embedding.gate.2")).view(n, 3, d)
    x = sum(
        gate[:, k, :, None, None] * mix(parts[k], w["embedding.mix.weight"][k]) for k in range(3)
    )
    for layer in range(h.n_layers):
        name = f"layers.{layer}"
        e = functions
        for k in (0, 2, 4):
            e = act(linear(e, f"{name}.filters.{k}"))
        e = (f * e).view(-1, 3, d)
        x = x / (x.square().sum((2, 3)) + 1)[:, :, None, None]
        y = [mix(p, w[f"{name}.mix_in.weight"][k]) for k, p in enumerate(decompose(x))]
        source = i if h.messages == "center" else j
        m = sum(add_up(e[:, k, :, None, None] * y[k][source]) for k in range(3))
        y = y[0] + y[1] + y[2]
        p = m @ y + y @ m if h.group == "O(3)" else 2 * y @ m
        size = (p.square().sum((2, 3)) + 1)[:, :, None, None]
        p = [mix(q / size, w[f"{name}.mix_out.weight"][k]) for k, q in enumerate(decompose(p))]
        p = p[0] + p[1] + p[2]
        x = x + p + p @ p
    norms = torch.cat([p.square().sum((2, 3)) for p in decompose(x)], 1)
    norms = functional.layer_norm(norms, (3 * d,), w["readout.norm.weight"], w["readout.norm.bias"])
    x = linear(norms, "readout.linear")
    if h.readout == "perceptron":
        out = head(act(x), w, "readout.values", h.readout_depth, act)
    else:
        out = head(x, w, "readout.values", h.readout_depth, functional.silu)
        out = out * head(x, w, "readout.gates", h.readout_depth, functional.silu).sigmoid()
    sizes = torch.bincount(graph.system_index)[graph.system_index]
    return h.energy_scale * out + h.energy_shift / sizes


def head(x: Tensor, w: dict[str, Tensor], name: str, depth: int, act) -> Tensor:
    for k in range(0, 2 * depth, 2):
        x = act(x @ w[f"{name}.{k}.weight"].T + w[f"{name}.{k}.bias"])
    return (x @ w[f"{name}.{2 * depth}.weight"].T + w[f"{name}.{2 * depth}.bias"])[:, 0]


def decompose(x: Tensor) -> list[Tensor]:
    trace = x.diagonal(dim1=2, dim2=3).sum(2)[:, :, None, None] / 3 * EYE
    skew = (x - x.transpose(2, 3)) / 2
    return [trace, skew, (x + x.transpose(2, 3)) / 2 - trace]


def envelope(h, r: Tensor) -> Tensor:
    low, high = h.inner_cutoff, h.cutoff
    if low == 0:
        return torch.where(r < high, 0.5 * (torch.cos(math.pi * r / high) + 1), 0.0)
    bump = 0.5 * (torch.cos(math.pi * (2 * (r - low) / (high - low) + 1)) + 1)
    return torch.where((r > low) & (r < high), bump, 0.0)


def radial(h, w: dict[str, Tensor], r: Tensor) -> Tensor:
    r = r[:, None]
    if h.rbf == "gaussian":
        return torch.exp(-w["radial.gammas"] * (r - w["radial.means"]) ** 2)
    if h.rbf == "exponential":
        t = torch.exp(5 / (h.cutoff - h.inner_cutoff) * (h.inner_cutoff - r))
        f = torch.where(r < h.cutoff, 0.5 * (torch.cos(math.pi * r / h.cutoff) + 1), 0.0)
        return f * torch.exp(-w["radial.betas"] * (t - w["radial.means"]) ** 2)
    R, n = h.cutoff, h.n_functions
    safe = torch.where(r > 0, r, 1.0)

    def wave(k: int) -> Tensor:
        q = k * math.pi / R
        return torch.where(r > 0, torch.sin(q * safe) / safe, q)

    if h.rbf == "bessel":
        return torch.cat([math.sqrt(2 / R) * wave(k) for k in range(1, n + 1)], 1)
    # Gram-Schmidt of f_n ~ j0((n+1)πr/R) + j0((n+2)πr/R), in the metric of r² dr.
    found: list[Tensor] = []
    d, previous = 1.0, None
    for m in range(n):
        scale = (-1) ** m * math.sqrt(2) * math.pi / R**1.5 * (m + 1) * (m + 2)
        scale /= math.sqrt((m + 1) ** 2 + (m + 2) ** 2)
        g = scale * (wave(m + 1) * R / ((m + 1) * math.pi) + wave(m + 2) * R / ((m + 2) * math.pi))
        if previous is not None:
            e = m**2 * (m + 2) ** 2 / (4 * (m + 1) ** 4 + 1)
            g = g + math.sqrt(e / d) * previous
            d = 1 - e / d
            g = g / math.sqrt(d)
        previous = g
        found.append(g)
    return torch.cat(found, 1)
