"""``ladic convert``: released LaDiC weights to a checkpoint, and checkpoints to safetensors and back.

Which way follows from what is given: a released ``pytorch_model.bin`` or an exported folder becomes a checkpoint
(``--output NAME.ckpt``), a checkpoint becomes a folder with ``model.safetensors`` and ``config.yaml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def main(argv: list[str]) -> None:
    """Converts one model and says what was left out."""
    parser = LineParser("ladic convert", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "source", type=Path, help="released pytorch_model.bin, a checkpoint or run, or an exported folder"
    )
    parser.add_argument("--output", type=Path, required=True, help="NAME.ckpt, or a folder for safetensors")
    released = parser.add_argument_group("released weights")
    released.add_argument("--mean", type=Path, help="mean_emb_split.pickle of the released project")
    released.add_argument("--std", type=Path, help="std_emb_split.pickle of the released project")
    released.add_argument(
        "--tokenizer", default="bert-base-uncased", help="hub name, folder or vocab.txt (%(default)s)"
    )
    released.add_argument("--length", type=int, default=24, help="positions of a caption (%(default)s)")
    released.add_argument("--text-heads", type=int, default=12, help="attention heads (%(default)s)")
    released.add_argument("--image-heads", type=int, default=12, help="attention heads (%(default)s)")
    released.add_argument("--diffuser-heads", type=int, default=16, help="attention heads (%(default)s)")
    options = parser.parse_args(argv)
    source, output = options.source, options.output
    if not source.exists():
        raise UsageError(
            f"'{source}': no such file or folder; give released weights, a checkpoint or an exported folder"
        )

    from ladic import hub
    from ladic.captioners import Captioner, LatentDiffusionCaptioner
    from ladic.conversion import export

    if hub.is_folder(source):
        _save(Captioner.from_pretrained(source), _checkpoint_name(output))
    elif source.is_dir() or source.suffix == ".ckpt":
        if output.suffix in (".ckpt", ".safetensors"):
            raise UsageError(f"--output {output}: a checkpoint is exported to a folder; give its name")
        written = export(LatentDiffusionCaptioner.load_from_checkpoint(source), output)
        print(f"wrote {' and '.join(map(str, written))}")
    else:
        _convert_released(options, _checkpoint_name(output))


def _convert_released(options: Any, output: Path) -> None:
    from ladic.conversion import released_captioner
    from ladic.released_weights import read_sizes
    from ladic.safe_pickle import load_tensor

    if options.mean is None or options.std is None:
        raise UsageError(
            "--mean and --std: have to be given for released weights; they are datasets/mean_emb_split.pickle and "
            "datasets/std_emb_split.pickle of the released project"
        )
    state = read_released(options.source)
    sizes = read_sizes(state)
    model, dropped = released_captioner(
        state,
        load_tensor(options.mean),
        load_tensor(options.std),
        tokenizer=options.tokenizer,
        length=options.length,
        text_heads=options.text_heads,
        image_heads=options.image_heads,
        diffuser_heads=options.diffuser_heads,
    )
    print(f"{len(state)} tensors, {'with' if sizes.time_norm else 'without'} the LayerNorm on the time vector")
    for reason, keys in dropped.items():
        numbers = sum(state[key].numel() for key in keys)
        print(f"left out: {len(keys)} tensors, {numbers / 1e6:.1f} M numbers, e.g. {keys[0]}: {reason}")
    _save(model, output)


def read_released(file: Path) -> dict[str, Tensor]:
    """The released state dict, mapped rather than read where the file allows it; nothing is unpickled but tensors.

    Raises:
        UsageError: if it can't be read, or is no state dict.
    """
    import torch

    try:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format from before PyTorch 1.6 can't be mapped
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where the damage is
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"'{file}': can't be read as tensors ({reason}); is the file complete?") from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"'{file}': holds no state dict; give the released project's pytorch_model.bin")
    return state


def _checkpoint_name(output: Path) -> Path:
    if output.suffix != ".ckpt":
        raise UsageError(f"--output {output}: the name of a checkpoint must end in .ckpt")
    return output


def _save(model: Any, output: Path) -> None:
    from ladic.checkpoint_io import AtomicCheckpointIO
    from ladic.conversion import checkpoint_of

    AtomicCheckpointIO().save_checkpoint(checkpoint_of(model), output)
    print(f"wrote {output}")
