"""Linear layers with their weights laid out for the CPU's widest instructions.

Plain float32 products go to MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN uses AVX-512 where it
is there, and in either precision a weight laid out beforehand is not rearranged at every call. The products are the
same up to rounding.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

_onednn: Any = torch.ops.mkldnn
"""Where torch is built without oneDNN its operators are missing, which `_works` finds out."""


class _Packed(nn.Module):
    """A linear layer for inference whose weight only oneDNN can read."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._packed = _onednn._reorder_linear_weight(linear.weight.detach())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _onednn._linear_pointwise(inputs, self._packed, self.bias, "none", [], "")
        return result


def pack(model: nn.Module) -> None:
    """Lay out the weights of the model's linear layers, in place; a model that is not on a CPU is left as it is.

    The plain weights that nothing else uses are freed, so the model can answer but not be trained or saved any more.
    """
    parameters = list(model.named_parameters(remove_duplicate=False))
    uses: dict[int, int] = {}
    for _, parameter in parameters:
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and _can_be_packed(module.weight):
            packed = _Packed(module)
            if uses[id(module.weight)] == 1:
                packed.weight = nn.Parameter(module.weight.detach().to("meta"), requires_grad=False)
            model.set_submodule(name, packed)


def _can_be_packed(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype in {torch.float32, torch.bfloat16} and _works(weight.dtype)


@functools.cache
def _works(dtype: torch.dtype) -> bool:
    """Try it on a small layer: what operators exist and agree depends on the processor and on how torch was built."""
    linear = nn.Linear(32, 16, dtype=dtype)
    inputs = torch.linspace(-1, 1, 96, dtype=dtype).view(3, 32)
    with torch.inference_mode():
        try:
            if dtype == torch.bfloat16 and not _onednn._is_mkldnn_bf16_supported():
                return False
            return torch.allclose(_Packed(linear)(inputs), linear(inputs), atol=0.02)
        except (AttributeError, RuntimeError):
            return False
