"""``ladic export``: the encoder, the denoiser's step and the decoder as ONNX and torch.export files."""

from __future__ import annotations

from pathlib import Path

from ladic.cli.parser import LineParser


def main(argv: list[str]) -> None:
    """Writes the graphs, and prints how far each is from the model."""
    parser = LineParser("ladic export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="a .ckpt file, the folder of a run or of save_pretrained, or hf:OWNER/NAME")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="where the files go")
    parser.add_argument(
        "--format",
        choices=["onnx", "pt2", "both"],
        default="both",
        help="pt2 is torch.export's; onnx needs `pip install 'ladic[export]'` (default %(default)s)",
    )
    options = parser.parse_args(argv)

    from ladic.captioner import LatentDiffusionCaptioner
    from ladic.export import FORMATS, export, need_onnx
    from ladic.plugins import load_plugins

    formats = FORMATS if options.format == "both" else (options.format,)
    if "onnx" in formats:
        need_onnx()
    load_plugins()
    model = LatentDiffusionCaptioner.load_from_checkpoint(options.checkpoint)
    written = export(model, options.output, formats)
    print("largest difference from the model, on batches of one and of three:")
    for each in written:
        print(f"  {each.file.name:<14} {each.difference:.1e}   {each.file.stat().st_size / 2**20:.2f} MiB")
    print(f"wrote {options.output}; examples/onnx_caption.py captions with it")
