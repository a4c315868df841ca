"""``trainer.precision=auto``: bf16 where the machine computes it, float32 where it would be emulated."""

import pytest
import torch

from ladic import precision
from ladic.cli.lightning_cli import parse
from ladic.cli.trainer import PrecisionTrainer
from ladic.precision import computes_bf16, fast_autocast


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ({"avx2", "amx_bf16"}, "bf16-mixed"),
        ({"avx512_bf16"}, "bf16-mixed"),
        ({"bf16"}, "bf16-mixed"),
        ({"avx2"}, "32-true"),
    ],
    ids=["amx", "avx512", "arm", "avx2"],
)
def test_auto_follows_the_processor(monkeypatch, flags, chosen):
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    trainer = PrecisionTrainer(precision="auto", accelerator="cpu", logger=False, enable_checkpointing=False)
    assert trainer.precision == chosen
    with fast_autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if chosen == "bf16-mixed" else torch.float32)


def test_auto_follows_the_card(monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx2"})
    for emulated in (False, True):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, no=emulated: not no)
        assert computes_bf16("cuda") is not emulated
    assert not computes_bf16("mps")


@pytest.mark.parametrize(("given", "got"), [("bf16-mixed", "bf16-mixed"), ("bf16", "bf16-mixed"), (None, "32-true")])
def test_what_is_asked_for_by_name_is_done(monkeypatch, given, got):
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx2"})
    trainer = PrecisionTrainer(precision=given, accelerator="cpu", logger=False, enable_checkpointing=False)
    assert trainer.precision == got


def test_the_command_line_takes_auto_and_all_of_lightnings():
    for word in ("auto", "bf16-mixed", "64-true"):
        assert parse(["-c", "configs/demo.yaml", f"--trainer.precision={word}"]).trainer.precision == word
