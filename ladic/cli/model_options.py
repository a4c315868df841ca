"""What ``ladic caption``, ``infill`` and ``trace`` have in common: the checkpoint, sampling, and choosing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ladic.errors import UsageError

if TYPE_CHECKING:
    from ladic.captioners import Captioner, LatentDiffusionCaptioner
    from ladic.components import Sampler
    from ladic.length_control import LengthRange

OF_THE_MODEL = (
    *("num_steps", "sampler", "back_and_refine", "guidance_scale", "seed", "num_candidates", "rerank", "utility"),
    *("length", "min_length", "max_length", "rounding", "precision", "compile"),
)
"""Options that not every captioner has a use for."""
AT_LEAST_ONE = ("num_candidates", "num_captions", "num_steps", "batch_size", "longest_blank")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, on what, and how it samples."""
    parser.add_argument("--checkpoint", required=True, help="a .ckpt file or the folder of a run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16"],
        help="of the weights (fp32); auto is bf16 where the device computes it",
    )
    parser.add_argument("--compile", action="store_true", help="compile the model first; pays for many pictures")
    group = parser.add_argument_group("sampling, instead of the checkpoint's")
    group.add_argument("--num-steps", type=int, help="steps of the sampler")
    group.add_argument(
        "--sampler", metavar="NAME:ARG=VALUE,…", help="e.g. DDIMSampler:eta=0.5; `ladic components samplers` lists them"
    )
    group.add_argument(
        "--back-and-refine", action="store_true", help="go back once for doubtful words, as in the paper"
    )
    group.add_argument("--guidance-scale", type=float, help="1 is no guidance")
    group.add_argument("--seed", type=int, help="of the noise")


def add_choice_options(parser: argparse.ArgumentParser) -> None:
    """How many captions are drawn and which of them is taken."""
    group = parser.add_argument_group("choosing")
    group.add_argument("--num-candidates", type=int, help="samples drawn for each picture; one is chosen")
    group.add_argument(
        "--rerank",
        choices=["mbr", "clip", "reconstruction", "first"],
        help="minimum Bayes risk, CLIP, the model's own judgement, or no choice; instead of the checkpoint's",
    )
    group.add_argument("--utility", choices=["bleu", "cider", "bert"], help="what mbr compares captions by (bleu)")
    group.add_argument("--frequencies", metavar="FILE", help="from `ladic fit-frequencies`, for --utility cider")
    group.add_argument(
        "--text-model", help="hub name, folder or package:NAME/FOLDER, for --utility bert (roberta-large)"
    )
    group.add_argument("--text-layer", type=int, help="its layer (17, of roberta-large)")
    group.add_argument("--clip-model", help="open_clip architecture, for --rerank clip (ViT-B-32-quickgelu)")
    group.add_argument("--clip-weights", help="open_clip tag or file, for --rerank clip (openai)")


def add_length_options(parser: argparse.ArgumentParser) -> None:
    """How long captions become."""
    group = parser.add_argument_group(
        "length in tokens (words, pieces of rare words, punctuation); the model's if not given"
    )
    group.add_argument("--length", type=int, help="just so many")
    group.add_argument("--min-length", type=int, help="at least so many")
    group.add_argument("--max-length", type=int, help="at most so many")


def add_rounding_option(parser: argparse.ArgumentParser) -> None:
    """How latents become words."""
    parser.add_argument(
        "--rounding",
        metavar="NAME:ARG=VALUE,…",
        help="how latents become words, e.g. NgramRounding:ngrams=FILE,weight=1; the model's if not given",
    )


def length_range(options: Any) -> LengthRange | None:
    """The range that was asked for."""
    from ladic.length_control import LengthRange

    least, most = options.min_length, options.max_length
    if options.length is not None:
        if least is not None or most is not None:
            raise UsageError("--length: says all; leave out --min-length and --max-length, or give these alone")
        least = most = options.length
        if most < 1:
            raise UsageError(f"--length {most}: need at least 1")
    if least is None and most is None:
        return None
    try:
        return LengthRange(least, most)
    except UsageError as error:
        raise UsageError(f"--min-length {least}, --max-length {most}: {error}") from error


def check(options: Any) -> None:
    """Refuses numbers below one and options that would be ignored, before anything heavy is imported.

    Raises:
        UsageError: naming the option.
    """
    for name in AT_LEAST_ONE:
        value = getattr(options, name, None)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: need at least 1")
    given = {name for name in vars(options) if getattr(options, name) is not None}
    for names, needed, value in (
        (("utility",), "rerank", ("mbr",)),
        (("clip_model", "clip_weights"), "rerank", ("clip",)),
        (("frequencies",), "utility", ("cider",)),
        (("text_model", "text_layer"), "utility", ("bert",)),
    ):
        for name in names:
            # `--utility` alone means mbr
            chosen = getattr(options, needed, None) or ("mbr" if needed == "rerank" and name == "utility" else None)
            if name in given and chosen not in value:
                raise UsageError(f"--{name.replace('_', '-')}: is for --{needed} {value[0]}")
    if getattr(options, "utility", None) == "cider" and options.frequencies is None:
        raise UsageError("--utility cider: needs --frequencies FILE; `ladic fit-frequencies` makes one")


