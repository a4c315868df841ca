"""The autoregressive baseline against transformers' GPT-2 with the same weights: its pass and its search."""

from typing import Any

import pytest
import torch
from tiny_baselines import autoregressive, lively
from torch import Tensor

from ladic.baselines import AutoregressiveCaptioner
from ladic.baselines.beam import beam_search
from ladic.baselines.decoder import WordByWord
from ladic.components import ConvEncoder


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
