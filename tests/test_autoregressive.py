"""The autoregressive baseline: its pass and its search against transformers', its words, its checkpoints."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_baselines import autoregressive, lively, masked, pictures, taught
from tiny_captioner import CAPTIONS, evaluation_batch, fit
from torch import Tensor
from torch.nn import functional as F

from ladic.baselines import AutoregressiveCaptioner
from ladic.baselines.beam import beam_search
from ladic.baselines.decoder import WordByWord
from ladic.captioner import LatentDiffusionCaptioner
from ladic.captioner_base import Captioner
from ladic.components import ConvEncoder
from ladic.errors import UsageError
from ladic.length_control import LengthRange
from ladic.optim import parameter_groups
from ladic.postprocess import CleanCaption
from ladic.rerank import MinimumBayesRiskSelector, ReconstructionSelector
from ladic.testing import tiny_text_space

SHAPES: list[dict[str, Any]] = [
    {},
    {"norm": "post", "tied": False},
    {"image_width": 12, "image_norm": False, "ffn_width": 20},
]


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@torch.no_grad()
def test_one_pass_over_all_words_is_the_pass_word_by_word(sizes: dict[str, Any]) -> None:
    decoder = lively(autoregressive(sizes=sizes)).decoder
    tokens, words = torch.randn(3, 16, 8), torch.randint(0, 30, (6, 9))  # two captions of each picture
    context = decoder.context(tokens)
    whole = decoder(words, context.repeat(2))
    next_word = WordByWord(decoder, context)
    steps = [next_word(words[:, place]) for place in range(9)]
    torch.testing.assert_close(torch.stack(steps, 1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_that_are_taken_over_bring_their_past_along() -> None:
    decoder = lively(autoregressive()).decoder
    context = decoder.context(torch.randn(1, 16, 8))
    next_word = WordByWord(decoder, context)
    next_word(torch.tensor([5, 6, 7]))
    got = next_word(torch.tensor([8, 9, 9]), torch.tensor([2, 2, 0]))
    asked = torch.tensor([[7, 8], [7, 9], [5, 9]])
    torch.testing.assert_close(got, decoder(asked, context.repeat(3))[:, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_no_word_sees_a_later_one() -> None:
    decoder = lively(autoregressive()).decoder
    context = decoder.context(torch.randn(1, 16, 8))
    words = torch.randint(0, 30, (1, 8))
    changed = words.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 30
    one, other = decoder(words, context)[0], decoder(changed, context)[0]
    assert torch.equal(one[:5], other[:5])
    assert not torch.allclose(one[5:], other[5:])


@torch.no_grad()
def test_attention_in_bf16_on_a_cpu_is_causal_too() -> None:
    decoder = autoregressive().decoder.eval()
    words, tokens = torch.randint(0, 30, (2, 8)), torch.randn(2, 16, 8)
    exact = decoder(words, decoder.context(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        rough = decoder(words, decoder.context(tokens))
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)


def gpt2(captioner: AutoregressiveCaptioner) -> Any:
    """transformers' GPT-2 with cross-attention, with the weights of a captioner whose image tokens are as wide."""
    from transformers import GPT2Config, GPT2LMHeadModel

    decoder, sizes = captioner.decoder, captioner.sizes
    config = GPT2Config(
        vocab_size=captioner.vocabulary_size,
        n_positions=captioner.length,
        n_embd=sizes.hidden_width,
        n_layer=sizes.num_layers,
        n_head=sizes.num_heads,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        layer_norm_epsilon=sizes.norm_eps,
        add_cross_attention=True,
        bos_token_id=captioner.word("cls"),
        eos_token_id=captioner.word("sep"),
        pad_token_id=captioner.word("pad"),
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config).eval()
    state: dict[str, Tensor] = {
        "transformer.wte.weight": decoder.head.embedding.weight,
        "lm_head.weight": decoder.head.output.weight,
        "transformer.wpe.weight": decoder.positions,
        "transformer.ln_f.weight": decoder.output_norm.weight,
        "transformer.ln_f.bias": decoder.output_norm.bias,
    }
    for number, block in enumerate(decoder.blocks):
        own, cross = block.self_attention, block.cross_attention
        layers = {
            "attn.c_proj": own.out,
            "crossattention.q_attn": cross.query,
            "crossattention.c_attn": cross.key_value,
            "crossattention.c_proj": cross.out,
            "mlp.c_fc": block.feed_forward[0],
            "mlp.c_proj": block.feed_forward[2],
        }
        here = {f"{name}.weight": layer.weight.T for name, layer in layers.items()}
        here |= {f"{name}.bias": layer.bias for name, layer in layers.items()}
        here["attn.c_attn.weight"] = torch.cat([own.query.weight, own.key_value.weight]).T
        here["attn.c_attn.bias"] = torch.cat([own.query.bias, own.key_value.bias])
        for name, norm in zip(("ln_1", "ln_cross_attn", "ln_2"), block.norms, strict=True):
            here |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
        state |= {f"transformer.h.{number}.{name}": value for name, value in here.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith((".attn.bias", ".masked_bias")) for name in missing), missing
    return model


