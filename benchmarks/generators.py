"""Images per second of every generator family at its published size, with seeded random weights.

    python benchmarks/generators.py [--device cuda] [--family stylegan2_car ...] [--reference DIR]

The values of the weights do not change the speed, but for residual_flow_mnist: how many steps its inverse takes is a matter of
the weights, and trained ones may take more. On a GPU (or with --variants) also precisions, memory formats and torch.compile,
and which is fastest. ``--reference DIR`` is a checkout of NVlabs/stylegan2-ada-pytorch, pytorch_pretrained_biggan or
ajbrock/BigGAN-PyTorch, whose code is imported: it runs in turns with ours, with the same weights.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from genrep.generate.generators.base import Checkpoint, checkpoint_from_safetensors
from genrep.generate.generators.biggan.state import NetworkSizes, expected_shapes
from genrep.generate.generators.families import family
from genrep.generate.generators.stylegan2.network_config import infer_config
from genrep.seeding import derive

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"  # lists of the published networks' tensors, and how to fill them from a seed
SEED = 0
TURN = 0.2  # seconds that a turn takes at least
CLASSES = 1000
Synthesize = Callable[[Tensor, Tensor | None], Tensor]


def fill(shapes: dict[str, Any], rules: str) -> dict[str, Tensor]:
    """The tensors of these names and shapes, each from its name and the seed, by tests/goldens/recipe.py."""
    sys.path.insert(0, str(GOLDENS))
    recipe = importlib.import_module("recipe")
    values = recipe.fill({name: tuple(shape) for name, shape in shapes.items()}, SEED, getattr(recipe, rules))
    values = recipe.finalize_hf_sn(values) if rules == "BIGGAN_HF" else values
    return {name: torch.from_numpy(np.array(value)) for name, value in values.items()}


def recognised(kind: str, shapes: str | dict[str, Any], rules: str) -> Any:
    """The checkpoint that a user's file with such tensors becomes; their shapes may be those of a golden."""
    shapes = json.loads((GOLDENS / shapes).read_text()) if isinstance(shapes, str) else shapes
    return family(kind).recognise(fill(shapes, rules), Path("G_ema.pth"), named=True)


def icgan_256() -> Any:
    """IC-GAN's published network of 256 px: a BigGAN of 96 channels, no classes."""
    shapes = expected_shapes(NetworkSizes(
        bottom=4, channels=tuple(96 * width for width in (16, 16, 8, 8, 4, 2, 1)), attention=frozenset({3}), z_width=17,
        hierarchical=True, num_classes=0, class_width=0, shared_classes=False, feature_dim=2048, feature_width=512,
    ))  # fmt: skip
    vectors = {f"{name[:-6]}u0": (1, shape[0]) for name, shape in shapes.items() if name.endswith("weight")}
    return recognised("icgan", shapes | vectors, "BIGGAN_AJ")


def residual_flow_mnist() -> Checkpoint:
    """As published: at each of 3 scales 16 blocks (3x3, 1x1, 3x3; 512 channels), at the end 4 fully connected ones (128)."""
    random, state, chains = torch.Generator().manual_seed(derive("flow", SEED)), {}, []
    for scale, (channels, side) in enumerate(((1, 28), (4, 14), (16, 7))):
        chain: list[Any] = [] if scale else [{"logit": 1e-6}, "actnorm"]
        for block in range(20 if scale == 2 else 16):
            kinds = ["linear" if block >= 16 else "conv", "swish"] * 3
            chain += [{"residual": ["swish"] * bool(scale or block) + kinds[:-1]}, "actnorm"]
        for i, layer in enumerate(chain):
            place, width = f"transforms.{scale}.chain.{i}.", channels * side**2 if i >= 32 and scale else channels
            if layer == "actnorm":
                state |= {place + name: 0.1 * torch.randn(width, generator=random) for name in ("weight", "bias")}
            elif "residual" in layer:
                state |= flow_branch(f"{place}nnet.", layer["residual"], width, side, random)
        chains.append(chain + ["squeeze"] * (scale < 2))
    config = {"chains": chains, "image_shape": [1, 28, 28], "factor_out": False, "squeeze_first": False, "padding": 0}
    config |= {"coeff": 0.98, "iterations": None, "atol": 1e-3, "rtol": 1e-3}
    return Checkpoint(family="residual_flow", tensors=state, config=config)


