"""The released LaDiC's arithmetic in NumPy float64, written straight from its description; imported by the tests.

Nothing here comes from our package: weights are a dictionary of arrays under the released names. Section numbers are
those of the description (``released_code.md`` in ../shared): A modules, B target latent, C diffusion, D losses,
E inference.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def linear(w: Weights, name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: Array, eps: float = 1e-12) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax(x: Array) -> Array:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def attention(query: Array, key: Array, value: Array, heads: int, keep: Array | None = None) -> Array:
    """Softmax attention of (B, L, d) over (B, N, d); ``keep`` (B, N) is 0 where a key is masked."""

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = split(query), split(key), split(value)
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
    if keep is not None:
        scores = np.where(keep[:, None, None, :] > 0, scores, -np.inf)
    return (softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(query.shape)


def bert_attention(w: Weights, name: str, x: Array, source: Array, heads: int, keep: Array | None = None) -> Array:
    """A BERT attention with its residual and LayerNorm."""
    q, k, v = (
        linear(w, f"{name}.self.{part}", given) for part, given in (("query", x), ("key", source), ("value", source))
    )
    attended = linear(w, f"{name}.output.dense", attention(q, k, v, heads, keep))
    return layer_norm(w, f"{name}.output.LayerNorm", attended + x)


def bert_feed_forward(w: Weights, name: str, x: Array) -> Array:
    inner = gelu(linear(w, f"{name}.intermediate.dense", x))
    return layer_norm(w, f"{name}.output.LayerNorm", linear(w, f"{name}.output.dense", inner) + x)


def text_encoder(w: Weights, ids: NDArray[np.int64], mask: NDArray[np.int64], heads: int) -> Array:
    """A1: embeddings and the lower layers; padded keys are masked."""
    e = "space_encoder.embeddings"
    x = w[f"{e}.word_embeddings.weight"][ids] + w[f"{e}.token_type_embeddings.weight"][0]
    x = layer_norm(w, f"{e}.LayerNorm", x + w[f"{e}.position_embeddings.weight"][: ids.shape[1]])
    for n in range(count(w, "space_encoder.encoder.layer.")):
        name = f"space_encoder.encoder.layer.{n}"
        x = bert_attention(w, f"{name}.attention", x, x, heads, mask)
        x = bert_feed_forward(w, name, x)
    return x


def lm_head(w: Weights, x: Array, mean: Array, std: Array) -> Array:
    """A3: logits of normalised latents; no upper BERT layer comes in between (A2)."""
    name = "lm_head.predictions"
    h = gelu(linear(w, f"{name}.transform.dense", x * std + mean))
    return linear(w, f"{name}.decoder", layer_norm(w, f"{name}.transform.LayerNorm", h))


def vit(w: Weights, images: Array, heads: int) -> Array:
    """A4: BLIP's vision transformer, all tokens after the last LayerNorm; images (B, 3, H, W)."""
    kernel = w["visual_encoder.patch_embed.proj.weight"]
    size, n = kernel.shape[-1], images.shape[-1] // kernel.shape[-1]
    patches = (
        images.reshape(len(images), 3, n, size, n, size).transpose(0, 2, 4, 1, 3, 5).reshape(len(images), n * n, -1)
    )
    x = patches @ kernel.reshape(len(kernel), -1).T + w["visual_encoder.patch_embed.proj.bias"]
    first = np.broadcast_to(w["visual_encoder.cls_token"], (len(images), 1, x.shape[-1]))
    x = np.concatenate([first, x], 1) + w["visual_encoder.pos_embed"]
    for n in range(count(w, "visual_encoder.blocks.")):
        name = f"visual_encoder.blocks.{n}"
        q, k, v = np.split(linear(w, f"{name}.attn.qkv", layer_norm(w, f"{name}.norm1", x, 1e-6)), 3, axis=-1)
        x = x + linear(w, f"{name}.attn.proj", attention(q, k, v, heads))
        x = x + linear(
            w, f"{name}.mlp.fc2", gelu(linear(w, f"{name}.mlp.fc1", layer_norm(w, f"{name}.norm2", x, 1e-6)))
        )
    return layer_norm(w, "visual_encoder.norm", x, 1e-6)


