"""The model card of a captioner: what it is made of, what it was trained on, how well it does, what it can't.

Numbers come from the files that evaluation wrote, and only where those say that they are about these weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ladic import __all__ as public_names
from ladic.types import ImagePreprocess

_AS_IS = ("Length ratio", "Brevity penalty", "Mean length", "distinct", "Repetition", "Stutter")
_UP = 4  # folders above a checkpoint in which its run's scores may lie: RUN/logs/version_0/checkpoints/last.ckpt


class Published(Protocol):
    """What is asked of a captioner that is written into a folder."""

    loaded_from: Path | None
    loaded_step: int

    @property
    def preprocess(self) -> ImagePreprocess: ...

    @property
    def length(self) -> int: ...

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def in_words(self) -> str: ...

    def description(self) -> dict[str, Any]: ...

    def training_facts(self) -> dict[str, Any]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Any]: ...


TEMPLATE = """\
---
{metadata}
---

# {title}

{how}

## Use

```python
from {module} import {captioner}

model = {captioner}.from_pretrained("{name}")
```

```console
ladic caption photo.jpg --checkpoint {checkpoint}
```

## Parts

| part | class | settings |
|---|---|---|
{parts}

{parameters}

## Data

{data}

## Results

{results}

## Limits

{limits}

## Licence

