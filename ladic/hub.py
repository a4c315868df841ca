"""Captioners as folders that the Hugging Face Hub understands: safetensors, a configuration and a model card.

FOLDER/config.json         the parts, their settings, and how they were trained
FOLDER/model.safetensors   the weights
FOLDER/tokenizer.json      of the text latent space, and other files that a part names
FOLDER/README.md           the model card

A folder says the same as a checkpoint does, without what only training needs (optimiser, random numbers), and loads
without the files that training read: frozen weights are in it unless they are asked to stay out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ladic import __version__
from ladic.checkpoints import FORMAT
from ladic.errors import UsageError
from ladic.frozen import frozen_parts, leave_out
from ladic.json_files import parse_json, read_text
from ladic.model_card import Published, model_card
from ladic.rebuild import DIFFUSION, rebuilt

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
REQUIRED = ("format", "components", "settings", "training")
DIFFUSION_REQUIRED = ("denoiser", "guidance")  # of the captioner that a configuration which names none is of
HUB_PREFIX = "hf:"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILE = "file:"  # before the name of a file of the folder, where a part wants a path
_TEXT = "text:"  # before the name of a file whose text a part wants
_TOKENIZERS = (("latent_space", "tokenizer"), ("settings", "tokenizer"))
_LONG = 2000  # characters; longer texts, such as a whole tokenizer, get a file of their own


def write_folder(
    model: Published,
    folder: str | Path,
    *,
    include_frozen: bool = True,
    license: str | None = None,
    run: str | Path | None = None,
    name: str | None = None,
) -> Path:
    """Writes a captioner; what was in the folder before stays, but for files of the same names.

    Args:
        model: the captioner.
        folder: made if it isn't there.
        include_frozen: whether frozen weights that have a source go in; without them the source is named, with a hash.
        license: of the weights, as the Hub names licences ("apache-2.0", "cc-by-nc-4.0"); the card says that none was
            stated otherwise.
        run: folder with the run's scores; by default they are looked for around the checkpoint that was loaded.
        name: by which the card says that the model is loaded; the folder's name by default.

    Raises:
        UsageError: if the folder can't be written.
    """
    folder = Path(folder)
    description = {"format": FORMAT, **model.description(), "training": model.training_facts()}
    state = dict(model.state_dict())
    if not include_frozen:
        content = {"ladic": description, "state_dict": state}
        module = cast("nn.Module", model)
        leave_out(module, content, frozen_parts(module))
        state = content["state_dict"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)  # until all is there, the folder holds no model
        save_file(_apart(state), folder / WEIGHTS, {"format": "pt"})
        for kind, spec in description["components"].items():
            description["components"][kind] = _taken_along(spec, folder, kind)
        for kind in ("denoiser", "settings"):
            if kind in description:
                description[kind] = _taken_along(description[kind], folder, kind)
        description["training"] = _without_folders(description["training"])
        card = model_card(model, description, name or folder.resolve().name, license=license, run=run)
        (folder / CARD).write_text(card, encoding="utf-8")
        config = {"model_type": "ladic", "ladic_version": __version__, **description}
        part = folder / f"{CONFIG}.part"
        part.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, folder / CONFIG)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"'{folder}': the model can't be written there: {error}") from error
    return folder


def read_folder(folder: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """What ``write_folder`` wrote, in the form of a checkpoint: "ladic" and "state_dict".

    Raises:
        UsageError: if a file is missing, damaged, or of a newer version.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(f"'{folder}': no {name} in it; give a folder that save_pretrained wrote")
    try:
        config = parse_json(read_text(folder / CONFIG))
    except (OSError, ValueError) as error:
        raise UsageError(f"'{folder / CONFIG}': not JSON ({error}); save the model again") from error
    if not isinstance(config, dict) or config.get("model_type") != "ladic":
        raise UsageError(f"'{folder / CONFIG}': not a captioner of ladic; give a folder that save_pretrained wrote")
    needed = REQUIRED + (() if config.get("captioner", DIFFUSION) != DIFFUSION else DIFFUSION_REQUIRED)
    missing = [name for name in needed if name not in config]
    if missing:
        raise UsageError(f"'{folder / CONFIG}': '{missing[0]}' is missing; save the model again")
    if config["format"] > FORMAT:
        raise UsageError(f"'{folder}': format {config['format']} is newer than this ladic; update it")
    try:
        state = load_file(folder / WEIGHTS, device=str(map_location))
    except SafetensorError as error:
        raise UsageError(f"'{folder / WEIGHTS}': damaged ({error}); is the file complete?") from error
    for part in ("components", "denoiser", "settings"):
        if part in config:
            config[part] = _found_again(config[part], folder)
    return {"ladic": config, "state_dict": state, "global_step": config["training"].get("steps", 0)}


def is_folder(path: str | Path) -> bool:
    """Whether a folder holds a captioner as ``write_folder`` leaves it."""
    return (Path(path) / CONFIG).is_file() and (Path(path) / WEIGHTS).is_file()


def located(checkpoint: Any) -> Path | None:
    """The folder that a command's ``--checkpoint`` means: one of ours, or "hf:OWNER/NAME"; None for anything else."""
    if isinstance(checkpoint, str) and checkpoint.startswith(HUB_PREFIX):
        return download(checkpoint.removeprefix(HUB_PREFIX))
    return Path(checkpoint) if is_folder(checkpoint) else None


