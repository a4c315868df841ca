"""Who may import whom (design: the arrows point one way). Read from source, type-checking blocks included."""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

FOLDERS = {"ladic": "ladic", "components": "ladic.components", "datamodules": "ladic.datamodules"}
KINDS = ("denoisers", "image_encoders", "latent_spaces", "noise_schedules", "samplers")
BASE = ("ladic.errors", "ladic.json_files", "ladic.memory", "ladic.seeds", "ladic.spec", "ladic.types")
CONTRACTS = (*(f"ladic.components.{kind}.base" for kind in KINDS), "ladic.components.latent_spaces.words")
PLAIN = tuple(
    f"ladic.{name}"
    for name in (
        "losses",
        "guidance",
        "generation",
        "infill",
        "rerank",
        "phrases",
        "expected_ngrams",
        "reconstruction",
        "draws",
        "clamping",
        "template",
        "length_control",
        "rounding",
        "postprocess",
        "targets",
        "time_sampling",
        "pieces",
        "trace",
    )
)
TRAINING = ("lightning", "pytorch_lightning", "torchmetrics")

# module or package -> what it may import of ladic (prefixes) and which outside libraries it may not.
# The longest name that fits a module decides.
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ladic.errors": ((), (*TRAINING, "torch")),
    "ladic.types": (("ladic.errors",), TRAINING),
    "ladic.spec": (("ladic.errors",), TRAINING),
    "ladic.plugins": (("ladic.errors",), (*TRAINING, "torch")),
    "ladic.catalog": (("ladic.errors", "ladic.plugins", "ladic.sources"), (*TRAINING, "torch")),
    "ladic.sources": (("ladic.plugins",), (*TRAINING, "torch")),
    **{
        f"ladic.components.{kind}": ((*BASE, f"ladic.components.{kind}"), TRAINING)
        for kind in KINDS
    },
    "ladic.metrics": ((*BASE, "ladic.metrics"), ("lightning", "pytorch_lightning")),
    # Files of image tokens: the captioner makes them, datamodules read them.
    "ladic.features": ((*BASE, "ladic.features"), TRAINING),
    "ladic.signals": ((), (*TRAINING, "torch")),
    "ladic.slurm": (("ladic.errors", "ladic.signals"), (*TRAINING, "torch")),
    # The options of a row are read as the command line reads them.
    "ladic.sweep": (
        (
            *BASE, "ladic.__version__", "ladic.plugins", "ladic.plots", "ladic.signals",
            "ladic.slurm", "ladic.sweep", "ladic.cli.bases", "ladic.cli.configs", "ladic.cli.configs_diff",
        ),
        (*TRAINING, "torch"),
    ),
    "ladic.optim": (BASE, TRAINING),
    "ladic.muon": ((*BASE, "ladic.precision"), TRAINING),
    "ladic.frozen": (BASE, TRAINING),
    "ladic.rebuild": (
        (
            *BASE, "ladic.components", "ladic.frozen", "ladic.guidance", "ladic.postprocess", "ladic.rerank",
            "ladic.rounding", "ladic.time_sampling",
        ),
        TRAINING,
    ),
    "ladic.hub": (
        (*BASE, "ladic.__version__", "ladic.checkpoints", "ladic.frozen", "ladic.model_card", "ladic.rebuild"),
        TRAINING,
    ),
    "ladic.model_card": ((*BASE, "ladic.__all__"), TRAINING),
    "ladic.distillation": (
        (*BASE, "ladic.components", "ladic.features", "ladic.guidance", "ladic.time_sampling", "ladic.captioner"),
        TRAINING,
    ),
    "ladic.export": ((*BASE, *CONTRACTS, "ladic.guidance", "ladic.targets"), TRAINING),
    "ladic.human_study": ((*BASE, "ladic.metrics"), TRAINING),
    "ladic.human_page": ((*BASE, "ladic.human_study"), (*TRAINING, "torch")),
    "ladic.completion": ((*BASE, "ladic.catalog", "ladic.plugins", "ladic.cli.configs"), (*TRAINING, "torch")),
    "ladic.precision": ((), TRAINING),
    "ladic.acceleration": (
        ("ladic.errors", "ladic.precision", "ladic.captioner_base", "ladic.components.denoisers.base"),
        TRAINING,
    ),
    "ladic.null_image": (("ladic.components.denoisers.base", "ladic.captioner"), TRAINING),
    "ladic.doctor": ((*BASE, "ladic.precision", "ladic.doctor", "ladic.frozen", "ladic.metrics"), ()),
    "ladic.checkpoints": ((*BASE, "ladic.components"), TRAINING),
    "ladic.datamodules": ((*BASE, "ladic.features", "ladic.datamodules"), ()),
    **{module: ((*BASE, *CONTRACTS, *PLAIN), TRAINING) for module in PLAIN},
    # Utilities and CLIP compare captions as the metrics do.
    "ladic.rerank": ((*BASE, *CONTRACTS, *PLAIN, "ladic.metrics", "ladic.components.latent_spaces.backbone"), TRAINING),
    "ladic.expected_ngrams": ((*BASE, "ladic.metrics.functional.cider"), TRAINING),
    "ladic.pictures": ((*BASE, "ladic.datamodules.images", "ladic.datamodules.transforms"), TRAINING),
    "ladic.inference": (
        (*BASE, *PLAIN, "ladic.acceleration", "ladic.pictures", "ladic.captioner", "ladic.captioner_base"),
        TRAINING,
    ),
    **{
        module: (
            (
                *BASE, *PLAIN, "ladic.components", "ladic.optim", "ladic.features", "ladic.frozen",
                "ladic.checkpoints", "ladic.plugins", "ladic.inference", "ladic.pictures", "ladic.hub",
                "ladic.distillation", "ladic.rebuild", *more,
            ),
            (),
        )
        for module, more in {
            "ladic.captioner_base": ("ladic.acceleration",),
            "ladic.captioner": ("ladic.captioner_base", "ladic.null_image", "ladic.acceleration"),
            "ladic.baselines": ("ladic.captioner_base", "ladic.baselines"),
        }.items()
    },
    "ladic.callbacks": (
        (
            *BASE, *PLAIN, "ladic.components", "ladic.features", "ladic.captioner", "ladic.captioner_base",
            "ladic.metrics", "ladic.callbacks", "ladic.checkpoints",
            "ladic.trace_pictures",
            "ladic.slurm",
        ),
        (),
    ),
    "ladic.cli": (("ladic",), ()),
}  # fmt: skip

