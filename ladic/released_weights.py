"""The released LaDiC checkpoint (``pytorch_model.bin``): its keys, which of them are used, and their names here.

The released model is a BERT split in two, a ViT, BLIP's ``med.BertModel`` as diffuser and a masked-LM head. Its file
holds more than it uses: the decoder's twelve layers, which it skips, and word embeddings of the diffuser, which never
sees a word. Nothing is passed over in silence: every key has a rule below or is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ladic.errors import UsageError

LAYER = r"encoder\.layer\.(\d+)"
CROSS = {"attention": ("self_attention", 0), "crossattention": ("cross_attention", 1)}

RENAMED: tuple[tuple[str, str], ...] = (
    (r"space_encoder\.embeddings\.(.+)", r"latent_space.embeddings.\1"),
    (rf"space_encoder\.{LAYER}\.(.+)", r"latent_space.lower.\1.\2"),
    (r"lm_head\.predictions\.transform\.dense\.(weight|bias)", r"latent_space.head.dense.\1"),
    (r"lm_head\.predictions\.transform\.LayerNorm\.(weight|bias)", r"latent_space.head.norm.\1"),
    (r"lm_head\.predictions\.decoder\.(weight|bias)", r"latent_space.head.decoder.\1"),
    (r"visual_encoder\.(.+)", r"image_encoder.model.\1"),
    (r"diffuser\.embeddings\.position_embeddings\.weight", r"denoiser.positions"),
    (r"diffuser\.embeddings\.LayerNorm\.(weight|bias)", r"denoiser.input_norm.\1"),
    *(
        rule
        for theirs, (ours, norm) in CROSS.items()
        for rule in (
            (rf"diffuser\.{LAYER}\.{theirs}\.self\.query\.(weight|bias)", rf"denoiser.blocks.\1.{ours}.query.\2"),
            (rf"diffuser\.{LAYER}\.{theirs}\.self\.key\.(weight|bias)", rf"denoiser.blocks.\1.{ours}.key_value.\2#0"),
            (rf"diffuser\.{LAYER}\.{theirs}\.self\.value\.(weight|bias)", rf"denoiser.blocks.\1.{ours}.key_value.\2#1"),
            (rf"diffuser\.{LAYER}\.{theirs}\.output\.dense\.(weight|bias)", rf"denoiser.blocks.\1.{ours}.out.\2"),
            (rf"diffuser\.{LAYER}\.{theirs}\.output\.LayerNorm\.(weight|bias)", rf"denoiser.blocks.\1.norms.{norm}.\2"),
        )
    ),
    (rf"diffuser\.{LAYER}\.intermediate\.dense\.(weight|bias)", r"denoiser.blocks.\1.feed_forward.0.\2"),
    (rf"diffuser\.{LAYER}\.output\.dense\.(weight|bias)", r"denoiser.blocks.\1.feed_forward.2.\2"),
    (rf"diffuser\.{LAYER}\.output\.LayerNorm\.(weight|bias)", r"denoiser.blocks.\1.norms.2.\2"),
    (r"time_layer_norm\.(weight|bias)", r"denoiser.time.norm.\1"),
)
"""Released keys and ours; halves marked #0 and #1 are stacked."""

DROPPED: tuple[tuple[str, str], ...] = (
    (r".+\.position_ids", "positions 0, 1, 2 …, which are computed"),
    (r"space_decoder\..+", "the text decoder, whose layers the released code skips, with a second, unused head"),
    (r"diffuser\.embeddings\.word_embeddings\.weight", "word embeddings of the diffuser, which is never given words"),
    (r"lm_head\.predictions\.bias", "a second name of lm_head.predictions.decoder.bias"),
)
"""Released keys that nothing in the released code reads, and what they are."""


@dataclass(frozen=True)
class ReleasedSizes:
    """Sizes that shapes tell; numbers of attention heads are not among them.

    Attributes:
        vocabulary, width, text_layers, text_ffn, text_positions, token_types: of the text encoder.
        image_width, image_layers, image_size, patch_size: of the ViT.
        hidden_width, num_layers, ffn_width, max_length: of the diffuser.
        time_norm: whether the time vector goes through a LayerNorm (the variant that was released).
    """

    vocabulary: int
    width: int
    text_layers: int
    text_ffn: int
    text_positions: int
    token_types: int
    image_width: int
    image_layers: int
    image_size: int
    patch_size: int
    hidden_width: int
    num_layers: int
    ffn_width: int
    max_length: int
    time_norm: bool


