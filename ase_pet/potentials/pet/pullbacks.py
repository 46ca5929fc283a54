r"""Operations with derivatives written by hand: each returns a value and its pullback.

The pullback of y = f(x) takes the gradient of a scalar with respect to y and returns that with
respect to x. It may overwrite what it is given. Weights have no gradients. Beside autograd, fewer
operations are dispatched, and nothing is kept that the pullbacks do not need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Pullback = Callable[[Tensor], Tensor]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Pullback]:
    """Rows [n, a] -> [n, b], with a weight [b, a] and a bias [b]."""
    return nn.functional.linear(x, weight, bias), lambda g: g @ weight


def silu(x: Tensor) -> tuple[Tensor, Pullback]:
    """The function x σ(x)."""
    return nn.functional.silu(x), lambda g: torch.ops.aten.silu_backward(g, x)


def glu(x: Tensor) -> tuple[Tensor, Pullback]:
    """Halves (v, g) of rows -> v σ(g)."""
    return nn.functional.glu(x), lambda g: torch.ops.aten.glu_backward(g, x, -1)


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


def norm_linear(x: Tensor, norm: nn.Module, layer: nn.Linear) -> tuple[Tensor, Pullback]:
    """A norm and a linear layer after it: many rows [n, a] -> [n, b].

    The gain of an RMSNorm goes into the weight of the layer, which is smaller than the rows.
    """
    if isinstance(norm, nn.LayerNorm):
        y, pull = layer_norm(x, norm)
        weight = layer.weight
    else:
        assert isinstance(norm, nn.RMSNorm)
        y, pull = rms_norm(x, _eps(norm, x))
        weight = layer.weight * norm.weight
    return nn.functional.linear(y, weight, layer.bias), lambda g: pull(g @ weight)


def _eps(norm: nn.RMSNorm, x: Tensor) -> float:
    return torch.finfo(x.dtype).eps if norm.eps is None else norm.eps


def perceptron(x: Tensor, layers: nn.Sequential) -> tuple[Tensor, Pullback]:
    """Linear layers with SiLU between or after them: rows [n, a] -> [n, b]."""
    pulls: list[Pullback] = []
    for layer in layers:
        x, pull = linear(x, layer.weight, layer.bias) if isinstance(layer, nn.Linear) else silu(x)
        pulls.append(pull)
    return x, lambda g: pull_back(pulls, g)


def pull_back(pulls: Sequence[Pullback], g: Tensor) -> Tensor:
    """Through operations that followed each other."""
    for pull in reversed(pulls):
        g = pull(g)
    return g


def attention(
    qkv: Tensor, bias: Tensor, n_heads: int, temperature: float
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """See :func:`~ase_pet.potentials.pet.tokens.attend`.

    Args:
        qkv: [n_atoms, n_tokens, 3 d].
        bias: [n_atoms, 1, 1, n_tokens].
        n_heads: Divides d.
        temperature: Divides the scores.

    Returns:
        [n_atoms, n_tokens, d], with a pullback to ``qkv`` and to the bias [n_atoms, n_tokens].
    """
    n, t, width = qkv.shape
    d = width // (3 * n_heads)
    heads = qkv.view(n, t, 3, n_heads, d).permute(2, 0, 3, 1, 4).reshape(3, n * n_heads, t, d)
    heads[0].mul_(d**-0.5 / temperature)
    q, k, v = heads
    scores = torch.bmm(q, k.transpose(1, 2)).view(n, n_heads, t, t).add_(bias)
    alpha = scores.softmax(-1)
    out = torch.bmm(alpha.view(-1, t, t), v).view(n, n_heads, t, d)

    def pull(g: Tensor) -> tuple[Tensor, Tensor]:
        g = g.view(n, t, n_heads, d).transpose(1, 2).reshape(-1, t, d)
        by_alpha = torch.bmm(g, v.transpose(1, 2)).view_as(alpha)
        by_scores = torch._softmax_backward_data(by_alpha, alpha, -1, alpha.dtype)
        by_bias = by_scores.sum((1, 2))
        by_scores = by_scores.view(-1, t, t)
        by_heads = torch.empty_like(heads)
        torch.bmm(by_scores, k, out=by_heads[0]).mul_(d**-0.5 / temperature)
        torch.bmm(by_scores.transpose(1, 2), q, out=by_heads[1])
        torch.bmm(alpha.view(-1, t, t).transpose(1, 2), g, out=by_heads[2])
        by_qkv = by_heads.view(3, n, n_heads, t, d).permute(1, 3, 0, 2, 4)
        return by_qkv.reshape(n, t, width), by_bias

    return out.transpose(1, 2).reshape(n, t, n_heads * d), pull