def like_gpt2() -> AutoregressiveCaptioner:
    """A captioner that GPT-2 can be: its image tokens are as wide as its hidden states and are read as they are."""
    sizes = {"image_norm": False, "hidden_width": 32, "tied": False}  # tied and untrained, it would say a word for ever
    captioner = lively(autoregressive(image_encoder=ConvEncoder(16, (8, 32)), sizes=sizes))
    with torch.no_grad():
        captioner.decoder.head.bias.zero_()  # GPT-2 has none
        captioner.decoder.head.output.weight.mul_(6)
    return captioner


@torch.no_grad()
def test_the_pass_is_that_of_gpt2_with_cross_attention() -> None:
    captioner = like_gpt2()
    tokens, words = torch.randn(3, 5, 32), torch.randint(0, 30, (3, 10))
    ours = captioner.decoder(words, captioner.decoder.context(tokens))
    theirs = gpt2(captioner)(input_ids=words, encoder_hidden_states=tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


class EndAfter:
    """Leaves nothing but the end to say after so many words."""

    def __init__(self, words: int, end: int) -> None:
        self.words, self.end = words, end

    def __call__(self, said: Tensor, scores: Tensor) -> Tensor:
        if said.shape[1] <= self.words:
            return scores
        return scores.masked_fill(torch.arange(scores.shape[-1]) != self.end, -torch.inf)


@pytest.mark.parametrize(("beam_size", "length_penalty"), [(1, 1.0), (3, 1.0), (4, 0.3)])
@torch.no_grad()
def test_the_search_finds_what_that_of_transformers_finds(beam_size: int, length_penalty: float) -> None:
    from transformers import LogitsProcessorList

    captioner = like_gpt2()
    captioner.length_penalty = length_penalty
    captioner.decoder.head.output.weight[captioner.word("sep")] *= 2  # so that captions end, at different times
    tokens, start, end = torch.randn(6, 5, 32), captioner.word("cls"), captioner.word("sep")
    banned = captioner.banned(but=["sep"])
    ours = beam_search(
        WordByWord(captioner.decoder, captioner.decoder.context(tokens)),
        6,
        start=start,
        end=end,
        beam_size=beam_size,
        max_length=9,
        length_penalty=length_penalty,
        banned=banned,
    )
    found = gpt2(captioner).generate(
        torch.full((6, 1), start),
        attention_mask=torch.ones(6, 1, dtype=torch.long),
        encoder_hidden_states=tokens,
        do_sample=False,
        num_beams=beam_size,
        num_return_sequences=beam_size,
        early_stopping=beam_size > 1,
        length_penalty=length_penalty,
        max_new_tokens=10,
        logits_processor=LogitsProcessorList([EndAfter(9, end)]),  # whose own beams pay for no end where they are cut
        suppress_tokens=banned.nonzero().flatten().tolist(),
        return_dict_in_generate=True,
        output_scores=True,
    )
    special = {start, end, captioner.word("pad")}
    theirs = [[word for word in row[1:] if word not in special] for row in found.sequences.tolist()]
    assert [words for each in ours for words in each.words] == theirs
    if beam_size > 1:
        torch.testing.assert_close(
            torch.tensor([score for each in ours for score in each.scores]),
            found.sequences_scores.float(),
            atol=1e-4,
            rtol=1e-4,
        )
    assert len({len(words) for words in theirs}) > 1, "captions of several lengths"


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@torch.no_grad()
def test_the_loss_is_the_mean_over_all_words_of_the_batch(smoothing: float) -> None:
    captioner = lively(autoregressive(label_smoothing=smoothing))
    batch = pictures(captioner, ["a red circle", "a", "two small dogs run a a a a a a a a a a", "a blue square"])
    ours = captioner.losses(batch)
    context = captioner.decoder.context(batch["image_tokens"])
    each, right = [], []
    for row in range(4):
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
        for place in range(1, len(ids)):  # one word at a time, nothing batched, nothing padded
            so_far = torch.tensor([ids[:place]])
            logp = F.log_softmax(captioner.decoder(so_far, context.select(torch.tensor([row])))[0, -1], -1)
            each.append((1 - smoothing) * -logp[ids[place]] - smoothing * logp.mean())
            right.append(int(logp.argmax()) == ids[place])
    assert len(each) == 4 + 2 + 11 + 4, "the third was cut, with its [SEP] kept"
    torch.testing.assert_close(ours["loss"], torch.stack(each).mean(), atol=1e-4, rtol=1e-4)
    assert float(ours["token_accuracy"]) == pytest.approx(sum(right) / len(right))


@torch.no_grad()
def test_ranks_with_captions_of_other_lengths_have_the_loss_of_the_whole_batch() -> None:
    captioner = lively(autoregressive())
    batch: Any = pictures(captioner, ["a red circle", "two small dogs run a a a a a", "a", "a blue square"])
    whole = captioner.losses(batch)["loss"]
    halves = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 2), slice(2, 4))]
    words = sum(int(half["attention_mask"][:, 1:].sum()) for half in halves)
    captioner.train()  # without dropout
    strategy = SimpleNamespace(reduce=lambda count, reduce_op: torch.tensor(words / 2))
    captioner._trainer = SimpleNamespace(strategy=strategy)
    each = torch.stack([captioner.losses(half)["loss"] for half in halves])
    torch.testing.assert_close(each.mean(), whole)
    assert not torch.allclose(each[0], each[1], rtol=0.02)


