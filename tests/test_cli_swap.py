"""Every registered component trains a step and captions a picture, chosen by flags alone."""

import json

import pytest
import torch
from data_trees import coco_karpathy, coco_pictures, flickr_pictures, flickr_tokens, genome_pictures, stanford
from test_candidates import tiny_clip
from test_data_webdataset import jpeg, shard
from tiny_run import BERT, TOKENIZER, karpathy_tree, write_config

from ladic.cli.explain import registered
from ladic.components import EmbeddingLatentSpace
from ladic.expected_ngrams import ExpectedNgrams
from ladic.phrases import PhraseDetector
from ladic.plugins import KINDS, load_plugins
from ladic.rounding import TrigramModel
from ladic.testing import tiny_text_space

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TOWER = {**SIZES, "image_size": 32, "patch_size": 16}


def tower(model_type):
    return [f"config={json.dumps({'model_type': model_type, **TOWER})}"]


SMALL_DECODER = ["length=12", "decoder.hidden_width=16", "decoder.num_layers=1", "decoder.num_heads=2"]

# What a component needs beside its name, several ways where it has several faces; nothing if it isn't here.
OPTIONS = {
    "ConvEncoder": [["image_size=32", "frozen=false"], ["image_size=64"]],
    "TimmEncoder": [
        ["model_name=resnet10t", "image_size=32"],
        ["model_name=test_vit", "model_kwargs.img_size=32"],
        ["model_name=test_efficientnet", "image_size=32", "frozen=false"],
    ],
    "HFVisionEncoder": [
        tower(name) for name in ("clip_vision_model", "blip_vision_model", "siglip_vision_model", "dinov2", "vit")
    ],
    "BlipEncoder": [["weights=null", "width=16", "depth=1", "num_heads=2", "image_size=32"]],
    "BertLatentSpace": [
        ["layer=1"],
        ["layer=2", "fitted={tmp}/layer2.safetensors"],
        ["layer=3", "length=16", "fitted={tmp}/layer3.safetensors"],
        ["special_token=.", "decoder_layers=0", "normalizer_eps=0", "encoder_dropout=true"],
    ],
    "AnalogBitsLatentSpace": [["fitted=null"], ["fitted=null", "scale=0.5", "reassign=false", "normalize=false"]],
    "EmbeddingLatentSpace": [
        ["length=16", "fitted={tmp}/layer0.safetensors"],
        ["normalize=false", "reassign=false", "fitted={tmp}/layer0.safetensors"],
    ],
    "CrossAttentionDenoiser": [
        ["norm=pre"],
        ["hidden_width=32", "num_layers=2", "num_heads=4", "ffn_width=48"],
        ["hidden_width=64", "projections=false", "time=sinusoids_norm", "time_entries=1000", "image_norm=false"],
    ],
    "PrefixDenoiser": [["pool=mean"]],
    "DilatedSchedule": [["schedule=LinearSchedule", "schedule.num_steps=1000"]],
    "LinearSchedule": [[], ["num_steps=1000"]],
    "ShiftedSchedule": [["factor=3"], ["schedule=LinearSchedule", "schedule.num_steps=100"]],
    "DDIMSampler": [["num_steps=3"], ["num_steps=3", "eta=1", "spacing=log_snr"]],
    "AncestralSampler": [["num_steps=3", "variance=large"]],
    "BackAndRefine": [
        ["sampler=RenoiseSampler", "sampler.stride=300", "at=0.6", "drop=0.333", "skip=1"],
        ["sampler=DPMSolverSampler", "sampler.num_steps=3", "threshold=0.5", "repeats=2", "forget=true"],
    ],
    "ClipSelector": [["model=ladic-tiny", "pretrained={tmp}/clip/weights.pt"]],
    "LossAwareTimes": [["bins=2", "history=1"]],
    "ArgmaxRounding": [["clamp=false"]],
    "NgramRounding": [["ngrams={tmp}/ngrams.safetensors", "weight=1", "clamp=false"]],
    "CleanCaption": [["repeats=2", "casing=sentence", "ending=stop"]],
    "ReleasedPostProcessor": [["batch_wide=true"]],
    "DiffusersSampler": [["num_steps=3"], ["scheduler=DDIMScheduler", "num_steps=3", "options.steps_offset=1"]],
    "ExpectedCiderSelector": [["words={tmp}/words.safetensors"]],
    "PhraseSelector": [["weights={tmp}/phrases.safetensors", "reward=0.5"]],
    "ReconstructionSelector": [
        ["times=[0.5]", "draws=1"],
        ["selector=PhraseSelector", "selector.weights={tmp}/phrases.safetensors", "shortlist=1"],
    ],
    "AutoregressiveCaptioner": [
        ["tokenizer={tmp}/tokenizer.json", *SMALL_DECODER, "decoder.norm=post", "decoder.tied=false", "beam_size=2"]
    ],
    "MaskedDiffusionCaptioner": [["tokenizer={tmp}/tokenizer.json", *SMALL_DECODER, "num_steps=2"]],
    "CocoDataModule": [["annotations={tmp}/coco/dataset_coco.json", "images={tmp}/coco", "batch_size=2"]],
    "FlickrDataModule": [["annotations={tmp}/flickr/Flickr8k.token.txt", "images={tmp}/flickr", "batch_size=2"]],
    "StanfordParagraphDataModule": [["annotations={tmp}/vg/paragraphs_v1.json", "images={tmp}/vg", "batch_size=1"]],
    "WebDatasetDataModule": [["train={tmp}/0.tar", "val={tmp}/0.tar", "samples_per_epoch=4", "batch_size=2"]],
    "FolderDataModule": [],  # has no captions to train with: tests/test_cli_data.py
    "KarpathyDataModule": [["annotations={tmp}/dataset.json", "images={tmp}/images", "batch_size=4"]],
    "ShapesDataModule": [["unit=caption"], ["paragraphs=true", "num_workers=1"]],
}


