"""Loading a BERT-family encoder and its tokenizer: by hub name, from a folder, or small and random from a config."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ladic.errors import UsageError

ATTENTION = "eager"
"""transformers' plain attention: for captions it is faster on a CPU than the fused one, and it gives the released
text encoder's numbers to the bit (the fused one to 4e-6)."""


def load_encoder(model: str | None, config: dict[str, Any] | None) -> tuple[Any, nn.Module | None]:
    """The encoder, and its masked-LM head (hidden to vocabulary) if the weights have one.

    Raises:
        UsageError: if both or neither is given, or the weights can't be had.
    """
    from transformers import AutoModel, AutoModelForMaskedLM, BertConfig

    if (model is None) == (config is None):
        raise UsageError("latent space: give either model=NAME_OR_FOLDER or config={hidden_size: …}, not both")
    if model is None:
        values = {key: value for key, value in (config or {}).items() if key != "model_type"}
        return AutoModel.from_config(_config(config or {}, values, BertConfig), attn_implementation=ATTENTION), None
    model = locate(model)
    try:
        encoder, info = AutoModelForMaskedLM.from_pretrained(
            model, output_loading_info=True, attn_implementation=ATTENTION
        )
    except (OSError, ValueError) as error:
        raise _unreachable(model, error) from error
    encoder = encoder.float()  # whatever the file has: the head beside it is float32
    # A sentence encoder such as MiniLM has no head: transformers would give a random one, so leave it out.
    missing = any("predictions.transform" in key or key.startswith("lm_head") for key in info["missing_keys"])
    base = getattr(encoder, encoder.base_model_prefix)
    return base, None if missing else _masked_lm_head(encoder)


def load_tokenizer(tokenizer: str) -> Any:
    """A fast tokenizer from a hub name, a folder, a BERT vocabulary file, or a tokenizer.json or its text.

    Raises:
        UsageError: if it can't be had, or the file is none.
    """
    from transformers import AutoTokenizer, BertTokenizer

    if Path(tokenizer).suffix == ".json" and Path(tokenizer).is_file():
        return _from_json(_text(tokenizer), tokenizer)
    if tokenizer.startswith("{"):
        return _from_json(tokenizer, "{…}")
    if Path(tokenizer).is_file() and Path(tokenizer).suffix == ".txt":
        # transformers 5 ignores vocab_file= in silence and maps every word to [UNK]; vocab= works.
        words = _text(tokenizer).split("\n")
        return BertTokenizer(vocab={word: index for index, word in enumerate(words) if word or index < len(words) - 1})
    tokenizer = locate(tokenizer)
    try:
        return AutoTokenizer.from_pretrained(tokenizer, use_fast=True)
    except Exception as error:
        # A damaged tokenizer.json is a KeyError of transformers, or a bare Exception of tokenizers.
        if isinstance(error, OSError | ValueError | KeyError) or type(error) is Exception:
            raise _unreachable(tokenizer, error) from error
        raise


def locate(name: str) -> str:
    """Folder of a model that an installed Python package carries, for ``package:NAME/FOLDER``; other names unchanged.

    Raises:
        UsageError: if the package is not installed.
    """
    if not name.startswith("package:"):
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pip_name = package.replace("_", "-")
        raise UsageError(f"model='{name}': the package is not installed; run `pip install {pip_name}`")
    return str(Path(spec.origin).parent / folder)


def transformer_layers(encoder: nn.Module) -> nn.ModuleList:
    """The layers of a BERT-like encoder, lowest first."""
    stack = getattr(encoder, "encoder", None) or getattr(encoder, "transformer", None)
    layers = getattr(stack, "layer", None)
    if not hasattr(encoder, "embeddings") or not isinstance(layers, nn.ModuleList):
        raise UsageError(_foreign(encoder))
    return layers


def check_split(
    encoder: Any, layer: int, features: Callable[[Tensor, Tensor], Tensor], tokenizer: Any, length: int
) -> None:
    """Compares ``features(ids, mask)`` of layers taken apart with what the model says of them itself.

    Some families look like BERT and hand their layers more than a mask (MPNet, RoFormer, DeBERTa).

    Raises:
        UsageError: where the two differ, or the layers by themselves can't be called.
    """
    import torch

    device = next(encoder.parameters()).device
    if device.type == "meta":  # sizes alone
        return
    words = (tokenizer.cls_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    ids = torch.tensor([[words[0], *3 * words[1:3], words[3]]], device=device)[:, :length]
    mask = torch.ones_like(ids)
    mask[:, -1] = 0
    encoder.eval()
    try:
        with torch.no_grad():
            whole = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer]
            apart = features(ids, mask)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(_foreign(encoder)) from error
    if (whole - apart)[:, :-1].abs().max() > 1e-5 * whole.abs().max():
        raise UsageError(_foreign(encoder))


def _foreign(encoder: nn.Module) -> str:
    return (
        f"model: {type(encoder).__name__} is not of the BERT family (BERT, RoBERTa, MiniLM, DistilBERT…): its layers "
        "can't be split"
    )


def attention_bias(mask: Tensor, like: Tensor) -> Tensor:
    """(B, L) mask of ones and zeros as the additive (B, 1, 1, L) that transformer layers take."""
    import torch

    return (1 - mask[:, None, None, :].to(like.dtype)) * torch.finfo(like.dtype).min


def _config(config: dict[str, Any], values: dict[str, Any], default: type) -> Any:
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[config["model_type"]](**values) if "model_type" in config else default(**values)


def _masked_lm_head(encoder: nn.Module) -> nn.Module | None:
    head = getattr(encoder, "cls", None)
    return getattr(head, "predictions", None) or getattr(encoder, "lm_head", None)


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"tokenizer='{file}': not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def _from_json(text: str, name: str) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer, special = Tokenizer.from_str(text), _special_tokens(text)
    except Exception as error:  # tokenizers raises no narrower one
        first = str(error).strip().splitlines()[0]
        raise UsageError(
            f"tokenizer='{name}': not a tokenizer.json ({first}); give one of the tokenizers library, or a vocab.txt"
        ) from error
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _special_tokens(text: str) -> dict[str, str]:
    import json

    known = {token["content"] for token in json.loads(text).get("added_tokens", [])}
    names = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
    bert, roberta = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"), ("<unk>", "<s>", "</s>", "<pad>", "<mask>")
    return dict(zip(names, bert if "[CLS]" in known else roberta, strict=True))


def _unreachable(name: str, error: Exception) -> UsageError:
    first = str(error).strip().splitlines()[0]
    return UsageError(
        f"model='{name}': can't be loaded ({first}); download config.json, model.safetensors and tokenizer.json of it "
        "into a folder and give that folder, or make a small one with `ladic pretrain-text`"
    )
