"""Building blocks of denoisers: attention, feed-forward, and the embedding of time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ladic.errors import UsageError


class Attention(nn.Module):
    """Multi-head attention, without masks as in LaDiC's diffuser, or causal.

    Queries come from x; keys and values are made apart, by ``keys_values``, so that those of an image are computed
    once and used in every step.

    Args:
        width: of x.
        heads: that divide it.
        cond_width: of what keys and values are made of; that of x if None.
        dropout: on attention weights.
        qk_norm: queries and keys of unit mean square, times a learned gain (Dehghani et al. 2023, "Scaling Vision
            Transformers to 22 Billion Parameters", §2).
        rotary: queries and keys turned by their positions (``rotate``).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        cond_width: int | None = None,
        dropout: float = 0.0,
        qk_norm: bool = False,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(cond_width or width, 2 * width)
        self.out = nn.Linear(width, width)
        self.rotary = rotary
        self.query_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()

    def keys_values(self, source: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Keys and values, each (B, heads, N, width / heads), of a source (B, N, C) at the positions from ``first``."""
        key, value = self.key_value(source).chunk(2, dim=-1)
        key = self.key_norm(self._split(key))
        return rotate(key, first) if self.rotary else key, self._split(value)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, causal: bool = False, first: int = 0) -> Tensor:
        """(B, L, width) from queries x (B, L, width) and ready keys and values; if ``causal``, i sees those up to i."""
        query = self.query_norm(self._split(self.query(x)))
        query = rotate(query, first) if self.rotary else query
        heads = attend(query, key, value, self.dropout if self.training else 0.0, causal)
        return self.out(heads.transpose(1, 2).flatten(2))

    def read_together(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(R, L, width) from queries x (R, L, width) and keys and values of B rows, R a multiple of B.

        Rows in a row read the same keys, as the beam of an image and its candidates do, without copies of these. A
        single key is all that there is to read, whatever the query: then nothing depends on x. (Where gradients are
        wanted the query takes part, whose own is zero: ranks expect every weight to have one.)
        """
        rows, images = x.shape[0], key.shape[0]  # not len(), which would fix the number in an exported graph
        if key.shape[2] == 1 and not torch.is_grad_enabled():
            read = self.out(value.transpose(1, 2).flatten(2))
            return read.repeat_interleave(rows // images, dim=0).expand(x.shape)
        return self(x.reshape(images, -1, x.shape[-1]), key, value).view(x.shape)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class HeadNorm(nn.Module):
    """Vectors (..., d) over the root of their mean square, in float32, times a learned gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return (F.rms_norm(x.float(), x.shape[-1:], eps=1e-6) * self.gain).to(x.dtype)


def rotate(x: Tensor, first: int = 0) -> Tensor:
    """Vectors x (..., N, d) turned by their positions first, first + 1, ... (Su et al. 2021, RoPE): (..., N, d).

    Entries i and i + d/2 are a point in the plane, turned by position * 10000^(-2i / d). The product of a query and a
    key then depends on how far apart the two are, and not on where.
    """
    half = x.shape[-1] // 2
    frequencies = torch.exp(torch.arange(half, device=x.device) * (-math.log(10000.0) / half))
    angles = torch.arange(first, first + x.shape[-2], device=x.device).unsqueeze(-1) * frequencies
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cosine - high * sine, high * cosine + low * sine], dim=-1)


def check_rotary(width: int, heads: int) -> None:
    """Refuses heads that can't be turned.

    Raises:
        UsageError: if their width is odd.
    """
    if width // heads % 2:
        raise UsageError(
            f"rotary=True, hidden_width={width}, num_heads={heads}: heads of {width // heads}, and only an even width "
            "can be turned; give another num_heads"
        )


class Modulation(nn.Linear):
    """Shift, scale and gate of several layers from a condition (B, width), all zero at first (adaLN-Zero, DiT).

    Args:
        width: of the condition and of what it changes.
        layers: that are changed.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__(width, 3 * layers * width)
        self.layers = layers
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def changes(self, condition: Tensor) -> list[tuple[Tensor, ...]]:
        """(shift, scale, gate), each (B, 1, width), of every layer."""
        parts = self(condition).unsqueeze(1).chunk(3 * self.layers, dim=-1)
        return [parts[3 * layer : 3 * layer + 3] for layer in range(self.layers)]


class KeyValueCache:
    """Keys and values of the positions that one self-attention has seen, for words that come one at a time."""

    def __init__(self) -> None:
        self.pair: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """Positions so far."""
        return 0 if self.pair is None else self.pair[0].shape[2]

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values (B, heads, positions, d), those of the new positions put behind."""
        if self.pair is not None:
            key, value = (torch.cat(both, dim=2) for both in zip(self.pair, (key, value), strict=True))
        self.pair = key, value
        return key, value

    def select(self, rows: Tensor) -> None:
        """Keeps these rows, in this order; one may come several times."""
        if self.pair is not None:
            self.pair = self.pair[0][rows], self.pair[1][rows]


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, causal: bool = False) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V for queries (B, heads, L, d) and keys and values (B, heads, N, d).

    With ``causal``, N is L and position i reads those up to i.

    This is PyTorch's fused attention, but for bfloat16 on a CPU: there, at 24 queries and 24 to 64 keys, two matrix
    products and a softmax take about a fifth of its time forwards and backwards (``benchmarks/results/attention.md``).
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=causal)
    products = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if causal:
        later = torch.ones(products.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        products = products.masked_fill(later, -torch.inf)
    weights = torch.softmax(products, dim=-1)
    return F.dropout(weights, dropout) @ value.to(weights.dtype) if dropout else weights @ value.to(weights.dtype)


class FeedForward(nn.Sequential):
    """Linear, GELU, linear: (B, L, width) to the same."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class TimeEmbedding(nn.Module):
    """Sinusoids of 1000 t (Vaswani et al. 2017; DDPM's step numbers) through two linear layers: (B,) to (B, width)."""

    def __init__(self, width: int, entries: int | None = None) -> None:
        super().__init__()
        self.width, self.entries = width, entries
        self.input = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        table = sinusoids(step_numbers(t, self.entries), self.width)
        return self.output(F.silu(self.input(table.to(self.input.weight.dtype))))


class TimeTable(nn.Module):
    """The sinusoids themselves, (B,) to (B, width), or their LayerNorm: the released code's two diffusers."""

    def __init__(self, width: int, norm: nn.Module, entries: int | None = None) -> None:
        super().__init__()
        self.width, self.entries, self.norm = width, entries, norm

    def forward(self, t: Tensor) -> Tensor:
        table = sinusoids(step_numbers(t, self.entries), self.width, exact=True)
        return self.norm(table.to(next((weight.dtype for weight in self.norm.parameters()), table.dtype)))


def step_numbers(t: Tensor, entries: int | None = None) -> Tensor:
    """What the sinusoids are taken of: 1000 t, or the number of the nearest of so many steps, 0 to entries - 1."""
    return 1000 * t if entries is None else ((entries - 1) * t.float()).round()


def sinusoids(positions: Tensor, width: int, exact: bool = False) -> Tensor:
    """Sines and cosines, interleaved, (..., width) in float32: frequency i is 10000^(-2i / width).

    PyTorch's float32 exponential is off by a rounding here and there, which ones depends on the machine; 999 times that
    is 6e-5. ``exact`` frequencies are those of the released table on any machine: rounded correctly, but for one of its
    768 at width 1536 that lies within 0.02 of the middle of two float32 numbers and was rounded up there.
    """
    device = torch.device("cpu") if exact else positions.device
    exponents = torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width)
    frequencies = torch.exp(exponents)
    if exact:
        frequencies = exponents.double().exp().float()
        if width == 1536:
            frequencies[62] = torch.nextafter(frequencies[62], torch.ones(()))
        frequencies = frequencies.to(positions.device)
    angles = positions.float().unsqueeze(-1) * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
