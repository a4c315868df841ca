"""Every registered component keeps its kind's contract; they are found by walking the bases, so none is forgotten."""

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_candidates import tiny_clip
from test_image_encoders import TOWER

import ladic.components as C
from ladic import rerank, testing
from ladic.expected_ngrams import ExpectedNgrams
from ladic.phrases import PhraseDetector
from ladic.rerank import CandidateSelector, Evidence
from ladic.spec import Buildable
from ladic.types import ImagePreprocess

TINY_TOWER = {"model_type": "clip_vision_model", **TOWER}
MODERN: dict[str, Any] = {"norm": "pre", "time": "adaln_zero", "qk_norm": True, "rotary": True}
TINY_DENOISER: dict[str, Any] = {"width": 8, "length": 4, "cond_width": 6, "hidden_width": 16, "num_heads": 2}
RELEASED: dict[str, Any] = {
    "projections": False, "time": "sinusoids_norm", "time_entries": 1000, "max_length": 9, "norm_eps": 1e-12,
    "init_std": 0.02,
}  # fmt: skip


def embedding_space(**kwargs: Any) -> C.EmbeddingLatentSpace:
    config = {**testing.TINY_BERT, "vocab_size": len(testing.tiny_text_space().tokenizer)}
    return C.EmbeddingLatentSpace(config=config, tokenizer=testing.tiny_tokenizer(), length=12, **kwargs)


def expected_ngrams() -> str:
    """A file of words for tokens of width 6."""
    file = Path(tempfile.mkdtemp()) / "words.safetensors"
    ExpectedNgrams.fit(torch.randn(3, 6), [["a dog"], ["a cat"], ["a"]], least=1, ridge=1.0).save(file)
    return str(file)


def phrases() -> str:
    """A file of phrases for tokens of width 6."""
    file = Path(tempfile.mkdtemp()) / "phrases.safetensors"
    PhraseDetector({"a": 0.9, "dog": 0.5, "a dog": 0.4}, width=6).save(file)
    return str(file)