UPWARD = ("ladic.cli", "ladic.callbacks")
"""What no module without a rule of its own may import."""


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its right name, ``__init__`` files (which re-export) left out."""
    return {
        ".".join((package, *file.relative_to(root / folder).with_suffix("").parts)): file
        for folder, package in FOLDERS.items()
        for file in sorted((root / folder).rglob("*.py"))
        if file.name != "__init__.py"
    }


def imports(module: str, file: Path) -> Iterator[str]:
    """Absolute dotted names that a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                origin = resolve_name("." * node.level + origin, module.rpartition(".")[0])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def breaches(module: str, names: list[str]) -> list[str]:
    """The imports of a module that its layer may not have."""
    rule = max((name for name in RULES if within(module, (name,))), key=len, default=None)
    if rule is None:
        return [name for name in names if within(name, UPWARD)]
    allowed, banned = RULES[rule]
    return [
        name for name in names
        if (within(name, ("ladic",)) and not within(name, allowed)) or within(name, banned)
    ]  # fmt: skip


def test_imports_point_one_way(root):
    found = {module: breaches(module, list(imports(module, file))) for module, file in modules(root).items()}
    assert {module: names for module, names in found.items() if names and module != "ladic.__main__"} == {}


def test_every_kind_has_a_rule(root):
    assert {file.parent.name for file in (root / "components").glob("*/*.py")} == set(KINDS)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ladic.components.samplers.ddim", "ladic.components.noise_schedules.base.NoiseSchedule"),
        ("ladic.components.samplers.ddim", "ladic.components.CosineSchedule"),
        ("ladic.components.latent_spaces.bert", "lightning.pytorch.LightningModule"),
        ("ladic.components.image_encoders.cached", "ladic.datamodules.base.CaptionDataModule"),
        ("ladic.datamodules.coco", "ladic.components.ImageEncoder"),
        ("ladic.datamodules.coco", "ladic.captioner.LatentDiffusionCaptioner"),
        ("ladic.generation", "lightning.seed_everything"),
        ("ladic.metrics.cider", "ladic.captioner.LatentDiffusionCaptioner"),
        ("ladic.captioner", "ladic.callbacks.evaluation.Evaluation"),
        ("ladic.captioner", "ladic.metrics.scoring.score_captions"),
        ("ladic.optim", "ladic.cli.main"),
        ("ladic.a_new_module", "ladic.cli.main"),
        ("ladic.types", "ladic.spec.Buildable"),
    ],
)
def test_a_breach_is_seen(module, name):
    assert breaches(module, ["torch.Tensor" if module != "ladic.errors" else "ast", name]) == [name]


def test_relative_imports_are_resolved(tmp_path):
    file = tmp_path / "ddim.py"
    file.write_text("from ..noise_schedules import base\nfrom .base import Sampler\n")
    assert list(imports("ladic.components.samplers.ddim", file)) == [
        "ladic.components.noise_schedules.base",
        "ladic.components.samplers.base.Sampler",
    ]