def test_it_learns_to_say_what_it_is_shown() -> None:
    captioner = autoregressive(label_smoothing=0.0)
    told = taught(captioner, 40)
    assert told[-1]["loss"] < 0.1 * told[0]["loss"]
    assert told[-1]["token_accuracy"] == 1.0
    assert captioner.predict_step(pictures(captioner), 0)["captions"] == CAPTIONS
    captioner.beam_size = 1
    output = captioner.predict_step(pictures(captioner), 0)
    assert output["captions"] == CAPTIONS
    lengths = [len(captioner.tokenizer(caption)["input_ids"]) - 1 for caption in CAPTIONS]
    assert output["nfe"] == lengths, "steps to the end of each caption, [SEP] included"


@pytest.mark.parametrize("settings", [{}, {"sampling": "sample", "num_candidates": 3, "top_p": 0.9}], ids=str)
@torch.no_grad()
def test_a_caption_is_the_same_in_every_batch(settings: dict[str, Any]) -> None:
    captioner = lively(autoregressive(**settings))
    tokens = torch.randn(5, 16, 8)
    together = captioner.candidates({"image_tokens": tokens, "image_id": [0, 1, 2, 3, 4]})
    for row in range(5):
        alone = captioner.candidates({"image_tokens": tokens[row : row + 1], "image_id": [row]})
        assert alone.captions[0] == together.captions[row]
        assert alone.scores[0] == pytest.approx(together.scores[row], abs=1e-5)
        assert alone.nfe[0] == together.nfe[row]