def flow_branch(place: str, kinds: list[str], width: int, side: int, random: torch.Generator) -> dict[str, Tensor]:
    """The tensors of one residual branch."""
    state = {f"{place}{i}.beta": torch.tensor([0.5]) for i, kind in enumerate(kinds) if kind == "swish"}
    affine = [i for i, kind in enumerate(kinds) if kind != "swish"]
    flat = kinds[-1] == "linear"
    hidden, kernels = (128, (1, 1, 1)) if flat else (512, (3, 1, 3))
    for i, kernel, (inputs, outputs) in zip(affine, kernels, pairwise((width, hidden, hidden, width)), strict=True):
        pixels, name = 1 if kernel == 1 else side**2, f"{place}{i}."
        shape = (outputs, inputs) if flat else (outputs, inputs, kernel, kernel)
        state[f"{name}weight"] = torch.randn(shape, generator=random) / (inputs * kernel**2) ** 0.5
        state[f"{name}bias"] = 0.1 * torch.randn(outputs, generator=random)
        state[f"{name}u"] = torch.randn(outputs * pixels, generator=random)  # where power iteration starts
        state[f"{name}v"] = torch.randn(inputs * pixels, generator=random)
    return state


SHIPPED = "generate/weights/stylegan2_fashion.safetensors"
HF, AJ = "biggan_deep_full/keys_deep{}.json", "bigbigan_full/keys.json"
# How the checkpoint of each family is made, and its larger batch on a CPU.
CASES: dict[str, tuple[Callable[[], Any], int]] = {
    "stylegan2_car": (partial(recognised, "stylegan2", "car512/keys_ada_car512.json", "STYLEGAN2_ADA"), 4),
    "stylegan2_fashion": (partial(checkpoint_from_safetensors, ROOT / SHIPPED), 64),
    "biggan_deep_128": (partial(recognised, "biggan_deep", HF.format(128), "BIGGAN_HF"), 8),
    "biggan_deep_256": (partial(recognised, "biggan_deep", HF.format(256), "BIGGAN_HF"), 4),
    "biggan_deep_512": (partial(recognised, "biggan_deep", HF.format(512), "BIGGAN_HF"), 2),
    "bigbigan": (partial(recognised, "bigbigan", AJ, "BIGGAN_AJ"), 8),
    "biggan_128": (partial(recognised, "biggan", AJ, "BIGGAN_AJ"), 8),  # of the same sizes
    "icgan_256": (icgan_256, 4),
    "residual_flow_mnist": (residual_flow_mnist, 16),
}


def hugging_face(checkpoint: Checkpoint, device: str) -> dict[str, Synthesize]:
    """BigGAN-deep of pytorch_pretrained_biggan."""
    size = 4 * 2 ** sum(checkpoint.config["upsample"])
    config = importlib.import_module("pytorch_pretrained_biggan.config").BigGANConfig
    published = config.from_json_file(GOLDENS / "biggan_deep_full" / f"config_deep{size}.json")
    model = importlib.import_module("pytorch_pretrained_biggan.model").BigGAN(published)
    model.load_state_dict(checkpoint.tensors)
    model.eval().requires_grad_(False).to(device)
    return {"original": lambda z, y: model(z, torch.nn.functional.one_hot(y, CLASSES).float(), 1.0)}


def ajbrock(checkpoint: Checkpoint, device: str) -> dict[str, Synthesize]:
    """The BigGAN of 128 px of BigGAN-PyTorch."""
    model = importlib.import_module("BigGAN").Generator(
        G_ch=96, dim_z=120, resolution=128, G_attn="64", n_classes=CLASSES, shared_dim=128, hier=True, skip_init=True,
        BN_eps=checkpoint.config["bn_eps"], SN_eps=checkpoint.config["sn_eps"], no_optim=True,
    )  # fmt: skip
    model.load_state_dict(checkpoint.tensors, strict=False)  # singular values are only logged there
    model.eval().requires_grad_(False).to(device)
    return {"original": lambda z, y: model(z, model.shared(z.new_zeros(len(z), dtype=torch.int64) if y is None else y))}


