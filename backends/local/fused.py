"""Faster products for training, the same up to rounding.

A LoRA layer in one step: the adapter's product is added by the matrix product itself, without the widening, scaling
and adding passes over whole activations that peft's layer makes. In float32 on a CPU the frozen weight is laid out
for oneDNN, once for each direction: plain products go to MKL, which keeps to AVX2 on processors that are not Intel's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import nn
from torch.nn import functional

_Product = Callable[[torch.Tensor], torch.Tensor]

_linear: Any = torch.ops.mkldnn._linear_pointwise
_reorder: Any = torch.ops.mkldnn._reorder_linear_weight
_mkldnn: Any = torch.backends.mkldnn


def fuse(model: Any) -> bool:
    """Compute the model's LoRA layers in one step, in place; False when some of them cannot be and keep peft's way.

    Parameters and their names stay, so the adapter is saved as before.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    fit = [layer for layer in layers if _is_plain(layer)]
    for layer in fit:
        layer.forward = _Fused(layer)  # type: ignore[assignment]
    return bool(layers) and len(fit) == len(layers)


def lays_out(device: str, dtype: str) -> bool:
    """Whether weights of this precision are laid out for this device, which takes their memory twice again."""
    return device == "cpu" and dtype == "float32" and bool(_mkldnn.is_available())


def _is_plain(layer: Any) -> bool:
    """LoRA over a plain linear layer: no dropout, no DoRA, no quantised weight."""
    return (
        type(layer.base_layer) is nn.Linear
        and not layer.lora_variant
        and all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())
    )


class _Fused:
    """The forward pass of one layer."""

    def __init__(self, layer: Any) -> None:
        base, (name,) = layer.base_layer, layer.active_adapters
        self._down, self._up = layer.lora_A[name].weight, layer.lora_B[name].weight
        self._scale: float = layer.scaling[name]
        self._product, self._product_back = _products(base.weight.detach(), base.bias)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Lora.apply(  # type: ignore[no-untyped-call]
            inputs, self._down, self._up, self._scale, self._product, self._product_back
        )
        return result


def _products(weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[_Product, _Product]:
    """Products x W^T + bias and g W with a frozen weight W."""
    if not lays_out(weight.device.type, str(weight.dtype).removeprefix("torch.")):
        return (lambda x: functional.linear(x, weight, bias)), (lambda g: g @ weight)
    forward, backward = _reorder(weight), _reorder(weight.t().contiguous())
    return (lambda x: _linear(x, forward, bias, "none", [], "")), (lambda g: _linear(g, backward, None, "none", [], ""))


class _Lora(torch.autograd.Function):
    """y = x W^T + bias + s (x A^T) B^T, of which x, A and B have gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
        product: _Product,
        product_back: _Product,
    ) -> torch.Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        down, up = down.to(inputs.dtype), (up * scale).to(inputs.dtype)
        inner = rows @ down.t()
        result = product(rows).addmm_(inner, up.t())
        ctx.save_for_backward(rows, inner, down, up)
        ctx.scale, ctx.product_back, ctx.shape = scale, product_back, inputs.shape
        return result.view(*inputs.shape[:-1], result.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, inner, down, up = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        inner_gradient = gradient @ up
        to_down = (inner_gradient.t() @ rows).float()
        to_up = (gradient.t() @ inner).float().mul_(ctx.scale)
        to_inputs = None
        if ctx.needs_input_grad[0]:
            to_inputs = ctx.product_back(gradient).addmm_(inner_gradient, down).view(ctx.shape)
        return to_inputs, to_down, to_up, None, None, None