@torch.no_grad()
def test_every_row_of_a_beam_is_an_evaluation_for_each_step() -> None:
    captioner = lively(autoregressive(beam_size=3))
    asked: list[int] = []
    captioner.decoder.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    output = captioner.predict_step(pictures(captioner, rows=1), 0)
    assert output["nfe"][0] * captioner.rows == sum(asked) > 3


@torch.no_grad()
def test_a_beam_has_several_captions_and_never_a_special_token() -> None:
    captioner = lively(autoregressive(num_candidates=4, min_length=1))
    with torch.no_grad():
        for name in ("pad", "cls", "unk", "mask"):
            captioner.decoder.head.bias[captioner.word(name)] = 50.0
    found = captioner.candidates(pictures(captioner))
    assert all(len(set(map(str, own))) >= 2 for own in found.captions)
    assert all(later <= earlier for own in found.scores for earlier, later in pairwise(own))
    assert all(caption for own in found.captions for caption in own[:1])
    best = found.captions
    captioner.beam_size, captioner.num_candidates = 4, 2
    assert captioner.candidates(pictures(captioner)).captions == [own[:2] for own in best], "of a beam of four"


@torch.no_grad()
def test_candidates_are_drawn_by_the_image_and_the_seed_and_chosen_by_a_selector() -> None:
    captioner = lively(autoregressive(sampling="sample", num_candidates=6))
    batch = pictures(captioner)
    alike = {**batch, "image_tokens": batch["image_tokens"][:1].expand(4, -1, -1)}
    first = captioner.candidates(alike)
    assert len({tuple(own) for own in first.captions}) == 4, "images that are alike have draws of their own"
    assert captioner.candidates(alike) == first
    assert captioner.candidates(alike, 2).captions == [own[:2] for own in first.captions]
    likeliest = [own[scores.index(max(scores))] for own, scores in zip(first.captions, first.scores, strict=True)]
    assert captioner.predict_step(alike, 0)["captions"] == likeliest
    captioner.selector = MinimumBayesRiskSelector()
    chosen = captioner.predict_step(alike, 0)
    assert chosen["captions"] == MinimumBayesRiskSelector().select(first.captions)
    assert chosen["selection_nfe"] == [0] * 4
    captioner.seed = 1
    assert captioner.candidates(alike).captions != first.captions
    captioner.selector = ReconstructionSelector()
    with pytest.raises(UsageError, match="ReconstructionSelector: needs the model to choose"):
        captioner.candidates(alike)


def as_numbers(rows: Sequence[Sequence[int]]) -> list[str]:
    """In the place of texts, which another number of tokens may be read from."""
    return [" ".join(map(str, row)) for row in rows]


@torch.no_grad()
def test_a_score_is_the_models_whatever_it_was_drawn_with() -> None:
    captioner = lively(autoregressive(sampling="sample", num_candidates=3, temperature=0.6, top_p=0.8, max_length=4))
    captioner.texts = as_numbers  # type: ignore[method-assign]
    batch = pictures(captioner)
    found = captioner.candidates(batch)
    context = captioner.decoder.context(batch["image_tokens"])
    for row, (captions, scores) in enumerate(zip(found.captions, found.scores, strict=True)):
        for caption, score in zip(captions, scores, strict=True):
            words = torch.tensor([[captioner.word("cls"), *map(int, caption.split()), captioner.word("sep")]])
            logp = captioner.decoder(words[:, :-1], context.select(torch.tensor([row]))).log_softmax(-1)
            said = logp.gather(2, words[:, 1:].unsqueeze(2))
            assert score == pytest.approx(float(said.mean()), abs=1e-4)


def test_options_are_those_that_mean_something() -> None:
    assert "seed" not in autoregressive().options, "a beam draws nothing"
    assert "seed" in autoregressive(sampling="sample").options
    assert {"rerank", "num_candidates"} <= autoregressive().options


