"""StyleGAN2's generator written out slowly in float64, and random weights for it."""

import re

import torch
import torch.nn.functional as F

USUAL = (1, 3, 3, 1)
GAINS = {"linear": 1, "relu": 2**0.5, "lrelu": 2**0.5, "tanh": 1, "sigmoid": 1, "softplus": 1, "swish": 2**0.5}
FUNCTIONS = {
    "linear": lambda x: x,
    "relu": lambda x: x.clamp(min=0),
    "lrelu": lambda x: torch.where(x > 0, x, 0.2 * x),
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "softplus": lambda x: torch.log1p(torch.exp(x)),
    "swish": lambda x: x / (1 + torch.exp(-x)),
}


def random_state(
    *,
    z_dim=7,
    w_dim=6,
    hidden=5,
    layers=2,
    channels=(6, 5, 4),
    const_channels=None,
    img_channels=3,
    architecture="skip",
    classes=0,
    class_width=4,
    concat=False,
    feature_dim=0,
    feature_width=3,
    noise=True,
    lr=0.01,
    seed=0,
):
    """A state dict with ADA's names, without filters."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return torch.randn(shape, generator=rng) * scale

    state = {"mapping.w_avg": draw(w_dim, scale=0.3)}

    def dense(name, inputs, outputs, lr=1.0, bias=0.0):
        state[f"{name}.weight"] = draw(outputs, inputs) / lr
        state[f"{name}.bias"] = draw(outputs, scale=0.2) / lr + bias

    inputs = z_dim
    if classes and concat:
        state["mapping.concat.weight"] = draw(class_width, classes)
        inputs += class_width
    elif classes:
        dense("mapping.embed", classes, class_width)
        inputs += class_width
    if feature_dim:
        dense("mapping.embed_feats", feature_dim, feature_width)
        inputs += feature_width
    widths = [inputs] + [hidden] * (layers - 1) + [w_dim]
    for i in range(layers):
        dense(f"mapping.fc{i}", widths[i], widths[i + 1], lr)

    def convolution(name, inputs, outputs, size, resolution):
        state[f"{name}.weight"] = draw(outputs, inputs, size, size)
        state[f"{name}.bias"] = draw(outputs, scale=0.3)
        dense(f"{name}.affine", w_dim, inputs, bias=1.0)
        if resolution and noise:
            state[f"{name}.noise_const"] = draw(resolution, resolution)
            state[f"{name}.noise_strength"] = draw(scale=0.5)

    for i, width in enumerate(channels):
        resolution, block = 4 << i, f"synthesis.b{4 << i}"
        if i == 0:
            state[f"{block}.const"] = draw(const_channels or width, 4, 4)
        else:
            convolution(f"{block}.conv0", channels[i - 1], width, 3, resolution)
            if architecture == "resnet":
                state[f"{block}.skip.weight"] = draw(width, channels[i - 1], 1, 1)
        convolution(f"{block}.conv1", (const_channels or width) if i == 0 else width, width, 3, resolution)
        if architecture == "skip" or i == len(channels) - 1:
            convolution(f"{block}.torgb", width, img_channels, 1, None)
    return state


def _normalise(x):
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


def upfirdn(x, taps, before, after):
    """Insert zeros, pad, convolve with the normalised filter and multiply by 4, by the definition. Keeps float64."""
    kernel = torch.tensor(taps, dtype=torch.float64)
    kernel = kernel.outer(kernel) if kernel.dim() == 1 else kernel
    kernel = kernel / kernel.sum() * 4
    batch, channels, height, width = x.shape
    spread = x.new_zeros(batch, channels, 2 * height, 2 * width)
    spread[:, :, ::2, ::2] = x
    return _filter(spread, kernel, before, after)


def _filter(x, kernel, before, after):
    x = F.pad(x, (before, after, before, after))
    flipped = kernel.flip((0, 1))[None, None].expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, flipped, groups=x.shape[1])


def plain_mapping(state, z, c=None, h=None, *, lr=0.01, activation="lrelu", normalize=True):
    """W by the equations. Shape: ``(B, z_dim) -> (B, w_dim)``."""
    state = {name: tensor.double() for name, tensor in state.items()}
    x = z.double()
    conditions = []
    if "mapping.concat.weight" in state:
        x = torch.cat([x, c.double() @ state["mapping.concat.weight"].T], dim=1)
    for name, given in (("embed", c), ("embed_feats", h)):
        if f"mapping.{name}.weight" in state:
            weight = state[f"mapping.{name}.weight"]
            conditions.append(given.double() @ weight.T / weight.shape[1] ** 0.5 + state[f"mapping.{name}.bias"])
    if normalize:
        x = _normalise(x)
    if conditions:
        x = torch.cat([x, _normalise(torch.cat(conditions, dim=1))], dim=1)
    for i in range(sum(name.startswith("mapping.fc") for name in state) // 2):
        weight, bias = state[f"mapping.fc{i}.weight"], state[f"mapping.fc{i}.bias"]
        x = FUNCTIONS[activation](x @ weight.T * lr / weight.shape[1] ** 0.5 + bias * lr) * GAINS[activation]
    return x


def plain_synthesis(state, ws, *, taps=USUAL, activation="lrelu", clamp=None, noise=True):
    """Images, sample by sample, with modulated kernels. Shape: ``(B, num_ws, w_dim) -> (B, img_channels, H, W)``."""
    state = {name: tensor.double() for name, tensor in state.items()}
    return torch.cat([_image(state, w.double(), taps, activation, clamp, noise) for w in ws])


def _image(state, ws, taps, activation, clamp, noise):
    size = len(taps)

    def clamped(x, gain=1.0):
        return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)

    def styles(name, w):
        weight = state[f"{name}.affine.weight"]
        return weight @ w / weight.shape[1] ** 0.5 + state[f"{name}.affine.bias"]

    def layer(name, x, w, up=False, gain=1.0):
        kernel = state[f"{name}.weight"] * styles(name, w)[None, :, None, None]
        kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            x = F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2)
            fir = torch.tensor(taps, dtype=torch.float64)
            fir = fir.outer(fir) if fir.dim() == 1 else fir
            x = _filter(x, fir / fir.sum() * 4, (size + 1) // 2 - 1, (size - 2) // 2)
        else:
            x = F.conv2d(x, kernel, padding=1)
        if noise and f"{name}.noise_const" in state:
            x = x + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
        x = x + state[f"{name}.bias"][:, None, None]
        return clamped(FUNCTIONS[activation](x) * GAINS[activation] * gain, gain)

    x, image, index = state["synthesis.b4.const"][None], None, 0
    for block in [
        name[: -len(".conv1.weight")] for name in state if re.fullmatch(r"synthesis\.b\d+\.conv1\.weight", name)
    ]:
        skip, gain = state.get(f"{block}.skip.weight"), 1.0
        if skip is not None:
            gain = 0.5**0.5
            shortcut = upfirdn(F.conv2d(x, skip) / skip.shape[1] ** 0.5, taps, (size + 1) // 2, (size - 2) // 2) * gain
        if f"{block}.conv0.weight" in state:
            x, index = layer(f"{block}.conv0", x, ws[index], up=True), index + 1
        x, index = layer(f"{block}.conv1", x, ws[index], gain=gain), index + 1
        if skip is not None:
            x = x + shortcut
        if image is not None:
            image = upfirdn(image, taps, (size + 1) // 2, (size - 2) // 2)
        if f"{block}.torgb.weight" in state:
            weight = state[f"{block}.torgb.weight"]
            kernel = weight * styles(f"{block}.torgb", ws[index])[None, :, None, None] / weight.shape[1] ** 0.5
            rgb = clamped(F.conv2d(x, kernel) + state[f"{block}.torgb.bias"][:, None, None])
            image = rgb if image is None else image + rgb
    return image