def download(repo_id: str, revision: str | None = None) -> Path:
    """The folder of a captioner on the Hub, from the cache or over the network.

    Raises:
        UsageError: if it can't be had.
    """
    from huggingface_hub import snapshot_download

    if not HUB_ID.fullmatch(repo_id):
        raise UsageError(f"'{repo_id}': neither a folder that save_pretrained wrote nor a name on the Hub (OWNER/NAME)")
    try:
        return Path(snapshot_download(repo_id, revision=revision, ignore_patterns=["*.ckpt", "*.bin", "*.md"]))
    except Exception as error:  # what the client raises changes between its versions
        raise UsageError(f"'{repo_id}': no such folder here, and the Hub can't give it: {_first(error)}") from error


def upload(
    model: Published,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload a LaDiC captioner",
    **options: Any,
) -> str:
    """Writes a captioner to the Hub, in one commit; returns its address.

    Args:
        model: the captioner.
        repo_id: OWNER/NAME; made if it isn't there.
        private: whether a new repository is.
        token: of the Hub; the one of ``hf auth login`` by default.
        message: of the commit.
        options: of ``write_folder``.

    Raises:
        UsageError: if the Hub refuses or can't be reached.
    """
    from huggingface_hub import HfApi

    if not HUB_ID.fullmatch(repo_id):
        raise UsageError(f"'{repo_id}': not a name on the Hub; give OWNER/NAME")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(model, folder, name=repo_id, **options)
        try:
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message).repo_url)
        except Exception as error:  # what the client raises changes between its versions
            raise UsageError(
                f"'{repo_id}': not uploaded: {_first(error)}; `hf auth login` gives the right to write there, "
                "save_pretrained needs no Hub"
            ) from error


class PretrainedMethods:
    """A captioner's folders of safetensors, here and on the Hugging Face Hub."""

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        include_frozen: bool = True,
        license: str | None = None,
        run: str | Path | None = None,
    ) -> Path:
        """Writes weights (safetensors), configuration and model card into a folder, which it returns.

        Args:
            folder: made if it isn't there.
            include_frozen: whether frozen weights go in; without them the folder loads only where their source is.
            license: of the weights, for the card, as the Hub names licences: "apache-2.0".
            run: folder with the scores of these weights; by default the one of the checkpoint that was loaded.

        Raises:
            UsageError: if the folder can't be written.
        """
        return write_folder(cast("Published", self), folder, include_frozen=include_frozen, license=license, run=run)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, map_location: Any = "cpu", **overrides: Any
    ) -> Self:
        """The captioner of a folder that ``save_pretrained`` wrote or of a repository on the Hub, in eval mode.

        Args:
            name: a folder, or OWNER/NAME on the Hub.
            revision: branch, tag or commit on the Hub.
            map_location: device of the weights.
            overrides: constructor arguments to use instead of the stored ones, e.g. ``sampler=DDIMSampler(5)``.

        Raises:
            UsageError: if it isn't there or isn't one of ours.
        """
        folder = Path(name) if Path(name).is_dir() else download(str(name), revision)
        checkpoint = read_folder(folder, map_location)
        captioner: Any = rebuilt(cast("Any", cls), checkpoint, f"'{name}'", overrides)
        model: Self = captioner.eval().to(map_location)
        return model

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        include_frozen: bool = True,
        license: str | None = None,
        run: str | Path | None = None,
    ) -> str:
        """Writes what ``save_pretrained`` writes to the Hub, in one commit; returns the repository's address.

        Args:
            repo_id: OWNER/NAME; made if it isn't there.
            private: whether a new repository is.
            token: of the Hub; the one of ``hf auth login`` by default.
            include_frozen: as in ``save_pretrained``.
            license: likewise.
            run: likewise.

        Raises:
            UsageError: if the Hub refuses or can't be reached.
        """
        options: dict[str, Any] = {"include_frozen": include_frozen, "license": license, "run": run}
        return upload(cast("Published", self), repo_id, private=private, token=token, **options)


def _first(error: Exception) -> str:
    """The first line of what an exception says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each with memory of its own, as safetensors wants them."""
    seen: set[int] = set()
    apart = {}
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        apart[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return apart


def _taken_along(spec: Any, folder: Path, kind: str) -> Any:
    """A spec whose files and long texts lie in the folder."""

    def taken(value: str, argument: str) -> str:
        if len(value) > _LONG:
            name = "tokenizer.json" if (kind, argument) in _TOKENIZERS else f"{kind}.{argument}.txt"
            (folder / name).write_text(value, encoding="utf-8")
            return _TEXT + name
        source = Path(value)
        if source.suffix and len(value) < 256 and source.is_file():
            name = f"{kind}.{source.name.removeprefix(f'{kind}.')}"
            if source.resolve() != (folder / name).resolve():
                shutil.copyfile(source, folder / name)
            return _FILE + name
        return value

    return _mapped(spec, taken)


def _found_again(spec: Any, folder: Path) -> Any:
    """A spec whose files are where they are now; names can't lead out of the folder."""

    def found(value: str, argument: str) -> str:
        for marker in (_FILE, _TEXT):
            if value.startswith(marker):
                file = folder / Path(value.removeprefix(marker)).name
                if not file.is_file():
                    raise UsageError(f"'{folder}': no {file.name} in it, which {CONFIG} names")
                return str(file) if marker == _FILE else file.read_text(encoding="utf-8")
        return value

    return _mapped(spec, found)


def _without_folders(facts: Any) -> Any:
    """Facts whose paths are names alone: what is published need not say how the author's disk is laid out."""
    return _mapped(facts, lambda value, _: Path(value).name if os.sep in value else value)


def _mapped(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """A nested value with every text replaced; ``change`` is told the key it stands under."""
    if isinstance(value, dict):
        return {name: _mapped(item, change, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change, key) for item in value]
    return change(value, key) if isinstance(value, str) else value