@pytest.mark.parametrize("length", [LengthRange(4, 4), LengthRange(0, 2), LengthRange(6)])
@torch.no_grad()
def test_a_caption_has_as_many_tokens_as_asked_for(length: LengthRange) -> None:
    captioner = lively(autoregressive(beam_size=2))
    context = captioner.decoder.context(pictures(captioner)["image_tokens"])
    found = beam_search(
        WordByWord(captioner.decoder, context),
        4,
        start=captioner.word("cls"),
        end=captioner.word("sep"),
        beam_size=2,
        max_length=length.most or 10,
        min_length=length.least or 0,
        banned=captioner.banned(but=["sep"]),
    )
    sizes = [len(words) for each in found for words in each.words]
    assert all((length.least or 0) <= size <= (length.most or 10) for size in sizes)
    texts = [captioner.texts(each.words) for each in found]
    assert captioner.candidates(pictures(captioner), 2, length).captions == texts
    captioner.sampling = "sample"
    captioner.texts = as_numbers  # type: ignore[method-assign]
    drawn = captioner.candidates(pictures(captioner), 5, length)
    longest = length.most or 10
    assert all(steps <= longest + 1 for steps in drawn.nfe)
    sizes = [len(caption.split()) for own in drawn.captions for caption in own]
    assert all((length.least or 0) <= size <= longest for size in sizes)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (None, (3, 5)),
        (LengthRange(most=4), (3, 4)),
        (LengthRange(least=4), (4, 5)),
        (LengthRange(least=0), (0, 5)),
        (LengthRange(most=2), (2, 2)),
        (LengthRange(least=7), (7, 7)),
        (LengthRange(1, 6), (1, 6)),
    ],
)
@torch.no_grad()
def test_a_bound_that_is_not_asked_for_stays_the_models(asked: LengthRange | None, meant: tuple[int, int]) -> None:
    captioner = lively(autoregressive(beam_size=4, min_length=3, max_length=5))
    free = lively(autoregressive(beam_size=4))
    batch = pictures(captioner)
    assert captioner.candidates(batch, length=asked) == free.candidates(batch, length=LengthRange(*meant))


@torch.no_grad()
def test_scores_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    captioner = lively(autoregressive())
    captioner.decoder.head.bias.fill_(torch.nan)
    with pytest.raises(UsageError, match="scores of the next word aren't finite"):
        captioner.predict_step(pictures(captioner), 0)


@torch.no_grad()
def test_nothing_that_may_be_said_is_an_empty_caption(tmp_path: Path) -> None:
    space = tiny_text_space()
    space.head.restrict(torch.tensor(sorted(space.tokenizer.all_special_ids)))
    space.save_fit(tmp_path / "space.safetensors")
    captioner = autoregressive(vocabulary=str(tmp_path / "space.safetensors"), min_length=2).eval()
    assert captioner.predict_step(pictures(captioner), 0)["captions"] == [""] * 4
    assert captioner.candidates(pictures(captioner)).scores == [[-torch.inf]] * 4


@pytest.mark.parametrize("make", [autoregressive, masked])
@torch.no_grad()
def test_weights_in_half_precision_say_nearly_the_same(make: Any) -> None:
    exact, halved = lively(make()), lively(make()).accelerate("bf16")
    assert {weight.dtype for weight in halved.parameters()} == {torch.bfloat16}
    batch = pictures(exact)
    pixels = {"image": torch.randn(4, 3, 16, 16), "image_id": batch["image_id"]}
    for each in (batch, pixels):
        ours, theirs = halved.candidates(each), exact.candidates(each)
        assert [len(own) for own in ours.captions] == [len(own) for own in theirs.captions]
        best = torch.tensor([[own[0] for own in found.scores] for found in (ours, theirs)])
        torch.testing.assert_close(best[0], best[1], atol=0.05, rtol=0.05)


def test_steps_of_growing_shapes_are_not_compiled() -> None:
    with pytest.raises(UsageError, match="compile: not for AutoregressiveCaptioner"):
        autoregressive().accelerate("fp32", compile=True)