def ada(checkpoint: Checkpoint, device: str) -> dict[str, Synthesize]:
    """stylegan2-ada-pytorch in float32 and, on a GPU, with float16 in the four largest blocks, as that code trains."""
    config, networks = (
        infer_config(checkpoint.tensors, **checkpoint.config),
        importlib.import_module("training.networks"),
    )
    half = {"original, float16": {"num_fp16_res": 4, "fp16_channels_last": True}} if device == "cuda" else {}
    runs: dict[str, Synthesize] = {}
    for name, options in ({"original": {}} | half).items():
        options |= {"channel_base": config.channels[-1] * config.resolution, "channel_max": max(config.channels)}
        model = networks.Generator(
            config.z_dim, config.c_dim, config.w_dim, config.resolution, config.img_channels,
            mapping_kwargs={"num_layers": config.num_mapping_layers}, synthesis_kwargs=options,
        )  # fmt: skip
        model.load_state_dict(checkpoint.tensors, strict=False)  # it has its filters
        model.eval().requires_grad_(False).to(device)
        runs[name] = lambda z, y, model=model: model(z, None, noise_mode="const").expand(-1, 3, -1, -1)
    return runs


# The files by which a checkout is known, the families that it has, and how to open them.
ORIGINALS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Checkpoint, str], dict[str, Synthesize]]]] = {
    "NVlabs/stylegan2-ada-pytorch": (("training/networks.py", "dnnlib"), ("stylegan2",), ada),
    "huggingface/pytorch-pretrained-BigGAN": (("pytorch_pretrained_biggan/model.py",), ("biggan_deep",), hugging_face),
    "ajbrock/BigGAN-PyTorch": (("BigGAN.py", "layers.py"), ("biggan", "bigbigan"), ajbrock),
}


def known_original(folder: Path) -> str:
    """Which original a checkout is; its modules can be imported from now on."""
    for name, (files, _, _) in ORIGINALS.items():
        if all((folder / file).exists() for file in files):
            sys.path.insert(0, str(folder.resolve()))
            return name
    raise click.ClickException(f"--reference {folder}: a checkout of none of {', '.join(ORIGINALS)}")


