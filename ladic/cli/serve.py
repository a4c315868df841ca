"""``ladic serve``: a web page and an HTTP API that caption pictures with one checkpoint, or two side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ladic.cli.parser import LineParser
from ladic.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from fastapi import FastAPI


def main(argv: list[str]) -> None:
    """Serves until it is stopped with Ctrl-C."""
    options = parse(argv)
    app = application(options)
    import uvicorn

    address = f"http://{options.host}:{options.port}"
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        print(f"warning: --host {options.host}: everybody who reaches this machine can use it", file=sys.stderr)
    print(f"the page: {address}   the API: {address}/api   (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


def parse(argv: list[str]) -> Namespace:
    """The options; raises UsageError for wrong ones."""
    parser = LineParser("ladic serve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="a .ckpt file, the folder of a run or of save_pretrained, or hf:OWNER/NAME; a second one stands beside it",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=7860, help="(default %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--max-megabytes", type=float, default=10.0, help="of a picture's file (default %(default)s)")
    parser.add_argument("--max-megapixels", type=float, default=50.0, help="of a picture (default %(default)s)")
    options = parser.parse_args(argv)
    if len(options.checkpoints) > 2:
        raise UsageError(f"CHECKPOINT: {len(options.checkpoints)} were given; accepted are one, or two to compare")
    if not 0 < options.port < 65536:
        raise UsageError(f"--port {options.port}: accepted are 1 to 65535")
    for name in ("max_megabytes", "max_megapixels"):
        if getattr(options, name) <= 0:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name):g}: need more than 0")
    return options


def application(options: Namespace) -> FastAPI:
    """Page and API of the checkpoints, ready to be served.

    Raises:
        UsageError: if the extra isn't installed or a checkpoint can't be loaded.
    """
    try:
        import gradio
    except ImportError as error:
        raise UsageError(f"ladic serve: {error}; run `pip install 'ladic[ui]'`") from error

    import torch

    from ladic.captioner import LatentDiffusionCaptioner
    from ladic.cli.model_options import checked_device
    from ladic.plugins import load_plugins
    from ladic.serve.api import build_api
    from ladic.serve.page import CSS, build_page, theme
    from ladic.serve.service import CaptionService, Limits
    from ladic.serve.uploads import UploadsAlone

    load_plugins()
    device = torch.device(checked_device(options.device))
    try:
        loaded = [LatentDiffusionCaptioner.load_from_checkpoint(c, device) for c in options.checkpoints]
    except RuntimeError as error:
        raise UsageError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    models = dict(zip(model_names(options.checkpoints), loaded, strict=True))
    service = CaptionService(models, Limits(options.max_megabytes, options.max_megapixels))
    api = build_api(service, options.host)
    api.add_middleware(UploadsAlone, folder=gradio.utils.get_upload_folder())
    return gradio.mount_gradio_app(
        api,
        build_page(service),
        path="/",
        server_name=options.host,
        server_port=options.port,
        allowed_paths=[],
        max_file_size=service.limits.bytes,
        footer_links=[],
        theme=theme(),
        css=CSS,
    )


def model_names(checkpoints: list[str]) -> list[str]:
    """Names for visitors, the last of each path; whole paths where those are the same.

    >>> model_names(["runs/demo", "runs/vit"])
    ['demo', 'vit']
    >>> model_names(["a/last.ckpt", "b/last.ckpt"])
    ['a/last.ckpt', 'b/last.ckpt']
    """
    short = [Path(name).name or name for name in checkpoints]
    if len(set(short)) == len(short):
        return short
    whole = list(checkpoints)
    return whole if len(set(whole)) == len(whole) else [f"{name} ({i})" for i, name in enumerate(whole, 1)]