# Components whose defaults are too big or incomplete; every other one is built with its defaults.
TINY: dict[type, list[Callable[[], Buildable]]] = {
    C.LinearSchedule: [C.LinearSchedule, lambda: C.LinearSchedule(num_steps=1000)],
    C.ShiftedSchedule: [C.ShiftedSchedule, lambda: C.ShiftedSchedule(C.LinearSchedule(1000), factor=3.0)],
    C.DDIMSampler: [lambda: C.DDIMSampler(1), lambda: C.DDIMSampler(4, eta=1.0)],
    C.CosineSchedule: [C.CosineSchedule, lambda: C.CosineSchedule(floor=0, num_steps=1000)],
    C.DilatedSchedule: [C.DilatedSchedule, lambda: C.DilatedSchedule(C.LinearSchedule(1000), training=2.0)],
    C.BlipEncoder: [
        lambda: C.BlipEncoder(weights=None, width=16, depth=1, num_heads=2, image_size=32),
        lambda: C.BlipEncoder(weights=None, width=16, depth=1, num_heads=2, image_size=48, frozen=False),
    ],
    C.TimmEncoder: [
        lambda: C.TimmEncoder("test_resnet", image_size=32),
        lambda: C.TimmEncoder("test_vit", image_size=32, frozen=False),
    ],
    C.HFVisionEncoder: [lambda: C.HFVisionEncoder(config=TINY_TOWER)],
    C.ConvEncoder: [
        lambda: C.ConvEncoder(image_size=16, channels=(8, 8)),
        lambda: C.ConvEncoder(image_size=16, channels=(8, 8), frozen=False),
    ],
    C.BertLatentSpace: [
        lambda: testing.tiny_text_space(layer=1),
        lambda: testing.tiny_text_space(layer=3, special_token="."),
        lambda: testing.tiny_text_space(decoder_layers=0, special_token=".", normalizer_eps=0.0, encoder_dropout=True),
        lambda: testing.tiny_text_space(layer=2, decoder_layers=1, normalize=False, reassign=False),
    ],
    C.AnalogBitsLatentSpace: [
        lambda: C.AnalogBitsLatentSpace(testing.tiny_tokenizer(), length=12),
        lambda: C.AnalogBitsLatentSpace(testing.tiny_tokenizer(), length=12, scale=0.5, special_token="."),
        lambda: C.AnalogBitsLatentSpace(testing.tiny_tokenizer(), length=12, reassign=False),
    ],
    C.EmbeddingLatentSpace: [
        embedding_space,
        lambda: embedding_space(special_token="."),
        lambda: embedding_space(normalize=False, reassign=False),
    ],
    rerank.ExpectedCiderSelector: [lambda: rerank.ExpectedCiderSelector(expected_ngrams())],
    rerank.PhraseSelector: [lambda: rerank.PhraseSelector(phrases())],
    rerank.ClipSelector: [lambda: rerank.ClipSelector(*tiny_clip(Path(tempfile.mkdtemp())))],
    rerank.MinimumBayesRiskSelector: [rerank.MinimumBayesRiskSelector, lambda: rerank.MinimumBayesRiskSelector(2)],
    C.CrossAttentionDenoiser: [
        lambda: C.CrossAttentionDenoiser(**TINY_DENOISER, num_layers=2, ffn_width=16),
        lambda: C.CrossAttentionDenoiser(**TINY_DENOISER, num_layers=1, dropout=0.0, norm="pre"),
        lambda: C.CrossAttentionDenoiser(**TINY_DENOISER, num_layers=2, **RELEASED),
        lambda: C.CrossAttentionDenoiser(**TINY_DENOISER, num_layers=2, **MODERN),
    ],
    C.PrefixDenoiser: [
        lambda: C.PrefixDenoiser(**TINY_DENOISER, num_layers=2),
        lambda: C.PrefixDenoiser(**TINY_DENOISER, num_layers=1, pool="mean", norm="pre", **RELEASED),
        lambda: C.PrefixDenoiser(**TINY_DENOISER, num_layers=1, recompute=True, **MODERN),
    ],
}