def timed(run: Callable[[], Tensor], calls: int, device: str) -> float:
    """Seconds of one call, all work on the device included."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return (time.perf_counter() - started) / calls


def in_turns(runs: dict[str, Callable[[], Tensor]], seconds: float, device: str) -> dict[str, list[float]]:
    """Seconds of a call of each in every round, at least three rounds; all have been run before."""
    rounds = {name: [timed(run, 1, device)] for name, run in runs.items()}
    calls = {name: max(1, round(TURN / times[0])) for name, times in rounds.items()}
    started = time.perf_counter()
    while len(rounds["ours"]) < 4 or time.perf_counter() - started < seconds:
        for name, run in runs.items():
            rounds[name].append(timed(run, calls[name], device))
    return {name: times[1:] for name, times in rounds.items()}


def variants(generator: Any, device: str) -> Iterator[tuple[str, Synthesize, Callable[[], Any]]]:
    """Ways to run a generator, each with the context that it runs in."""
    plain, flags = contextlib.nullcontext, torch.backends.cudnn.flags
    fast = partial(flags, enabled=True, benchmark=True, allow_tf32=True)
    yield "float32", generator.synthesize, plain
    yield "float32, TF32 where there is", generator.synthesize, fast
    twins = {"float32": generator}
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        yield f"{name} autocast", generator.synthesize, partial(torch.autocast, device, dtype)
        twin = twins[name] = copy.deepcopy(generator)
        if not hasattr(twin.network, "synthesis"):
            twin.network.to(dtype)
        else:  # StyleGAN2 casts its weights itself
            twin.network.synthesis.dtype = dtype
        yield name, twin.synthesize, plain
    for name, twin in twins.items():
        planes = copy.deepcopy(twin)
        planes.network.to(memory_format=torch.contiguous_format)
        yield f"{name}, kernels not channels-last", planes.synthesize, fast
        for mode in ("default", "reduce-overhead"):
            yield f"{name}, compiled ({mode})", torch.compile(twin.synthesize, mode=mode, dynamic=False), fast


def compare_variants(generator: Any, inputs: tuple[Tensor, Tensor | None], seconds: float, device: str) -> None:
    """Print the speed of each variant and its largest difference from float32, and which is fastest."""
    exact, speeds = generator.synthesize(*inputs), {}
    for name, synthesize, context in variants(generator, device):
        try:
            with context():
                difference = float((synthesize(*inputs).float() - exact).abs().max())
                times = in_turns({"ours": partial(synthesize, *inputs)}, seconds, device)["ours"]
        except Exception as error:  # not all run everywhere
            click.echo(f"    {name:36} does not run: {' '.join(f'{type(error).__name__}: {error}'.split()):.90}")
            continue
        speeds[name] = len(exact) / statistics.median(times)
        click.echo(f"    {name:36} {speeds[name]:9.2f} images/s   max |difference| {difference:.1e}")
    click.echo(f"    fastest: {max(speeds, key=speeds.__getitem__)}")


def benchmark(name: str, device: str, original: str, options: dict[str, Any]) -> None:
    """Print a family's lines."""
    seconds, given = options["seconds"], options["batch_size"]
    checkpoint = CASES[name][0]()
    random = torch.Generator().manual_seed(derive("features", SEED))
    features = {"features": torch.randn(64, 2048, generator=random)} if checkpoint.family == "icgan" else {}
    generator: Any = family(checkpoint.family).open_checkpoint(checkpoint, device=device, **features)
    networks: dict[str, Synthesize] = {"ours": generator.synthesize}
    if original != "none" and checkpoint.family in ORIGINALS[original][1]:
        networks |= ORIGINALS[original][2](checkpoint, device)
    for batch in [given] if given else [1, 64 if device == "cuda" else CASES[name][1]]:
        z = torch.from_numpy(generator.latent.sample(SEED, np.arange(batch))).to(device)
        y = torch.arange(batch, device=device) % generator.num_classes if generator.num_classes else None
        runs = {label: partial(network, z, y) for label, network in networks.items()}
        images = {label: run().float() for label, run in runs.items()}
        rounds = in_turns(runs, seconds, device)
        for label, times in rounds.items():
            line = f"{name if label == 'ours' else '':20} {generator.image_shape[0]:4} px {batch:4} {label:18}"
            line += f" {batch / statistics.median(times):9.2f} images/s"
            if label != "ours":
                ratio = statistics.median(theirs / ours for ours, theirs in zip(rounds["ours"], times, strict=True))
                difference = float((images[label] - images["ours"]).abs().max())
                spread = float(images[label].max() - images[label].min())
                line += f"   ours is {ratio:.2f} times as fast; max |difference| {difference:.1e}, range {spread:.2g}"
            click.echo(line)
        if options["variants"] or device == "cuda":
            compare_variants(generator, (z, y), min(seconds, 2.0), device)


@click.command()
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="per line; at least three rounds are run")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 1 and then a larger one]")
@click.option("--threads", type=click.IntRange(1), help="of the CPU [default: as PyTorch chooses]")
@click.option("--family", type=click.Choice(list(CASES)), multiple=True, help="may be repeated [default: all]")
@click.option("--reference", type=click.Path(exists=True, file_okay=False, path_type=Path), help="original's checkout")
@click.option("--variants", is_flag=True, help="precisions, formats and torch.compile on a CPU too")
def main(**options: Any) -> None:
    """Print images/s of each family."""
    reference, gpu = options["reference"], torch.cuda.is_available()
    device = options["device"].replace("auto", "cuda" if gpu else "cpu")
    if device == "cuda" and not gpu:
        raise click.ClickException("--device cuda: PyTorch sees no GPU")
    original = known_original(reference) if reference else "none"
    torch.set_num_threads(options["threads"] or torch.get_num_threads())
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
    click.echo(f"PyTorch {torch.__version__}, {where}, float32, seeded random weights; original: {original}")
    try:
        with torch.no_grad():
            for name in options["family"] or CASES:
                benchmark(name, device, original, options)
    except ImportError as error:
        raise click.ClickException(f"--reference {reference}: {error}") from None


if __name__ == "__main__":
    main()
