"""Captioners from released LaDiC weights, and as checkpoints and configurations."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import yaml
from torch import Tensor

from ladic.captioner import LatentDiffusionCaptioner
from ladic.captioner_base import Captioner
from ladic.checkpoints import check_shapes
from ladic.components import (
    BertLatentSpace,
    BlipEncoder,
    CrossAttentionDenoiser,
    DilatedSchedule,
    LinearSchedule,
    RenoiseSampler,
)
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance
from ladic.postprocess import ReleasedPostProcessor
from ladic.released_weights import read_sizes, rename

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.yaml", "tokenizer.json"


def released_captioner(
    state: dict[str, Tensor],
    mean: Tensor,
    std: Tensor,
    *,
    tokenizer: str = "bert-base-uncased",
    length: int = 24,
    text_heads: int = 12,
    image_heads: int = 12,
    diffuser_heads: int = 16,
) -> tuple[LatentDiffusionCaptioner, dict[str, list[str]]]:
    """A captioner that does what the released code does, with its weights; and the keys left out, by reason.

    Args:
        state: the released state dict.
        mean: (D,) of the latent space.
        std: (D,), likewise.
        tokenizer: hub name, folder or vocabulary file.
        length: L.
        text_heads: attention heads of the text encoder, which shapes don't tell.
        image_heads: of the ViT.
        diffuser_heads: of the diffuser.

    Raises:
        UsageError: if a tensor is missing, over, or of another shape.
    """
    sizes = read_sizes(state)
    renamed, dropped = rename(state)
    for name, value in (("mean", mean), ("std", std)):
        if tuple(value.shape) != (sizes.width,):
            raise UsageError(f"{name}: has shape {tuple(value.shape)}; the latents are {sizes.width} wide")
    for name, width, heads in (
        ("text", sizes.width, text_heads),
        ("image", sizes.image_width, image_heads),
        ("diffuser", sizes.hidden_width, diffuser_heads),
    ):
        if heads < 1 or width % heads:
            raise UsageError(f"--{name}-heads {heads}: they must divide the width, {width}")
    text = {
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": text_heads,
        "intermediate_size": sizes.text_ffn,
        "max_position_embeddings": sizes.text_positions,
        "type_vocab_size": sizes.token_types,
    }
    model = LatentDiffusionCaptioner(
        image_encoder=BlipEncoder(
            weights=None,
            image_size=sizes.image_size,
            width=sizes.image_width,
            depth=sizes.image_layers,
            num_heads=image_heads,
            patch_size=sizes.patch_size,
        ),
        latent_space=BertLatentSpace(
            config=text,
            tokenizer=tokenizer,
            layer=sizes.text_layers,
            length=length,
            special_token=".",
            normalizer_eps=0.0,
            encoder_dropout=True,
        ),
        denoiser=partial(
            CrossAttentionDenoiser,
            hidden_width=sizes.hidden_width,
            num_layers=sizes.num_layers,
            num_heads=diffuser_heads,
            ffn_width=sizes.ffn_width,
            projections=False,
            image_norm=False,
            norm_eps=1e-12,
            time="sinusoids_norm" if sizes.time_norm else "sinusoids",
            time_entries=1000,
            max_length=sizes.max_length,
            init_std=0.02,
        ),
        noise_schedule=DilatedSchedule(LinearSchedule(num_steps=1000), training=4.0, sampling=1.0),
        sampler=RenoiseSampler(stride=30),
        guidance=ClassifierFreeGuidance(scale=2.0, time_difference=5 / 999),
        self_conditioning_coin="batch",
        null_image="zeros",
        decay="all",
        postprocess=ReleasedPostProcessor(batch_wide=True),
    )
    model.latent_space.normalizer.set(mean, std)
    own = model.state_dict()
    kept = {key: own[key] for key in own if key.startswith("latent_space.normalizer.") or key.endswith(".vocabulary")}
    try:
        check_shapes(model, renamed | kept)
    except UsageError as error:
        told = str(error).partition("(")[2].partition("); use")[0]
        raise UsageError(f"released checkpoint: doesn't fit the model it names ({told}); is it complete?") from error
    model.load_state_dict(renamed | kept)
    return model.eval(), dropped


def checkpoint_of(model: Captioner) -> dict[str, Any]:
    """What Lightning would save of a model that was never trained: weights and description."""
    checkpoint: dict[str, Any] = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": model.state_dict(),
        "loops": {},
    }
    model.on_save_checkpoint(checkpoint)
    return checkpoint


def export(model: LatentDiffusionCaptioner, folder: Path) -> list[Path]:
    """Writes what ``save_pretrained`` writes, and ``config.yaml``: the ``model:`` part that `ladic fit -c` takes."""
    model.save_pretrained(folder)
    config = configuration(model.description())
    space = config["model"]["latent_space"]["init_args"]
    if (folder / TOKENIZER).is_file() and "tokenizer" in space:
        space["tokenizer"] = str(folder / TOKENIZER)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    head = f"# Exported by `ladic convert`: the parts that the weights in {WEIGHTS} belong to.\n"
    (folder / CONFIG).write_text(head + text, encoding="utf-8")
    return [folder / WEIGHTS, folder / CONFIG]


def configuration(description: dict[str, Any]) -> dict[str, Any]:
    """The ``model:`` part of a configuration from a model's description."""
    description = copy.deepcopy(description)
    denoiser = description["denoiser"]
    given = ("width", "length", "cond_width")  # these follow the parts around the denoiser
    return {
        "model": {
            **description["components"],
            "denoiser": {
                "class_path": denoiser["class_path"],
                "init_args": {key: value for key, value in denoiser["init_args"].items() if key not in given},
            },
            "guidance": dict(description["guidance"]),
            **description["settings"],
        }
    }