def test_its_words_are_those_of_the_latent_space_it_is_compared_with(tmp_path: Path) -> None:
    space = tiny_text_space()
    known = space.tokenize(["a red circle", "a blue square", "two dogs run"])
    unknown = torch.tensor([space.tokenizer.unk_token_id, space.tokenizer.pad_token_id])
    space.head.restrict(torch.unique(torch.cat([known.input_ids.flatten(), unknown])))
    space.save_fit(tmp_path / "space.safetensors")
    captioner = autoregressive(vocabulary=str(tmp_path / "space.safetensors"))
    ours, theirs = captioner.tokenize(CAPTIONS), space.tokenize(CAPTIONS)
    assert torch.equal(ours.input_ids, theirs.input_ids)
    assert torch.equal(ours.attention_mask, theirs.attention_mask)
    assert captioner.token_lengths(CAPTIONS) == space.token_lengths(CAPTIONS)
    said = set(captioner.decoder.head.vocabulary.tolist())
    assert said - set(space.head.vocabulary.tolist()) == {space.tokenizer.mask_token_id}, "which is never said"
    lost = captioner.words(ours.input_ids)[2] == captioner.word("unk")  # "two small dogs run"
    assert captioner.tokenizer.convert_ids_to_tokens(ours.input_ids[2][lost].tolist()) == ["small"]
    assert captioner.texts([captioner.words(ours.input_ids[0]).tolist()]) == ["a red circle"]


def test_a_word_table_follows_its_checkpoint(tmp_path: Path) -> None:
    space = tiny_text_space()
    space.head.restrict(torch.arange(20))
    space.save_fit(tmp_path / "space.safetensors")
    for tied in (True, False):
        captioner = autoregressive(vocabulary=str(tmp_path / "space.safetensors"), sizes={"tied": tied})
        run = fit(captioner, tmp_path, pictures(captioner))
        run.save_checkpoint(tmp_path / "model.ckpt")
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        again = Captioner.load_from_checkpoint(tmp_path / "model.ckpt")
        assert isinstance(again, AutoregressiveCaptioner)
        assert again.vocabulary_size == captioner.vocabulary_size == 20
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in captioner.state_dict().items())


def test_a_checkpoint_comes_back_from_the_file_alone(tmp_path: Path) -> None:
    captioner = autoregressive(
        beam_size=2,
        length_penalty=0.5,
        min_length=1,
        max_length=6,
        label_smoothing=0.2,
        sampling="sample",
        num_candidates=3,
        temperature=0.8,
        top_p=0.7,
        seed=5,
        selector=MinimumBayesRiskSelector(2),
        postprocess=CleanCaption(ending="stop"),
        sizes={"norm": "post", "image_width": 12},
    )
    fit(captioner, tmp_path, max_steps=3).save_checkpoint(tmp_path / "model.ckpt")
    stored = torch.load(tmp_path / "model.ckpt", weights_only=True)["ladic"]
    json.dumps(stored)
    again = Captioner.load_from_checkpoint(tmp_path / "model.ckpt")
    assert type(again) is AutoregressiveCaptioner
    captioner.eval()
    batch = evaluation_batch(captioner)
    assert again.predict_step(batch, 0) == captioner.predict_step(batch, 0)
    assert all(caption.endswith(".") for caption in again.predict_step(batch, 0)["captions"])
    assert again.description() == captioner.description()
    assert not any(module.training for module in again.modules())
    wider = AutoregressiveCaptioner.load_from_checkpoint(tmp_path, beam_size=5)
    assert wider.beam_size == 5
    folder = captioner.save_pretrained(tmp_path / "folder")
    assert (folder / "tokenizer.json").is_file()
    published = Captioner.from_pretrained(folder)
    assert published.predict_step(batch, 0) == captioner.predict_step(batch, 0)
    card = (folder / "README.md").read_text()
    assert "from ladic import AutoregressiveCaptioner" in card
    assert "word by word" in card
    assert "diffusion" not in card.partition("\n---\n")[0]


def test_a_checkpoint_of_another_captioner_is_refused_by_name(tmp_path: Path) -> None:
    captioner = autoregressive()
    fit(captioner, tmp_path, pictures(captioner)).save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(UsageError, match=r"holds a captioner of the class AutoregressiveCaptioner; this is for Latent"):
        LatentDiffusionCaptioner.load_from_checkpoint(tmp_path)
    contents = torch.load(tmp_path / "model.ckpt", weights_only=True)
    contents["ladic"]["captioner"] = "subprocess.Popen"
    torch.save(contents, tmp_path / "model.ckpt")
    with pytest.raises(UsageError, match="holds a captioner of the class Popen; this is for Captioner"):
        Captioner.load_from_checkpoint(tmp_path)


