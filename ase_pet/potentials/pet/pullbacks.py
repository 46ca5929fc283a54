r"""Operations with derivatives written by hand: each returns a value and its pullback.

The pullback of y = f(x) takes the gradient of a scalar with respect to y and returns that with
respect to x. It may overwrite what it is given. Weights have no gradients. Beside autograd, fewer
operations are dispatched, and nothing is kept that the pullbacks do not need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Pullback = Callable[[Tensor], Tensor]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Pullback]:
    """Rows [n, a] -> [n, b], with a weight [b, a] and a bias [b]."""
    return nn.functional.linear(x, weight, bias), lambda g: torch.mm(g, weight)


def silu(x: Tensor) -> tuple[Tensor, Pullback]:
    """The function x σ(x)."""
    return nn.functional.silu(x), lambda g: torch.ops.aten.silu_backward(g, x)


def mish(x: Tensor) -> tuple[Tensor, Pullback]:
    """The function x tanh(ln(1 + exp x))."""
    return nn.functional.mish(x), lambda g: torch.ops.aten.mish_backward(g, x)


def glu(x: Tensor) -> tuple[Tensor, Pullback]:
    """Halves (v, g) of rows -> v σ(g)."""
    return nn.functional.glu(x), lambda g: torch.ops.aten.glu_backward(g, x, -1)


_ACTIVATIONS = {nn.SiLU: silu, nn.Mish: mish, nn.GLU: glu}


def apply(layer: nn.Module, x: Tensor) -> tuple[Tensor, Pullback]:
    """A linear layer, norm or activation on rows."""
    if isinstance(layer, nn.Linear):
        return linear(x, layer.weight, layer.bias)
    if type(layer) in _ACTIVATIONS:
        return _ACTIVATIONS[type(layer)](x)
    return normalize(x, layer)


def rms_norm(x: Tensor, eps: float) -> tuple[Tensor, Pullback]:
    """Rows [n, d] over their root mean square, without a gain."""
    d = x.shape[1]
    r = torch.linalg.vecdot(x, x).mul_(1.0 / d).add_(eps).rsqrt_().unsqueeze(1)
    y = x * r

    def pull(g: Tensor) -> Tensor:
        along = torch.linalg.vecdot(g, y).mul_(-1.0 / d).unsqueeze(1)
        return torch.addcmul(g, along, y).mul_(r)

    return y, pull


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Pullback]:
    """Rows [n, d] without their mean, over their standard deviation, with gain and bias."""
    shape = list(norm.normalized_shape)
    y, mean, r = torch.native_layer_norm(x, shape, norm.weight, norm.bias, norm.eps)

    def pull(g: Tensor) -> Tensor:
        g = g.contiguous()
        found: Tensor = torch.ops.aten.native_layer_norm_backward(
            g, x, shape, mean, r, norm.weight, norm.bias, [True, False, False]
        )[0]
        return found

    return y, pull


def normalize(x: Tensor, norm: nn.Module) -> tuple[Tensor, Pullback]:
    """A LayerNorm or RMSNorm of rows [n, d], with all that it learnt."""
    if isinstance(norm, nn.LayerNorm):
        return layer_norm(x, norm)
    assert isinstance(norm, nn.RMSNorm)
    y, pull = rms_norm(x, _eps(norm, x))
    return y * norm.weight, lambda g: pull(g * norm.weight)


def norm_weight(x: Tensor, norm: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor, Pullback]:
    """Rows [n, a] normalised, and the weight [b, a] that they meet.

    The gain of an RMSNorm goes into the weight, which is smaller than the rows.
    """
    if isinstance(norm, nn.LayerNorm):
        y, pull = layer_norm(x, norm)
        return y, weight, pull
    assert isinstance(norm, nn.RMSNorm)
    y, pull = rms_norm(x, _eps(norm, x))
    return y, weight * norm.weight, pull


def _eps(norm: nn.RMSNorm, x: Tensor) -> float:
    return torch.finfo(x.dtype).eps if norm.eps is None else norm.eps


def perceptron(x: Tensor, layers: Iterable[nn.Module]) -> tuple[Tensor, Pullback]:
    """Layers one after the other: rows [n, a] -> [n, b]."""
    pulls: list[Pullback] = []
    for layer in layers:
        x, pull = apply(layer, x)
        pulls.append(pull)
    return x, lambda g: pull_back(pulls, g)


def pull_back(pulls: Sequence[Pullback], g: Tensor) -> Tensor:
    """Through operations that followed each other."""
    for pull in reversed(pulls):
        g = pull(g)
    return g


def attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, temperature: float
) -> tuple[Tensor, Callable[[Tensor, Sequence[Tensor]], Tensor]]:
    """Attention of the heads of all atoms; see :func:`~ase_pet.potentials.pet.tokens.attend`.

    Args:
        q: Queries, [n, m, d].
        k: Keys, [n, t, d].
        v: Values, [n, t, d].
        bias: [n, 1, t], added to the scores, over ln 2.
        temperature: Divides the scores.

    Returns:
        [n, m, d], with a pullback that fills three buffers with the gradients with respect to
        queries, keys and values, and returns that with respect to what is added, [n, t].
    """
    scale = q.shape[2] ** -0.5 / temperature
    weights, total = _exponentials(q, k, bias, scale)
    out = torch.bmm(weights, v).div_(total)

    def pull(g: Tensor, by_heads: Sequence[Tensor]) -> Tensor:
        g = g / total
        by_scores = torch.bmm(g, v.transpose(1, 2))
        by_scores.sub_(torch.linalg.vecdot(g, out).unsqueeze(2)).mul_(weights)
        by_q, by_k, by_v = by_heads
        torch.baddbmm(by_q, by_scores, k, beta=0, alpha=scale, out=by_q)
        torch.baddbmm(by_k, by_scores.transpose(1, 2), q, beta=0, alpha=scale, out=by_k)
        torch.bmm(weights.transpose(1, 2), g, out=by_v)
        return by_scores.sum(1)

    return out, pull


def _exponentials(q: Tensor, k: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Exponentials of scores [n, m, t], and their sums [n, m, 1].

    A power of 2 takes a third of the time of one of e. The largest score of each row is subtracted
    only where numbers would overflow or vanish otherwise.
    """

    def scores() -> Tensor:
        return torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale / math.log(2.0))

    if q.device.type == "cpu" and q.numel():  # elsewhere a look at numbers costs more
        weights = scores().exp2_()
        total = weights.sum(2, keepdim=True)
        low, high = total.aminmax()
        numbers = torch.finfo(q.dtype)
        if numbers.tiny / numbers.eps < float(low) and float(high) < numbers.eps / numbers.tiny:
            return weights, total
    found = scores()
    weights = found.sub_(found.amax(2, keepdim=True)).exp2_()
    return weights, weights.sum(2, keepdim=True)