def time_table(width: int, t: NDArray[np.int64]) -> Array:
    """A8: sin and cos of t w_i, interleaved."""
    table = np.zeros((len(t), width))
    for i in range(width // 2):
        frequency = math.exp(-2 * i * math.log(1e4) / width)
        table[:, 2 * i], table[:, 2 * i + 1] = np.sin(t * frequency), np.cos(t * frequency)
    return table


def diffuser(w: Weights, tokens: Array, x: Array, t: NDArray[np.int64], heads: int) -> Array:
    """A5 to A7: x (B, L, 2D) is the noisy latent beside the previous estimate; the first half comes out."""
    time = time_table(x.shape[-1], t)
    if "time_layer_norm.weight" in w:
        time = layer_norm(w, "time_layer_norm", time)
    h = x + time[:, None] + w["diffuser.embeddings.position_embeddings.weight"][: x.shape[1]]
    h = layer_norm(w, "diffuser.embeddings.LayerNorm", h)
    for n in range(count(w, "diffuser.encoder.layer.")):
        name = f"diffuser.encoder.layer.{n}"
        h = bert_attention(w, f"{name}.attention", h, h, heads)
        h = bert_attention(w, f"{name}.crossattention", h, tokens, heads)
        h = bert_feed_forward(w, name, h)
    return h[..., : x.shape[-1] // 2]


def target_latent(
    w: Weights, ids: NDArray[np.int64], mask: NDArray[np.int64], mean: Array, std: Array, heads: int
) -> Array:
    """B1 to B3: normalised features, [CLS], [SEP] and [PAD] overwritten by the raw feature of '.'."""
    z = (text_encoder(w, ids, mask, heads) - mean) / std
    cls, dot, sep = 101, 1012, 102
    special = text_encoder(w, np.array([[cls, dot, sep]]), np.ones((1, 3), int), heads)[0, 1]
    m = np.roll(mask, -1, axis=1)
    m[:, 0] = m[:, -1] = 0
    return np.where(m[..., None] > 0, z, special)


def linear_table() -> Array:
    """C1."""
    betas = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
    return np.cumprod(1 - betas[:-1])


def cosine_table(s: float = 0.008) -> Array:
    """C2."""
    f = np.cos(np.pi / 2 * (np.arange(1000) / 1000 + s) / (1 + s)) ** 2
    return f / f[0]


def diffuse(x: Array, t: NDArray[np.int64], noise: Array, factor: float, table: Array | None = None) -> Array:
    """C3."""
    a = (linear_table() if table is None else table)[t].reshape(-1, 1, 1)
    return np.sqrt(a) * x + factor * np.sqrt(1 - a) * noise


def losses(
    w: Weights, predicted: Array, x0: Array, ids: NDArray[np.int64], mean: Array, std: Array
) -> tuple[float, float]:
    """D3: the loss on latents, and the weighted one on words."""
    on_latents = np.sqrt(((predicted - x0) ** 2).sum(-1)).mean()
    logits = lm_head(w, predicted, mean, std)
    target = np.where(np.isin(ids, [0, 101, 102]), 1012, ids)
    log_p = logits - logits.max(-1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    return float(on_latents), float(-0.2 * np.take_along_axis(log_p, target[..., None], -1).mean())


def generate(
    w: Weights, images: Array, noises: list[Array], stride: int, image_heads: int, heads: int, difference: int = 5
) -> list[Array]:
    """E1 to E3 with guidance weight 1: the estimates of every step."""
    seen, nothing = vit(w, images, image_heads), vit(w, 0 * images, image_heads)
    x_t, predicted, estimates = noises[0], np.zeros_like(noises[0]), []
    for step, t in enumerate(range(999, 0, -stride)):
        told = np.full(len(images), min(999, t + difference))
        x = np.concatenate([x_t, predicted], -1)
        predicted = 2 * diffuser(w, seen, x, told, heads) - diffuser(w, nothing, x, told, heads)
        estimates.append(predicted)
        if t > stride:
            x_t = diffuse(predicted, np.full(len(images), t - stride), noises[step + 1], factor=1)
    return estimates


def count(w: Weights, prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in w if key.startswith(prefix)})