def read_sizes(state: dict[str, Tensor]) -> ReleasedSizes:
    """Sizes of the model that a released state dict belongs to.

    Raises:
        UsageError: if the keys that tell them are missing.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise UsageError(f"not a released LaDiC checkpoint: {key} is missing; give the project's pytorch_model.bin")
        return tuple(state[key].shape)

    vocabulary, width = shape("space_encoder.embeddings.word_embeddings.weight")
    image_width, _, patch_size, _ = shape("visual_encoder.patch_embed.proj.weight")
    tokens = shape("visual_encoder.pos_embed")[1]
    max_length, hidden_width = shape("diffuser.embeddings.position_embeddings.weight")
    return ReleasedSizes(
        vocabulary=vocabulary,
        width=width,
        text_layers=_count(state, rf"space_encoder\.{LAYER}\."),
        text_ffn=shape("space_encoder.encoder.layer.0.intermediate.dense.weight")[0],
        text_positions=shape("space_encoder.embeddings.position_embeddings.weight")[0],
        token_types=shape("space_encoder.embeddings.token_type_embeddings.weight")[0],
        image_width=image_width,
        image_layers=_count(state, r"visual_encoder\.blocks\.(\d+)\."),
        image_size=round((tokens - 1) ** 0.5) * patch_size,
        patch_size=patch_size,
        hidden_width=hidden_width,
        num_layers=_count(state, rf"diffuser\.{LAYER}\."),
        ffn_width=shape("diffuser.encoder.layer.0.intermediate.dense.weight")[0],
        max_length=max_length,
        time_norm="time_layer_norm.weight" in state,
    )


def rename(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Our names for the tensors of a released state dict, and the keys that were dropped by reason.

    Raises:
        UsageError: for keys that are not the released model's, or a head whose two biases differ.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}  # as DistributedDataParallel saves
    renamed: dict[str, Tensor] = {}
    halves: dict[str, dict[int, Tensor]] = {}
    dropped: dict[str, list[str]] = {}
    unknown = []
    for key, value in state.items():
        reason = next((why for pattern, why in DROPPED if re.fullmatch(pattern, key)), None)
        if reason is not None:
            dropped.setdefault(reason, []).append(key)
            continue
        ours = _new_name(key)
        if ours is None:
            unknown.append(key)
        elif "#" in ours:
            name, half = ours.split("#")
            halves.setdefault(name, {})[int(half)] = value
        else:
            renamed[ours] = value
    if unknown:
        raise UsageError(f"released checkpoint: {len(unknown)} keys are not known: {_first(unknown)}")
    half_there = [name for name, parts in halves.items() if len(parts) < 2]
    if half_there:
        raise UsageError(f"released checkpoint: keys or values are missing for {_first(half_there)}")
    renamed |= {name: torch.cat([parts[0], parts[1]]) for name, parts in halves.items()}
    _check_bias(state)
    return renamed, dropped


def _new_name(key: str) -> str | None:
    for pattern, name in RENAMED:
        found = re.fullmatch(pattern, key)
        if found:
            return found.expand(name)
    return None


def _check_bias(state: dict[str, Tensor]) -> None:
    """The head's bias is stored twice, and the released code adds the decoder's."""
    one, other = (state.get(f"lm_head.predictions.{name}") for name in ("bias", "decoder.bias"))
    if one is not None and other is not None and not one.is_meta and not torch.equal(one, other):
        raise UsageError(
            "released checkpoint: lm_head.predictions.bias and lm_head.predictions.decoder.bias differ, but are one "
            "parameter; is the file damaged?"
        )


def _count(state: Iterable[str], pattern: str) -> int:
    found = (re.match(pattern, key) for key in state)
    return len({int(match[1]) for match in found if match})


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (" …" if len(keys) > 3 else "")
