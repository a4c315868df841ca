"""Fully sharded data parallel training (FSDP; Zhao et al. 2023, "PyTorch FSDP") of a captioner.

Between two steps each of W processes holds 1/W of the trained weights, of their gradients, of the optimiser's moments
and of the averaged weights; while a step computes, the trained weights are whole. Frozen weights, which have none of
the others, stay whole on every process.

Lightning's own FSDP strategy can't be used for this model: it refuses `gradient_clip_val`, its weight averaging
compares shards with whole tensors, and it loads checkpoints itself, unpickling them and without the frozen weights that
ours leave out.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from ladic.errors import UsageError

STEPS = ("training_step", "validation_step")
"""Methods of a captioner that compute with its weights during training."""


class ShardedStrategy(DDPStrategy):
    """``--trainer.strategy=fsdp``. Works on CPUs (gloo) and GPUs (NCCL).

    Checkpoints are those of an unsharded run: whole tensors in one file, which rank 0 writes. A run can go on from one
    sharded or not, on any number of processes, and ``ladic test`` and ``caption`` read it.
    """

    def configure_ddp(self) -> None:
        """Shards the model and its averaged copy, which hold the checkpoint's weights already."""
        trainer: Any = self.lightning_module.trainer  # type: ignore[union-attr]
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        shard(self.lightning_module, mesh)  # type: ignore[arg-type]
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging):
                average = callback._average_model  # Lightning offers no other way to it
                assert average is not None
                shard(average.module.to(self.root_device), mesh)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Collects the shards, on all ranks together, and writes them on rank 0."""
        super().save_checkpoint(gathered(checkpoint, keep=self.is_global_zero), filepath, storage_options)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """Gives every rank its share of the moments."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict({**state, "state": _scattered(state["state"], optimizer)})


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shards the trained weights of a captioner in place, after all ranks have taken those of rank 0.

    Args:
        module: the captioner, or a copy of it.
        mesh: one dimension of W processes.

    Raises:
        UsageError: where PyTorch can't leave frozen weights whole.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for tensor in module.state_dict().values():
        torch.distributed.broadcast(tensor.data, 0)
    frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
    # One group: the denoiser's blocks are also called by other ways than `forward`, where a group of their own would
    # not be gathered. Sharded again after validation too, so that weight averaging never swaps a gathered copy.
    try:
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
    except TypeError as error:
        raise UsageError(f"trainer.strategy=fsdp: needs PyTorch 2.7 or newer, this is {torch.__version__}") from error
    for name in STEPS if isinstance(module, LightningModule) else ():
        register_fsdp_forward_method(module, name)


def gathered(value: Any, keep: bool = True) -> Any:
    """The same with every shard in it replaced by its whole tensor, in memory of the CPU.

    A collective call: all ranks make it with values of one structure.

    Args:
        value: tensors, plain values, and containers of them.
        keep: whether this rank wants the result; others drop each tensor at once.
    """
    if isinstance(value, DTensor):
        whole = value.full_tensor().detach()
        return whole.cpu() if keep else None
    if isinstance(value, dict):
        return {name: gathered(item, keep) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(gathered(item, keep) for item in value)
    return value


def _scattered(state: dict[int, dict[str, Any]], optimizer: Any) -> dict[int, dict[str, Any]]:
    """Moments by parameter number, each placed like its parameter where it has its shape."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def placed(value: Any, like: Tensor) -> Any:
        if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
            return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
        return value

    return {
        number: {name: placed(value, parameters[number]) for name, value in moments.items()}
        for number, moments in state.items()
    }
