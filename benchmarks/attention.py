"""``python -m benchmarks.attention``: why ``ladic.components.denoisers.layers.attend`` is written out in bf16 on CPUs.

Compares the written-out form with ``scaled_dot_product_attention`` at the lengths of captions, forwards and backwards.
"""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional as F

from benchmarks.timing import interleaved, machine


def written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Two matrix products and a softmax, whatever the precision."""
    return torch.softmax((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2), dim=-1) @ value


def main() -> None:
    """Prints one line for each precision and number of keys."""
    print(machine())
    print("batch 256, 6 heads of 32, 24 queries, seed 0; median milliseconds, forwards and backwards")
    torch.manual_seed(0)
    for dtype in (torch.bfloat16, torch.float32):
        for keys in (24, 64, 197):
            query, key, value = (
                torch.randn(256, 6, length, 32, dtype=dtype, requires_grad=True) for length in (24, keys, keys)
            )

            def both(function, tensors) -> None:
                function(*tensors).sum().backward()

            times = interleaved(
                {
                    "written out": partial(both, written_out, (query, key, value)),
                    "fused": partial(both, F.scaled_dot_product_attention, (query, key, value)),
                }
            )
            ratio = times["fused"] / times["written out"]
            text = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in times.items())
            print(f"{str(dtype).removeprefix('torch.')}, {keys} keys: {text}; fused / written out {ratio:.2f}")


if __name__ == "__main__":
    main()