{licence}
"""


def model_card(
    model: Published,
    description: dict[str, Any],
    name: str,
    *,
    license: str | None = None,
    run: str | Path | None = None,
) -> str:
    """The card, as Markdown under the Hub's YAML.

    Args:
        model: the captioner.
        description: of it, with "training".
        name: folder or Hub name that it is loaded by.
        license: of the weights.
        run: folder with scores; by default the folders around the checkpoint that was loaded.
    """
    found = find_scores(model, run)
    module, _, captioner = description["captioner"].rpartition(".")
    return TEMPLATE.format(
        metadata=metadata(name, description, license, found),
        title=name.rpartition("/")[2],
        name=name,
        checkpoint=f"hf:{name}" if "/" in name else name,
        how=model.in_words,
        module="ladic" if captioner in public_names else module,
        captioner=captioner,
        parts="\n".join(parts(description)),
        parameters=parameters(model),
        data=data(description["training"]),
        results="\n\n".join(map(results, found)) or NOT_EVALUATED,
        limits="\n".join(f"- {line}" for line in limits(model, bool(found))),
        licence=f"The weights: {license}." if license else NO_LICENCE,
    )


NOT_EVALUATED = (
    "Not evaluated: no scores of these weights were found; `ladic test -c CONFIG --ckpt_path RUN` makes them."
)
NO_LICENCE = "None was stated for this card. The terms of the training data and of the frozen parts hold in any case."


def find_scores(model: Published, run: str | Path | None = None) -> list[dict[str, Any]]:
    """Contents of the ``scores_<split>.json`` that are about a model's weights, test before validation.

    Those of a test name the checkpoint's hash; those of a validation in training only the step.
    """
    file = model.loaded_from
    folders = [Path(run)] if run is not None else ([] if file is None else list(file.resolve().parents)[:_UP])
    digest = None
    found = []
    for split in ("test", "val"):
        path = next((f / f"scores_{split}.json" for f in folders if (f / f"scores_{split}.json").is_file()), None)
        if path is None:
            continue
        scores = json.loads(path.read_text(encoding="utf-8"))
        if scores.get("checkpoint") is None:
            ours = scores.get("step") == model.loaded_step
        else:
            digest = digest or (file and sha256(file))
            ours = scores["checkpoint"].get("sha256") == digest
        if ours:
            found.append(scores)
    return found


def sha256(file: Path) -> str:
    """Hash of a file's bytes, as evaluation notes it."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def metadata(name: str, description: dict[str, Any], license: str | None, found: list[dict[str, Any]]) -> str:
    """The YAML that the Hub reads, scores included."""
    from huggingface_hub import EvalResult, ModelCardData

    dataset = _class_name((description["training"].get("data") or {}).get("class_path", "unknown"))
    results = [
        EvalResult(
            task_type="image-to-text",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=scores["split"],
            metric_type=metric.lower(),
            metric_name=metric,
            metric_value=_shown(metric, value),
        )
        for scores in found
        for metric, value in scores["scores"].items()
        if value is not None and not metric.endswith("_shuffled")
    ]
    card = ModelCardData(
        library_name="ladic",
        pipeline_tag="image-to-text",
        license=license,
        tags=["image-captioning", *(["diffusion"] if "denoiser" in description else []), "ladic"],
        model_name=name.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return str(card.to_yaml())


def parts(description: dict[str, Any]) -> list[str]:
    """Rows of the table of parts."""
    own = {"class_path": description["captioner"], "init_args": description["settings"]}
    last = {"denoiser": description["denoiser"]} if "denoiser" in description else {"captioner": own}
    rows = []
    for kind, spec in {**description["components"], **last}.items():
        settings = ", ".join(
            f"{key}={_brief(value)}" for key, value in spec["init_args"].items() if value not in (None, False)
        )
        rows.append(f"| {kind.replace('_', ' ')} | `{_class_name(spec['class_path'])}` | {settings} |")
    if "guidance" not in description:
        return rows
    guidance = description["guidance"]
    scale = f"{guidance['scale']:g}"
    rows.append(f"| guidance | scale {scale} | " + ("off |" if scale == "1" else f"{_interval(guidance)} |"))
    return rows


def parameters(model: Published) -> str:
    """How many weights there are, and how many of them were trained."""
    counts = {True: 0, False: 0}
    for parameter in model.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    return f"{sum(counts.values()):,} parameters, of which {counts[True]:,} trained and {counts[False]:,} frozen."


def data(training: dict[str, Any]) -> str:
    """What the model was trained on, as far as the checkpoint knows."""
    spec = training.get("data")
    if spec is None:
        return "Not known: the checkpoint doesn't say."
    settings = "; ".join(f"{key}={_brief(value)}" for key, value in spec["init_args"].items() if value is not None)
    line = f"`{_class_name(spec['class_path'])}` ({settings}), {training['steps']:,} steps"
    return line + (f" of {training['global_batch']} captions." if training.get("global_batch") else ".")


def results(scores: dict[str, Any]) -> str:
    """The scores of one split and how they came about."""
    rows = [
        f"| {name} | {_shown(name, value)} |"
        for name, value in scores["scores"].items()
        if value is not None and not name.endswith("_shuffled")
    ]
    control = [name for name in scores["scores"] if name.endswith("_shuffled")]
    lines = [f"{scores['split']} split, {scores['images']:,} images; times 100, lengths and shares as they are.", ""]
    lines += ["| metric | value |", "|---|---|", *rows, ""]
    if control:
        shuffled = ", ".join(f"{n.removesuffix('_shuffled')} {_shown(n, scores['scores'][n])}" for n in control)
        lines += [f"The same captions beside other images (control): {shuffled}.", ""]
    several = scores.get("num_candidates") or 1
    nfe = f"{scores['nfe']:g} network evaluations (NFE) for each of {several} sample{'s' if several > 1 else ''}"
    if scores.get("selection_nfe"):
        nfe += f" and {scores['selection_nfe']:g} for choosing"
    seeds = ", ".join(f"{key} {value}" for key, value in (scores.get("seeds") or {}).items())
    lines.append(f"{nfe}; precision {scores.get('precision', 'unknown')}; seeds: {seeds or 'unknown'}.")
    return "\n".join(lines)


def limits(model: Published, evaluated: bool) -> list[str]:
    """What a user has to know before relying on a caption."""
    size = model.preprocess.size
    lines = [
        f"A caption has at most {model.length - 2} word pieces, out of {model.vocabulary_size:,} that the head scores.",
        f"Pictures are squashed to {size} x {size} pixels before the model sees them: small things and text are lost.",
        "It describes what its training captions described, in their language and with their biases; pictures unlike "
        "those get fluent captions that are wrong.",
        "Captions may name things that are not there. They are no basis for decisions about people.",
    ]
    return lines if evaluated else [*lines, "How often it is wrong has not been measured."]


def _class_name(path: str) -> str:
    return path.rpartition(".")[2]


def _interval(guidance: dict[str, Any]) -> str:
    return f"for t from {guidance['start']:g} down to {guidance['stop']:g}"


def _brief(value: Any) -> str:
    """A setting in a table's cell: parts by their class, long texts not at all."""
    if isinstance(value, dict) and "class_path" in value:
        return _class_name(value["class_path"])
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= 60 else text[:59] + "…"


def _shown(name: str, value: float) -> float:
    """A score as papers print it."""
    return round(value, 4) if name.startswith(_AS_IS) else round(100 * value, 2)
