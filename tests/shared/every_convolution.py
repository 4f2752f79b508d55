"""Run in a process of its own with MALLOC_PERTURB_: every convolution that our networks compute on a CPU, alone, in bfloat16.

Prints a line for each whose output or gradients are not those of float32, and the number of those tried.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.encoders import STEMS, build_encoder
from genrep.encoders.architectures import RESNETS
from genrep.encoders.networks import Conv2d
from genrep.generate.generators.stylegan2 import ops

BATCH = 2
SIZES = (8, 16, 17, 33, 112)  # of crops, in pixels
CIFAR_LIMIT = 40  # of the stem without pooling: its maps above are the other stem's, and slow
TOLERANCE = 0.05  # of the largest value: bfloat16 has 8 bits
WORK = 3e6  # multiplications for an image; a layer that takes more is tried with fewer channels


def layers_of_encoders() -> set[tuple[int, int, int, int, int, int]]:
    """(in, out, kernel, stride, padding, side of the map) of every convolution."""
    found = set()

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert type(layer) is Conv2d, layer
        found.add(
            (
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size[0],
                layer.stride[0],
                layer.padding[0],
                inputs[0].shape[3],
            )
        )

    for arch, stem in itertools.product(RESNETS, STEMS):
        with torch.device("meta"):
            encoder = build_encoder(arch, stem, seed=0).eval()
        for layer in encoder.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_pre_hook(remember)
        for size in SIZES:
            if stem == "imagenet" or size <= CIFAR_LIMIT:
                encoder(torch.empty(1, 3, size, size, device="meta"))
    return found


def same(name: str, function, *tensors: Tensor, autocast: bool) -> None:
    """Compare a function's value and its gradients in bfloat16 with float32's."""
    results = []
    for low in (False, True):
        inputs = [tensor.clone(memory_format=torch.preserve_format).requires_grad_() for tensor in tensors]
        if low and not autocast:
            value = function(*(tensor.bfloat16() for tensor in inputs))
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                value = function(*inputs)
        towards = torch.randn(value.shape, generator=torch.Generator().manual_seed(2)).to(value.dtype)
        value.backward(towards)
        results.append([value.detach().float(), *(tensor.grad for tensor in inputs)])
    for what, wanted, got in zip(("output", "gradient of the input", "gradient of the weights"), *results):
        wrong = ~((wanted - got).abs() <= TOLERANCE * wanted.abs().max())
        if wrong.any():
            print(f"{name}: {int(wrong.sum())} of {wrong.numel()} values of the {what}, {float(got[wrong][0])}")


def affordable(into: int, out: int, kernel: int, stride: int, padding: int, side: int) -> tuple[int, ...]:
    """The same layer with as few channels as make it quick."""
    while into > 16 and into * out * (kernel * side / stride) ** 2 > WORK:
        into, out = into // 2, out // 2
    return into, out, kernel, stride, padding, side


def try_encoders(generator: torch.Generator) -> int:
    tried = {affordable(*layer) for layer in layers_of_encoders()}
    for into, out, kernel, stride, padding, side in sorted(tried):
        layer = Conv2d(into, out, kernel, stride, padding, bias=False).to(memory_format=torch.channels_last)
        x = torch.randn(BATCH, into, side, side, generator=generator).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(layer.weight.shape, generator=generator) / (kernel * into**0.5)

        def convolve(x: Tensor, weight: Tensor, layer: Conv2d = layer) -> Tensor:
            return torch.func.functional_call(layer, {"weight": weight}, (x,))

        weight = weight.contiguous(memory_format=torch.channels_last)
        same(f"{into}-{out} {kernel}x{kernel}/{stride} at {side}", convolve, x, weight, autocast=True)
    return len(tried)


def try_patches(generator: torch.Generator) -> int:
    """Patch embeddings, as in a user's own network."""
    sides = (4, 8, 14, 16)
    for (into, out), side in itertools.product(((3, 64), (16, 32), (64, 64)), sides):
        layer = Conv2d(into, out, side, side, bias=False)
        x = torch.randn(BATCH, into, 3 * side, 3 * side, generator=generator)
        weight = torch.randn(layer.weight.shape, generator=generator) / (side * into**0.5)

        def embed(x: Tensor, weight: Tensor, layer: Conv2d = layer) -> Tensor:
            return torch.func.functional_call(layer, {"weight": weight}, (x,))

        same(f"patches {into}-{out} of {side}", embed, x, weight, autocast=True)
    return 3 * len(sides)


def try_generators(generator: torch.Generator) -> int:
    """StyleGAN2's and its discriminator's: from 4x4 on, up and down by 2; fit-gan computes them in plain bfloat16."""
    fir = ops.fir_kernel()
    kinds = {
        "up": lambda x, weight: ops.conv_up2(x, weight, fir),
        "down": lambda x, weight: ops.conv_down2(x, weight, fir),
        "same": lambda x, weight: F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2),
    }
    count = 0
    for (kind, function), (into, out), side in itertools.product(
        kinds.items(), ((16, 16), (64, 32), (128, 128), (3, 32), (257, 128)), (4, 8, 16, 32)
    ):
        for kernel in (3,) if kind == "up" else (1, 3):
            x = torch.randn(BATCH, into, side, side, generator=generator).contiguous(memory_format=torch.channels_last)
            weight = torch.randn(out, into, kernel, kernel, generator=generator) / (kernel * into**0.5)
            same(f"{kind} {into}-{out} {kernel}x{kernel} at {side}", function, x, weight, autocast=False)
            count += 1
    return count


if __name__ == "__main__":
    drawn = torch.Generator().manual_seed(1)
    print(f"tried {try_encoders(drawn) + try_patches(drawn) + try_generators(drawn)}")