def check_selector(selector: CandidateSelector) -> None:
    candidates = [["a dog", "a cat", "a dog runs"], ["one"], ["", "x"]]
    tokens = torch.randn(3, 4, 6)
    pictures = ImagePreprocess(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    evidence = Evidence(torch.zeros(3, 3, 8, 8), tokens, lambda rows, *_: (torch.rand(len(rows)),) * 2, pictures)
    scores = selector.scores(candidates, evidence)
    assert [len(row) for row in scores] == [3, 1, 2], "a score for every candidate"
    chosen = selector.select(candidates, evidence)
    assert len(chosen) == 3
    assert all(caption in options for caption, options in zip(chosen, candidates, strict=True))
    testing.check_rebuilds(selector)


CHECKS: dict[type, Callable[[Any], None]] = {
    C.NoiseSchedule: testing.check_noise_schedule,
    C.Sampler: testing.check_sampler,
    C.ImageEncoder: testing.check_image_encoder,
    C.TextLatentSpace: testing.check_latent_space,
    C.Denoiser: lambda denoiser: testing.check_denoiser(denoiser, cond_width=6),
    CandidateSelector: check_selector,
}


def registered(base: type) -> list[type]:
    """Concrete subclasses of ours, however deep; classes that other tests define don't count."""
    found: list[type] = []
    subclasses: list[type] = base.__subclasses__()
    for cls in subclasses:
        if cls.__module__.startswith("ladic.") and not inspect.isabstract(cls):
            found.append(cls)
        found += registered(cls)
    return found


CASES = [
    pytest.param(check, make, id=f"{cls.__name__}-{index}")
    for base, check in CHECKS.items()
    for cls in registered(base)
    for index, make in enumerate(TINY.get(cls, [cls]))
]


@pytest.mark.parametrize(("check", "make"), CASES)
def test_keeps_its_kinds_contract(check: Callable[[Any], None], make: Callable[[], Buildable]) -> None:
    check(make())


def test_every_public_component_is_among_them() -> None:
    public = {getattr(C, name) for name in C.__all__}
    concrete = {cls for cls in public if issubclass(cls, Buildable) and not inspect.isabstract(cls)}
    exported = {each for name in rerank.__all__ if isinstance(each := getattr(rerank, name), type)}
    selectors = {each for each in exported if issubclass(each, CandidateSelector) and not inspect.isabstract(each)}
    assert concrete | selectors == {cls for base in CHECKS for cls in registered(base)}


def test_the_kit_notices_a_schedule_that_rises() -> None:
    class Rising(C.NoiseSchedule):
        def alpha_bar(self, t: torch.Tensor) -> torch.Tensor:
            return t

    with pytest.raises(AssertionError, match="must not rise"):
        testing.check_noise_schedule(Rising())


def test_the_kit_notices_an_encoder_that_is_not_frozen() -> None:
    encoder = C.ConvEncoder(image_size=16, channels=(8, 8), frozen=False)
    encoder.frozen = True
    with pytest.raises(AssertionError, match="must not take gradients"):
        testing.check_image_encoder(encoder)


def test_the_kit_notices_a_denoiser_that_mixes_rows() -> None:
    class Mixing(C.CrossAttentionDenoiser):
        def forward(self, x_t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().forward(x_t, *args, **kwargs) + x_t.mean()

    with pytest.raises(AssertionError, match="not close"):
        testing.check_denoiser(Mixing(**TINY_DENOISER, num_layers=1), cond_width=6)


def test_the_kit_notices_a_sampler_that_never_asks() -> None:
    class Lazy(C.RenoiseSampler):
        def sample(self, denoise: Any, x_t: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return x_t

    with pytest.raises(AssertionError):
        testing.check_sampler(Lazy())


def test_denoisers_embed_time_as_the_released_table() -> None:
    import numpy as np

    from ladic.components.denoisers.layers import sinusoids

    width, times = 6, np.array([0.0, 1.0, 30.0, 999.0])
    table = np.zeros((4, width))
    for i in range(width // 2):
        angle = times * np.exp(-2 * i * np.log(1e4) / width)
        table[:, 2 * i], table[:, 2 * i + 1] = np.sin(angle), np.cos(angle)
    np.testing.assert_allclose(sinusoids(torch.tensor(times), width).numpy(), table, atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 1e-9])
def test_attention_is_softmax_of_scaled_products(dropout: float) -> None:
    from ladic.components.denoisers.layers import attend

    query, key, value = (torch.randn(2, 3, n, 8) for n in (4, 5, 5))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attend(query, key, value, dropout), expected)


def test_context_rows_repeat_select_and_stack() -> None:
    context = C.Context((torch.arange(2.0).view(2, 1), torch.arange(10.0, 12).view(2, 1)))
    assert context.repeat(2).tensors[0].flatten().tolist() == [0, 0, 1, 1], "candidates of one image lie in a row"
    assert context.select(torch.tensor([1])).tensors[1].flatten().tolist() == [11]
    assert C.Context.cat([context, context.select(torch.tensor([0])).expand(3)]).tensors[1].flatten().tolist() == [
        10, 11, 10, 10, 10,
    ]  # fmt: skip
    assert len(context.expand(2)) == 2


def test_impossible_sizes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="hidden_width=16, num_heads=3"):
        C.CrossAttentionDenoiser(**{**TINY_DENOISER, "num_heads": 3})
    with pytest.raises(ValueError, match="norm='middle': accepted are 'post' and 'pre'"):
        C.CrossAttentionDenoiser(**TINY_DENOISER, norm="middle")  # type: ignore[arg-type]