@pytest.mark.parametrize("named", [3, None, ["a"], ".relative", "no_such_package.Captioner", "ladic.captioners.Gone"])
def test_a_captioner_that_can_not_be_found_is_told(tmp_path: Path, named: Any) -> None:
    folder = autoregressive().save_pretrained(tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "captioner": named}))
    for cls in (Captioner, AutoregressiveCaptioner):
        with pytest.raises(UsageError, match=r"captioner is|can't be imported") as caught:
            cls.from_pretrained(folder)
        assert "\n" not in str(caught.value)


def test_a_captioner_of_a_script_is_read_as_the_class_that_asks(tmp_path: Path) -> None:
    class Mine(AutoregressiveCaptioner):
        pass

    folder = autoregressive().save_pretrained(tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "captioner": f"{Mine.__module__}.{Mine.__qualname__}"}))
    with pytest.warns(UserWarning, match="was made in a script; read as AutoregressiveCaptioner"):
        assert type(AutoregressiveCaptioner.from_pretrained(folder)) is AutoregressiveCaptioner
    with pytest.raises(UsageError, match="can't be imported"):
        Captioner.from_pretrained(folder)


def test_muon_takes_the_hidden_matrices_and_leaves_the_words() -> None:
    for tied in (True, False):
        captioner = autoregressive(sizes={"tied": tied})
        (hidden, *others) = parameter_groups(captioner)
        assert hidden["hidden"]
        scored = {id(p) for p in captioner.decoder.head.parameters()}
        assert not scored & {id(p) for p in hidden["params"]}
        assert scored <= {id(p) for group in others for p in group["params"]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beam_size": 0}, "beam_size=0: need at least 1"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0: a share"),
        ({"length": 2}, "length=2: need at least 3"),
        ({"max_length": 40}, r"holds 10; take less, or train with --model\.length=42"),
        ({"min_length": 5, "max_length": 3}, "need 0 <= least <= most"),
        ({"vocabulary": "none.safetensors"}, r"vocabulary='none\.safetensors': no such file; make it with `ladic fit-"),
        ({"tokenizer": "no/such"}, "can't be loaded"),
        ({"sizes": {"num_heads": 5}}, "divides by the heads"),
        ({"sizes": {"hidden_width": -32}}, "decoder hidden_width=-32: need at least 1"),
        ({"sizes": {"num_heads": 0}}, "decoder num_heads=0: need at least 1"),
        ({"sizes": {"image_width": 0}}, "decoder image_width=0: need at least 1"),
        ({"sizes": {"ffn_width": 0}}, "decoder ffn_width=0: need at least 1"),
        ({"sizes": {"norm": "mid"}}, "decoder norm='mid'"),
        ({"sizes": {"dropout": 1.5}}, r"decoder dropout=1\.5"),
        ({"decay": "some"}, "decay='some'"),
        ({"selector": ReconstructionSelector()}, r"needs a model that denoises latents; give --model\.selector="),
        ({"num_candidates": 0}, "num_candidates=0: need at least 1"),
        ({"sampling": "top"}, "sampling='top': accepted are beam, sample"),
        ({"temperature": 0.0}, r"temperature=0\.0: need more than 0; for the likeliest words take sampling=beam"),
        ({"top_p": 0.0}, r"top_p=0\.0: a share of the probability"),
        ({"top_p": 1.5}, r"top_p=1\.5: a share of the probability"),
    ],
)
def test_what_can_not_be_is_told_in_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        autoregressive(**settings)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_of_another_tokenizer_or_none_is_told(tmp_path: Path) -> None:
    space = tiny_text_space()
    space.head.vocabulary += 1000
    space.save_fit(tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="made for another tokenizer"):
        autoregressive(vocabulary=str(tmp_path / "other.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="can't be read"):
        autoregressive(vocabulary=str(tmp_path / "broken.safetensors"))
