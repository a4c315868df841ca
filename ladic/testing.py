"""Checks that a component keeps its kind's contract; plug-in authors call them, and so do our own tests.

    from ladic.testing import check_sampler
    def test_mine():
        check_sampler(MySampler(num_steps=4))

Each check raises AssertionError with what is wrong.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from ladic.components.denoisers.base import Denoiser
from ladic.components.image_encoders.base import ImageEncoder
from ladic.components.latent_spaces.base import TextLatentSpace
from ladic.components.latent_spaces.bert import BertLatentSpace
from ladic.components.noise_schedules.base import NoiseSchedule
from ladic.components.noise_schedules.cosine import CosineSchedule
from ladic.components.samplers.base import Sampler
from ladic.spec import Buildable, build, describe

TINY_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
TINY_CAPTIONS = ["a red circle", "a blue square left of a green star", "two small dogs run", ""]


def check_noise_schedule(schedule: NoiseSchedule) -> None:
    """alpha_bar falls from near 1 to near 0 within [0, 1], keeps shapes, and noising is variance-preserving."""
    t = torch.linspace(0, 1, 101)
    alpha_bar = schedule.alpha_bar(t)
    assert alpha_bar.shape == t.shape, "alpha_bar must keep the shape of t"
    assert ((alpha_bar >= 0) & (alpha_bar <= 1)).all(), "alpha_bar must lie in [0, 1]"
    assert (alpha_bar.diff() <= 1e-7).all(), "alpha_bar must not rise with t"
    assert alpha_bar[0] > 0.98, "alpha_bar(0) must be near 1"
    assert alpha_bar[-1] < 0.05, "alpha_bar(1) must be near 0"
    assert torch.equal(schedule.alpha_bar(t.view(1, -1)), alpha_bar.view(1, -1)), "alpha_bar must take any shape"
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - alpha_bar, atol=1e-6, rtol=1e-5)
    middle = torch.tensor([0.5])
    expected = torch.log(schedule.alpha_bar(middle) / (1 - schedule.alpha_bar(middle)))
    torch.testing.assert_close(schedule.log_snr(middle), expected, atol=1e-4, rtol=1e-4)
    x0, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    clean = schedule.add_noise(x0, torch.zeros(2), torch.zeros_like(noise))
    torch.testing.assert_close(clean, x0 * schedule.alpha_bar(torch.zeros(1)).sqrt().item())
    assert schedule.add_noise(x0.bfloat16(), torch.rand(2), noise.bfloat16()).dtype == torch.bfloat16
    check_rebuilds(schedule)


def check_sampler(sampler: Sampler) -> None:
    """The walk asks the denoiser at times in [0, 1] and ends where a perfect denoiser points."""
    target = torch.randn(2, 3, 4)
    asked: list[float] = []

    def denoise(x_t: Tensor, t: Tensor, x0_prev: Tensor | None) -> Tensor:
        assert t.shape == (2,), "the denoiser gets one time per row"
        assert x_t.shape == target.shape
        asked.append(float(t[0]))
        return target

    generator = torch.Generator().manual_seed(0)
    result = sampler.sample(
        denoise,
        torch.randn(2, 3, 4, generator=generator),
        CosineSchedule(),
        lambda: torch.randn(2, 3, 4, generator=generator),
        confidence=lambda x0: torch.rand(x0.shape[:2], generator=generator),
    )
    torch.testing.assert_close(result, target)
    assert len(asked) >= 1, "the denoiser was never asked"
    assert all(0 <= t <= 1 for t in asked), "times must lie in [0, 1]"
    check_rebuilds(sampler)


def check_image_encoder(encoder: ImageEncoder) -> None:
    """Tokens have the announced shape, rows don't mix, and a frozen encoder stays frozen; gradients reach all
    that isn't."""
    size = encoder.preprocess.size
    images = torch.randn(2, 3, size, size)
    encoder.eval()
    with torch.no_grad():
        tokens = encoder(images)
        assert tokens.shape == (2, encoder.num_tokens, encoder.width), (
            f"announced and given shapes differ: {tokens.shape}"
        )
        torch.testing.assert_close(encoder(images[:1]), tokens[:1], atol=1e-4, rtol=1e-3)
    if encoder.frozen:
        encoder.train()
        assert not any(module.training for module in encoder.modules()), "a frozen encoder must stay in eval mode"
        assert not any(p.requires_grad for p in encoder.parameters()), "a frozen encoder must not take gradients"
        assert not encoder(images).requires_grad
    else:
        encoder.train()
        encoder(images).square().sum().backward()
        without = [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, f"parameters that no gradient reaches: {without[:3]}"
    check_rebuilds(encoder)


def check_latent_space(space: TextLatentSpace) -> None:
    """Shapes, reassigned specials, a trainable head and nothing else, and captions that come back as text."""
    space.eval()
    tokens = space.tokenize(TINY_CAPTIONS)
    shape = (len(TINY_CAPTIONS), space.length)
    assert tokens.input_ids.shape == tokens.attention_mask.shape == shape
    x0 = space.encode(tokens.input_ids, tokens.attention_mask)
    assert x0.shape == (*shape, space.width)
    assert not x0.requires_grad, "latents are targets: no gradient flows into them"
    special = space.reassigned_positions(tokens.input_ids, tokens.attention_mask)
    latent = space.special_latent().expand(int(special.sum()), -1)
    torch.testing.assert_close(x0[special], latent.to(x0.dtype), msg="special positions must get the special latent")
    alone = space.encode(tokens.input_ids[:1], tokens.attention_mask[:1])
    torch.testing.assert_close(alone, x0[:1], atol=1e-4, rtol=1e-3)
    latents = x0.clone().requires_grad_()
    logits = space.decode(latents)
    assert logits.shape == (*shape, space.vocabulary_size)
    targets = space.targets(tokens.input_ids, tokens.attention_mask)
    assert targets.shape == shape
    assert int(targets.min()) >= 0
    assert int(targets.max()) < space.vocabulary_size
    logits.logsumexp(-1).sum().backward()
    assert latents.grad is not None, "gradients must reach the latents through the decoder"
    assert latents.grad.abs().sum() > 0, "gradients must reach the latents through the decoder"
    trained = {name for name, parameter in space.named_parameters() if parameter.requires_grad}
    assert trained, "the head must be trainable"
    assert all(name.startswith("head.") for name in trained), f"only the head is trained, not {sorted(trained)[:3]}"
    space.train()
    dropouts = [m for m in space.modules() if isinstance(m, torch.nn.Dropout)]
    assert not any(module.training for module in dropouts), "the frozen part must stay in eval mode"
    texts = space.to_text(targets)
    assert len(texts) == len(TINY_CAPTIONS)
    assert not set(texts[-1]) - {" ", *(space.special_token or "")}, "an empty caption must come back empty"
    check_rebuilds(space)


def check_denoiser(denoiser: Denoiser, cond_width: int, num_tokens: int = 5) -> None:
    """Shapes, a context that is independent of the noise and may be shared, rows that don't mix, and gradients."""
    x_t = torch.randn(2, denoiser.length, denoiser.width)
    t, tokens = torch.tensor([0.2, 0.9]), torch.randn(2, num_tokens, cond_width)
    denoiser.eval()
    context = denoiser.context(tokens)
    assert len(context) == 2, "a context has one row per image"
    x0 = denoiser(x_t, t, context, None)
    assert x0.shape == x_t.shape
    torch.testing.assert_close(denoiser(x_t, t, context, torch.zeros_like(x_t)), x0, msg="no estimate means zeros")
    alone = denoiser(x_t[1:], t[1:], denoiser.context(tokens[1:]), None)
    torch.testing.assert_close(alone, x0[1:], atol=1e-4, rtol=1e-3)
    null = denoiser.context(tokens[:1])  # in a guided step the latents come twice, and second without their images
    given = denoiser.context_of_guided(denoiser.context_of_candidates(context, 2), null)
    twice, times = x_t.repeat_interleave(2, dim=0), t.repeat_interleave(2)
    with_image, without_image = denoiser(torch.cat([twice, twice]), torch.cat([times, times]), given, None).chunk(2)
    torch.testing.assert_close(with_image, x0.repeat_interleave(2, dim=0), atol=1e-4, rtol=1e-3)
    null_alone = denoiser(twice, times, null.expand(4), None)
    torch.testing.assert_close(without_image, null_alone, atol=1e-4, rtol=1e-3)
    if denoiser.shares_context:  # as no image is given then
        equal = denoiser.context(tokens[:, :1].expand_as(tokens))
        one = denoiser(x_t, t, denoiser.context(tokens[:, :1]), None)
        torch.testing.assert_close(one, denoiser(x_t, t, equal, None), atol=1e-4, rtol=1e-3)
    denoiser.train()
    denoiser(x_t, t, denoiser.context(tokens), x0.detach()).square().sum().backward()
    without = [name for name, p in denoiser.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"parameters that no gradient reaches: {without[:3]}"
    check_rebuilds(denoiser)


def check_rebuilds(component: Buildable) -> None:
    """A component's description is plain JSON and builds one of the same class."""
    spec = json.loads(json.dumps(describe(component)))
    again = build(spec, Buildable)
    assert type(again) is type(component)
    if isinstance(component, torch.nn.Module) and isinstance(again, torch.nn.Module):
        again.load_state_dict(component.state_dict())


def tiny_tokenizer() -> str:
    """The tokenizer.json of a small BERT tokenizer over a few words and all letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
    words += sorted({word for caption in TINY_CAPTIONS for word in caption.split()})
    words += [prefix + chr(code) for code in range(97, 123) for prefix in ("", "##") if prefix + chr(code) not in words]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(words[:5])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer.to_str()


def tiny_text_space(layer: int = 1, length: int = 12, **kwargs: object) -> BertLatentSpace:
    """A random three-layer BERT of width 32 with fitted statistics, for tests."""
    size = len(json.loads(tiny_tokenizer())["model"]["vocab"])
    space = BertLatentSpace(
        config={**TINY_BERT, "vocab_size": size},
        tokenizer=tiny_tokenizer(),
        layer=layer,
        length=length,
        **kwargs,  # type: ignore[arg-type]
    )
    tokens = space.tokenize(TINY_CAPTIONS)
    with torch.no_grad():
        space.normalizer.fit(space.features(tokens.input_ids, tokens.attention_mask).flatten(0, 1))
    return space
