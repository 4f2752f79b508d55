"""Residual Flow against its forward pass written out plainly: other shapes and options than the goldens have."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from genrep.generate.generators.residual_flow import family, layers
from genrep.unpickle import Opaque

BASE = "resflows.layers.base.mixed_lipschitz."
CONV, LINEAR = BASE + "InducedNormConv2d", BASE + "InducedNormLinear"
ACTIVATIONS = {
    "swish": ("resflows.layers.base.activations.Swish", {}),
    "elu": ("torch.nn.modules.activation.ELU", {"alpha": 1.0}),
    "relu": ("torch.nn.modules.activation.ReLU", {}),
    "softplus": ("torch.nn.modules.activation.Softplus", {"beta": 1, "threshold": 20}),
    "lcube": ("resflows.layers.base.activations.LipschitzCube", {}),
    "fullsort": ("resflows.layers.base.activations.FullSort", {}),
}


def largest_difference(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def generator_of(content):
    return family.open_checkpoint(family.recognise(content, Path("file.pth"), named=False))


class Flow:
    """A Residual Flow's checkpoint as its training writes it, and its forward pass by the equations."""

    def __init__(self, shape, blocks, *, activation="swish", factor_out=False, fc_end=True, mixing=False, args=None):
        self.random = torch.Generator().manual_seed(5)
        self.activation, self.factor_out, self.state, self.shapes = activation, factor_out, {}, []
        stages = {}
        for s, count in enumerate(blocks):
            self.s, self.shape, self.chain = s, shape, {}
            if s == 0:
                self.add("resflows.layers.elemwise.LogitTransform", alpha=0.05)
                self.actnorm(shape[0])
            for b in range(count):
                if mixing:
                    self.mix(shape[0])
                self.residual(preact=(s, b) != (0, 0))
                self.actnorm(shape[0])
            if s + 1 < len(blocks):
                self.add("resflows.layers.squeeze.SqueezeLayer", downscale_factor=2)
                shape = (shape[0] * (2 if factor_out else 4), shape[1] // 2, shape[2] // 2)
            elif fc_end:
                self.residual(fully=True)
                self.actnorm(shape[0] * shape[1] * shape[2], wrapped=True)
            self.shapes.append(shape)
            stages[str(s)] = module("resflows.resflow.StackediResBlocks", {"chain": module("ModuleList", self.chain)})
        net = {"transforms": module("torch.nn.modules.container.ModuleList", stages)}
        options = {"vnorms": "2222", "coeff": 0.9, "n_lipschitz_iters": 100, "sn_atol": None, "sn_rtol": None}
        self.module = module("resflows.resflow.ResidualFlow", net, factor_out=factor_out, learn_p=False, **options)
        ema = Opaque("resflows.utils.ExponentialMovingAverage", state={"module": self.module, "shadow_params": {}})
        self.content = {"state_dict": self.state, "args": Opaque("argparse.Namespace", state=args or {}), "ema": ema}

    def randn(self, *shape, scale=1.0):
        return torch.randn(*shape, generator=self.random) * scale

    def tensors(self, name, **tensors):
        prefix = f"transforms.{self.s}.chain.{name}."
        self.state.update({prefix + key: value for key, value in tensors.items()})

    def add(self, name, children=None, **attributes):
        self.chain[str(len(self.chain))] = module(name, children, **attributes)

    def actnorm(self, size, wrapped=False):
        place = f"{len(self.chain)}.fc_module" if wrapped else len(self.chain)
        self.tensors(place, weight=self.randn(size, scale=0.2), bias=self.randn(size, scale=0.2))
        norm = module("resflows.layers.act_norm.ActNorm1d" if wrapped else "resflows.layers.act_norm.ActNorm2d")
        if wrapped:
            self.add("resflows.resflow.FCWrapper", {"fc_module": norm})
        else:
            self.chain[str(len(self.chain))] = norm

    def mix(self, size):
        self.tensors(len(self.chain), weight=torch.eye(size) + self.randn(size, size, scale=0.1))
        self.add("resflows.layers.glow.InvertibleConv2d")

    def residual(self, preact=True, fully=False):
        (channels, height, width), hidden = self.shape, 6
        inside, parts = "nnet.nnet" if fully else "nnet", {}
        sizes = [channels * height * width if fully else channels, hidden, hidden]
        for i, k in enumerate((3, 1, 3)):
            if preact or i:
                name = f"{len(self.chain)}.{inside}.{len(parts)}"
                if self.activation == "swish":
                    self.tensors(name, beta=self.randn(1))
                parts[str(len(parts))] = module(ACTIVATIONS[self.activation][0], **ACTIVATIONS[self.activation][1])
            weight = self.randn(sizes[(i + 1) % 3], sizes[i], *(() if fully else (k, k)))
            area = 1 if fully or k == 1 else height * width
            name = f"{len(self.chain)}.{inside}.{len(parts)}"
            self.tensors(name, weight=weight, bias=self.randn(len(weight)), spatial_dims=torch.tensor([height, width]))
            self.tensors(name, u=self.randn(len(weight) * area), v=self.randn(sizes[i] * area))
            parts[str(len(parts))] = module(LINEAR if fully else CONV)
        branch = module("torch.nn.modules.container.Sequential", parts)
        if fully:
            branch = module("resflows.resflow.FCNet", {"nnet": branch}, input_shape=self.shape)
        self.add("resflows.layers.iresblock.iResBlock", {"nnet": branch})

    def g(self, x, prefix):
        """A residual branch by its equations, every weight divided by its exact operator norm over the coefficient."""
        linear = f"{prefix}nnet.nnet.1.weight" in self.state
        prefix, shape = prefix + ("nnet.nnet." if linear else "nnet."), x.shape
        x = x.flatten(1) if linear else x
        kinds = self.chain_kinds(prefix)
        for i, kind in enumerate(kinds):
            if kind == "act":
                beta = self.state.get(f"{prefix}{i}.beta")
                x = {
                    "swish": lambda x, beta=beta: x * torch.sigmoid(x * F.softplus(beta.double())) / 1.1,
                    "elu": F.elu,
                    "relu": F.relu,
                    "softplus": F.softplus,
                    "lcube": lambda x: torch.where(x.abs() < 1, x**3 / 3, x - x.sign() * 2 / 3),
                    "fullsort": lambda x: x.sort(dim=1).values,
                }[self.activation](x)
                continue
            weight, bias = (self.state[f"{prefix}{i}.{name}"].double() for name in ("weight", "bias"))
            if weight.dim() == 2:
                weight = weight / max(1.0, float(torch.linalg.matrix_norm(weight, 2)) / 0.9)
                x = F.linear(x, weight, bias)
                continue
            basis = torch.eye(x[0].numel(), dtype=torch.double).view(-1, *x.shape[1:])
            matrix = F.conv2d(basis, weight, padding=weight.shape[-1] // 2).flatten(1)
            weight = weight / max(1.0, float(torch.linalg.matrix_norm(matrix, 2)) / 0.9)
            x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        return x.view(shape)

    def chain_kinds(self, prefix):
        last = max(int(key[len(prefix) :].split(".")[0]) for key in self.state if key.startswith(prefix))
        return ["conv" if f"{prefix}{i}.weight" in self.state else "act" for i in range(last + 1)]

    def forward(self, x):
        """Images in [0, 1] -> latents."""
        stages = self.module.state["_modules"]["transforms"].state["_modules"]
        x, out = x.double(), []
        for s, stage in stages.items():
            for i, layer in stage.state["_modules"]["chain"].state["_modules"].items():
                prefix, kind = f"transforms.{s}.chain.{i}.", layer.name.rpartition(".")[2]
                if kind == "LogitTransform":
                    x = torch.logit(0.05 + 0.9 * x)
                elif kind == "iResBlock":
                    x = x + self.g(x, prefix)
                elif kind == "SqueezeLayer":
                    x = F.pixel_unshuffle(x, 2)
                elif kind == "InvertibleConv2d":
                    x = torch.einsum("oi,bihw->bohw", self.state[prefix + "weight"].double(), x)
                elif kind == "FCWrapper":
                    weight, bias = (self.state[f"{prefix}fc_module.{name}"].double() for name in ("weight", "bias"))
                    x = ((x.flatten(1) + bias) * weight.exp()).view_as(x)
                else:
                    weight, bias = (self.state[prefix + name].double()[:, None, None] for name in ("weight", "bias"))
                    x = (x + bias) * weight.exp()
            if self.factor_out and int(s) + 1 < len(stages):
                x, rest = x.chunk(2, dim=1)
                out.append(rest.flatten(1))
        return torch.cat([*out, x.flatten(1)], dim=1).float()


def module(name, children=None, **attributes):
    return Opaque(name, state={"_modules": children or {}, "_parameters": {}, "_buffers": {}, **attributes})


CASES = {
    "plain": {"shape": (3, 8, 8), "blocks": (1, 2)},
    "one scale": {"shape": (3, 4, 4), "blocks": (2,), "fc_end": False},
    "factored out": {"shape": (3, 8, 8), "blocks": (1, 1, 1), "factor_out": True, "fc_end": False},
    "factored out, squeezed": {"shape": (12, 4, 4), "blocks": (2, 1), "factor_out": True},
    "squeezed by its options": {"shape": (12, 4, 4), "blocks": (1, 1), "args": {"squeeze_first": True, "padding": 0}},
    "gray with an invertible matrix": {"shape": (1, 8, 8), "blocks": (1, 1), "mixing": True},
    "padded with a channel of noise": {
        "shape": (4, 4, 4),
        "blocks": (2,),
        "args": {"padding": 1, "squeeze_first": False},
    },
    **{name: {"shape": (3, 4, 4), "blocks": (1, 1), "activation": name} for name in ACTIVATIONS},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_latents_of_images_lead_back_to_them(case):
    flow = Flow(**CASES[case])
    shape = CASES[case]["shape"]
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(2))
    z = flow.forward(x)
    if shape[0] == 12:
        x = F.pixel_shuffle(x, 2)
    generator = generator_of(flow.content)
    images = generator.synthesize(z)
    assert generator.latent.dim == z.shape[1]
    assert images.shape == (3, 3, *generator.image_shape)
    assert largest_difference((images + 1) / 2, x[:, :3].expand(-1, 3, -1, -1)) <= 2e-3


def test_images_do_not_depend_on_the_batch():
    flow = Flow((3, 8, 8), (2, 2))
    generator = generator_of(flow.content)
    # Of latents of very different size, each needs its own number of steps.
    z = (
        torch.randn(6, 192, generator=torch.Generator().manual_seed(3))
        * torch.tensor([0, 0.01, 0.1, 1, 3, 10])[:, None]
    )
    together = generator.synthesize(z)
    alone = torch.cat([generator.synthesize(z[i : i + 1]) for i in range(6)])
    assert largest_difference(together, alone) <= 1e-4
    assert generator.synthesize(z[:0]).shape == (0, 3, 8, 8)


def test_the_gradient_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr(layers, "TOLERANCE", 1e-11)
    network = generator_of(Flow((3, 8, 8), (1, 1), factor_out=True).content).network.double()
    random = torch.Generator().manual_seed(4)
    z, direction = torch.randn(2, 2, 192, generator=random, dtype=torch.double)
    z.requires_grad_()
    network(z).square().sum().backward()
    values = [float(network(z.detach() + step * direction).square().sum()) for step in (1e-5, -1e-5)]
    assert float((z.grad * direction).sum()) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_float32_gradients_are_close_to_exact_ones(monkeypatch):
    content = Flow((3, 8, 8), (1, 1)).content
    z = torch.randn(2, 192, generator=torch.Generator().manual_seed(4))
    gradients = []
    for precision in (torch.float, torch.double):
        network = generator_of(content).network.to(precision)
        latents = z.to(precision).detach().requires_grad_()
        network(latents).square().sum().backward()
        gradients.append(latents.grad.double())
        monkeypatch.setattr(layers, "TOLERANCE", 1e-11)
    assert largest_difference(*gradients) <= 1e-3 * float(gradients[1].abs().max())
