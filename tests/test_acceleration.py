"""Half precision, compiled parts, and what is made once: the same captions, sooner."""

import copy
import functools
from typing import Any

import pytest
import torch
from tiny_captioner import SMALL, evaluation_batch, model, trainer, training_batch
from torch import Tensor

from ladic import acceleration, precision
from ladic.acceleration import PackedLinear, _frozen, _kept, padded, weight_dtype
from ladic.components import CrossAttentionDenoiser, PrefixDenoiser
from ladic.components.denoisers.base import Context
from ladic.components.latent_spaces.word_loss import linear_cross_entropy
from ladic.errors import UsageError
from ladic.guidance import ClassifierFreeGuidance


def dtypes(module: torch.nn.Module) -> set[torch.dtype]:
    return {weight.dtype for weight in module.parameters()}


@pytest.mark.parametrize(("word", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_weights_are_halved_and_statistics_are_not(word: Any, dtype: torch.dtype) -> None:
    captioner = model().eval()
    exact = captioner.generate(evaluation_batch(captioner)).latents
    space = captioner.accelerate(word).latent_space
    assert dtypes(captioner.image_encoder) == dtypes(captioner.denoiser) == dtypes(space.head) == {dtype}
    assert space.normalizer.mean.dtype == torch.float32
    halved = captioner.generate(evaluation_batch(captioner)).latents
    assert halved.dtype == torch.float32, "the sampler computes in float32"
    assert 0 < (halved - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("factory", [CrossAttentionDenoiser, PrefixDenoiser])
def test_choosing_and_filling_work_in_half_precision_too(factory: Any, tmp_path: Any) -> None:
    from tiny_run import picture

    from ladic.rerank import ReconstructionSelector

    captioner = model(functools.partial(factory, **SMALL), selector=ReconstructionSelector()).eval().accelerate("bf16")
    file = picture(tmp_path / "a.png", "red")
    assert captioner.caption(file, num_candidates=3)[0].caption is not None
    assert "circle" in captioner.infill(file, "a ___{1} circle")[0].caption


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor packs no bf16 weights")
def test_packed_weights_say_the_same_and_changed_ones_are_seen() -> None:
    captioner = model().eval()
    captioner.accelerate("bf16")
    layer = captioner.denoiser.blocks[0].feed_forward[0]  # type: ignore[index, union-attr]
    assert isinstance(layer.forward, PackedLinear)
    x = torch.randn(3, 5, layer.in_features).bfloat16()
    with torch.inference_mode():
        for given in (x, x.transpose(0, 1), x[0]):
            plain = torch.nn.functional.linear(given, layer.weight, layer.bias)
            torch.testing.assert_close(layer(given), plain, atol=4e-3, rtol=0.02)
    assert layer(x.requires_grad_()).requires_grad, "gradients go the plain way"
    twin = copy.deepcopy(captioner)
    with torch.no_grad():
        layer.weight.zero_()
        torch.testing.assert_close(layer(x), layer.bias.expand(3, 5, -1))
    other = twin.denoiser.blocks[0].feed_forward[0]  # type: ignore[index, union-attr]
    assert other.forward.linear is other
    assert not torch.equal(other(x), layer(x))
    exact = captioner.accelerate("fp32").denoiser.blocks[0].feed_forward[0]  # type: ignore[index, union-attr]
    assert "forward" not in vars(exact)


def test_auto_is_bf16_where_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, dtype in (({"amx_bf16"}, torch.bfloat16), ({"avx2"}, torch.float32)):
        monkeypatch.setattr(precision, "cpu_flags", lambda flags=flags: flags)
        assert weight_dtype("auto") == dtype
    with pytest.raises(UsageError, match="precision='fp8': accepted are auto, fp32, bf16, fp16"):
        weight_dtype("fp8")  # type: ignore[arg-type]


def test_compiled_parts_say_the_same_and_compile_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from tiny_run import picture
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: real(function, backend=counter))
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: name)
    torch._dynamo.reset()
    files = [picture(tmp_path / f"{name}.png", name) for name in ("red", "green", "blue", "yellow", "white")]
    captioner, plain = model(num_candidates=2).eval().accelerate("fp32", compile=True), model(num_candidates=2).eval()
    first = captioner.caption(files[:2], batch_size=2)
    compiled = counter.frame_count
    assert compiled > 0
    rest = captioner.caption(files, batch_size=2)
    assert counter.frame_count == compiled, "a last batch of one is filled up; the first step is like others"
    assert rest[:2] == first
    assert [each.caption for each in rest] == [each.caption for each in plain.caption(files, batch_size=2)]
    torch._dynamo.reset()


def test_weights_are_constants_of_what_is_compiled_for_a_cpu() -> None:
    handed: list[int] = []

    def compiler(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        handed.append(len(inputs))
        return graph.forward

    linear, x = torch.nn.Linear(4, 4).eval(), torch.randn(2, 4)
    torch._dynamo.reset()
    with torch.inference_mode():
        torch.compile(linear.forward, backend=compiler)(x)
        torch._dynamo.reset()
        torch.testing.assert_close(_frozen(torch.compile(linear.forward, backend=compiler))(x), linear(x))
    torch._dynamo.reset()
    assert handed == [3, 1], "weight and bias are no inputs"


def test_without_a_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"compile: needs a C\+\+ compiler \(g\+\+ or clang\+\+\), and found none"):
        model().accelerate("fp32", compile=True)


def test_a_batch_is_filled_up_with_its_last_row() -> None:
    assert padded([1, 2], 4) == [1, 2, 2, 2]
    assert padded([1, 2], 2) == [1, 2]


def test_the_null_images_keys_and_values_are_made_once_and_anew_for_other_weights() -> None:
    captioner = model(guidance=ClassifierFreeGuidance(2.0)).eval()
    rows: list[int] = []
    make = captioner.denoiser.context

    def counted(tokens: Tensor) -> Any:
        rows.append(len(tokens))
        return make(tokens)

    captioner.denoiser.context = counted  # type: ignore[method-assign]
    batch = evaluation_batch(captioner)
    first = captioner.generate(batch).latents
    assert torch.equal(captioner.generate(batch).latents, first)
    assert sorted(rows) == [1, 4, 4]
    with torch.no_grad():
        captioner.null_token.normal_()  # type: ignore[union-attr]
    changed = captioner.generate(batch).latents
    assert sorted(rows) == [1, 1, 4, 4, 4]
    assert not torch.equal(changed, first)
    rows.clear()
    captioner.guidance = ClassifierFreeGuidance(1.0)
    captioner.forget_null_image()
    captioner.generate(batch)
    assert rows == [4], "without guidance nobody needs it"


def test_under_a_trainer_averaged_weights_make_their_own_null_image(tmp_path: Any) -> None:
    captioner = model().eval()
    tokens = captioner.image_tokens(evaluation_batch(captioner))
    captioner.trainer = trainer(tmp_path)
    first = captioner.null_context(tokens).tensors[0]
    for weight in captioner.denoiser.parameters():
        weight.data.copy_(2 * weight.data)  # as averaging does, which no counter sees
    assert not torch.equal(captioner.null_context(tokens).tensors[0], first)


def test_what_a_cuda_graph_gives_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    kept = torch.zeros(2, 3)
    for given in (kept, Context((kept, kept))):
        got: Any = _kept(lambda given=given: given)()
        for tensor in got.tensors if isinstance(got, Context) else [got]:
            assert torch.equal(tensor, kept)
            assert tensor.data_ptr() != kept.data_ptr()


def test_guidance_at_all_times_does_not_look_at_the_time() -> None:
    class Unread:
        def __float__(self) -> float:
            raise AssertionError("reading a time from a GPU waits for it")

    unread: Any = Unread()
    assert ClassifierFreeGuidance(2.0).active(unread)
    assert not ClassifierFreeGuidance(1.0, start=0.5).active(unread)
    with pytest.raises(AssertionError, match="waits"):
        ClassifierFreeGuidance(2.0, start=0.5).active(unread)


@pytest.mark.parametrize("words", [1, 3, 7, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sliced_cross_entropy_is_cross_entropy(words: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator, dtype=dtype) for shape in ((2, 5, 8), (7, 8), (7,), (2, 5))]
    targets = torch.randint(0, 7, (2, 5), generator=generator)
    results = []
    for sliced in (True, False):
        hidden, weight, bias = (tensor.clone().requires_grad_() for tensor in tensors[:3])
        if sliced:
            losses, best = linear_cross_entropy(hidden, weight, bias, targets, words)
        else:
            logits = torch.nn.functional.linear(hidden, weight, bias)
            losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            losses, best = losses.view(2, 5), logits.argmax(-1)
        (losses * tensors[3]).sum().backward()
        results.append((losses.detach(), hidden.grad, weight.grad, bias.grad, best))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=2e-5, atol=2e-6)


def test_sliced_cross_entropy_under_autocast_gives_weights_their_own_gradients() -> None:
    hidden, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((6, 16), (9, 16), (9,)))
    targets = torch.randint(0, 9, (6,))
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = linear_cross_entropy(hidden, weight, bias, targets)
    assert losses.dtype == torch.float32
    losses.mean().backward()
    exact = torch.nn.functional.cross_entropy(torch.nn.functional.linear(hidden, weight, bias), targets)
    exact.backward()  # onto what is there: twice the gradient
    for tensor in (hidden, weight, bias):
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32
    torch.testing.assert_close(losses.mean(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("factory", [CrossAttentionDenoiser, PrefixDenoiser])
def test_recomputing_blocks_changes_no_gradient_and_keeps_less(factory: Any) -> None:
    gradients, kept = [], []
    for recompute in (False, True):
        captioner = model(functools.partial(factory, **{**SMALL, "dropout": 0.1}, recompute=recompute)).train()
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            torch.manual_seed(3)
            loss = captioner.losses(training_batch(captioner))["loss"]
        loss.backward()
        kept.append(sum(sizes))
        gradients.append([weight.grad for weight in captioner.denoiser.parameters() if weight.grad is not None])
    assert kept[1] < 0.8 * kept[0]
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