def components():
    load_plugins()
    for kind in KINDS:
        module, _, name = kind.base.rpartition(".")
        base = getattr(__import__(module, fromlist=[name]), name)
        for component in registered(base, within="ladic."):
            for words in OPTIONS.get(component, [[]]):
                label = "-".join([component, *(word for word in words if len(word) < 40)])
                yield pytest.param(kind.flag, component, words, id=label)


@pytest.mark.parametrize(("flag", "component", "words"), components())
def test_a_component_trains_and_captions(cli, tmp_path, flag, component, words):
    karpathy_tree(tmp_path)
    for make in (coco_karpathy, coco_pictures):
        make(tmp_path / "coco")
    for make in (flickr_tokens, flickr_pictures):
        make(tmp_path / "flickr")
    for make in (stanford, genome_pictures):
        make(tmp_path / "vg")
    shard(tmp_path / "0.tar", [(f"s{n}", {"jpg": jpeg(), "txt": b"red circle"}) for n in range(4)])
    if component == "ClipSelector":
        (tmp_path / "clip").mkdir()
        tiny_clip(tmp_path / "clip")
    (tmp_path / "tokenizer.json").write_text(TOKENIZER)
    for layer in (2, 3) if component == "BertLatentSpace" else ():
        tiny_text_space(layer=layer).save_fit(tmp_path / f"layer{layer}.safetensors")
    if component == "EmbeddingLatentSpace":
        space = EmbeddingLatentSpace(config=BERT, tokenizer=TOKENIZER, length=12)
        space.normalizer.fit(torch.randn(100, space.width))
        space.save_fit(tmp_path / "layer0.safetensors")
    TrigramModel.count(torch.tensor([[1, 7, 8, 2]]), torch.tensor([4])).save(tmp_path / "ngrams.safetensors")
    PhraseDetector({"a": 0.9, "red": 0.2}, width=16).save(tmp_path / "phrases.safetensors")
    ExpectedNgrams.fit(torch.randn(2, 16), [["a"], ["a red"]], least=1, ridge=1.0).save(tmp_path / "words.safetensors")
    flags = [f"{flag}={component}", *(f"{flag}.{word.replace('{tmp}', str(tmp_path))}" for word in words)]
    once = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.limit_val_batches=1"]
    done = cli("fit", "-c", write_config(tmp_path), *once, *flags)
    assert done.code == 0, done.stderr
    assert json.loads((tmp_path / "run" / "results_val.json").read_text())


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.guidance.scale=1"],
        ["--model.guidance.start=0.8", "--model.guidance.stop=0.2"],
        ["--model.num_candidates=3", "--model.selector=MinimumBayesRiskSelector", "--model.selector.max_order=2"],
        ["--model.self_conditioning=0"],
        ["--model.prediction=v", "--model.loss_weight=min_snr", "--model.guidance.rescale=0.7"],
        ["--model.prediction=epsilon", "--model.loss_weight=truncated_snr", "--model.latent_loss=mse"],
        ["--model.self_conditioning_coin=batch", "--model.null_image=zeros", "--model.guidance.time_difference=0.005"],
        ["--model.self_conditioning_coin=sample", "--model.decay=all", "--model.lr_schedule.from_zero=true"],
        ["--model.latent_loss=mse", "--model.drop_image=0"],
        ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1", "--model.lr_schedule.shape=cosine"],
    ],
)
def test_settings_by_flag(cli, tmp_path, flags):
    done = cli("fit", "-c", write_config(tmp_path), "--trainer.max_steps=1", *flags)
    assert done.code == 0, done.stderr