def load_model(options: Any, kind: type[Captioner] | None = None) -> Any:
    """The checkpoint's captioner with the options applied.

    Args:
        options: of the command.
        kind: class that it has to be of; any captioner's if None.

    Raises:
        UsageError: for anything the user can mend.
    """
    import torch

    from ladic.captioners import Captioner, LatentDiffusionCaptioner
    from ladic.cli.words import component
    from ladic.components import Sampler
    from ladic.plugins import load_plugins

    load_plugins()
    sampler = component(options.sampler, "samplers", Sampler) if options.sampler else None
    device = checked_device(options.device)
    try:
        model: Any = (kind or Captioner).load_from_checkpoint(options.checkpoint, map_location=torch.device(device))
    except RuntimeError as error:
        raise UsageError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    refuse_foreign(options, model)
    if isinstance(model, LatentDiffusionCaptioner):
        _set_sampling(model, sampler, options)
    elif options.num_steps is not None:
        model.num_steps = options.num_steps
    if options.seed is not None:
        model.seed = options.seed
    if getattr(options, "num_candidates", None) is not None:
        model.num_candidates = options.num_candidates
    if (chosen := selector(options, device)) is not None:
        model.selector = chosen
    if options.precision is not None or options.compile:
        model.accelerate(options.precision or "fp32", options.compile)
    return model


def checked_device(name: str) -> str:
    """The device of ``--device``; "auto" is a GPU where there is one.

    Raises:
        UsageError: if this machine has no such device: asked later, it would be the checkpoint's fault.
    """
    import torch

    gpu = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if gpu else "cpu"
    try:
        torch.empty(1, device=torch.device(name)).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        there = "auto, cpu or cuda" if gpu else "auto or cpu"
        raise UsageError(f"--device {name}: this machine has none ({reason}); give {there}") from error
    return name


def refuse_foreign(options: Any, model: Captioner) -> None:
    """Refuses options that mean nothing to a captioner.

    Raises:
        UsageError: naming the option and those that it takes.
    """
    for name in OF_THE_MODEL:
        value = getattr(options, name, None)
        if value is not None and value is not False and name not in model.options:  # 0 is given, and equals False
            takes = " and ".join(f"--{known.replace('_', '-')}" for known in OF_THE_MODEL if known in model.options)
            raise UsageError(
                f"--{name.replace('_', '-')}: not for {type(model).__name__}, which takes {takes or 'none'}"
            )


def _set_sampling(model: LatentDiffusionCaptioner, sampler: Sampler | None, options: Any) -> None:
    from dataclasses import replace

    from ladic.cli.words import component
    from ladic.components import BackAndRefine
    from ladic.rounding import Rounding

    if sampler is not None:
        model.sampler = sampler
    if options.num_steps is not None:
        model.sampler = model.sampler.with_steps(options.num_steps)
    if options.back_and_refine:
        if isinstance(model.sampler, BackAndRefine):
            raise UsageError("--back-and-refine: the sampler does it already; set it by --sampler BackAndRefine:…")
        model.sampler = BackAndRefine(model.sampler)
    model.sampler.times(model.noise_schedule)  # more steps than its table has are refused now
    if getattr(options, "rounding", None) is not None:
        model.rounding = component(options.rounding, "roundings", Rounding)
        model.rounding.check(model.latent_space)
    if options.guidance_scale is not None:
        model.guidance = replace(model.guidance, scale=options.guidance_scale)


def selector(options: Any, device: str = "cpu") -> Any:
    """The selector of --rerank and what belongs to it, its own networks on this device; None for the checkpoint's."""
    name = getattr(options, "rerank", None) or ("mbr" if getattr(options, "utility", None) else None)
    if name is None:
        return None
    from ladic import rerank

    if name == "first":
        return rerank.FirstSelector()
    if name == "reconstruction":
        return rerank.ReconstructionSelector(weight=2.0)
    if name == "clip":
        words = {"model": options.clip_model, "pretrained": options.clip_weights}
        return rerank.ClipSelector(device=device, **{key: value for key, value in words.items() if value is not None})
    utility: Any = None
    if options.utility == "cider":
        utility = rerank.CiderUtility(options.frequencies)
    elif options.utility == "bert":
        words = {"model": options.text_model, "layer": options.text_layer}
        utility = rerank.BertUtility(device=device, **{key: value for key, value in words.items() if value is not None})
    return rerank.MinimumBayesRiskSelector(utility=utility)
