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
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from genrep.generate.generators.biggan.state import Layout, expected_shapes
from genrep.generate.generators.checkpoint import Checkpoint, checkpoint_from_safetensors
from genrep.generate.generators.families import family
from genrep.generate.generators.stylegan2.config import infer_config
from genrep.seeding import derive

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"  # lists of the published networks' tensors, and how to fill them from a seed
SEED = 0
TURN = 0.2  # seconds that a turn takes at least
CLASSES = 1000
State = dict[str, Tensor]
Run = Callable[[], Tensor]
Synthesize = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family at its published size."""

    build: Callable[[], tuple[Checkpoint, State]]  # its checkpoint, and the tensors as the published file has them
    batch: int  # the larger one on a CPU
    features: int = 0  # width of instance features


def fill(shapes: dict[str, Any], rules: str) -> State:
    """The tensors of these names and shapes, each from its name and the seed, by tests/goldens/recipe.py."""
    sys.path.insert(0, str(GOLDENS))
    recipe = importlib.import_module("recipe")
    values = recipe.fill({name: tuple(shape) for name, shape in shapes.items()}, SEED, getattr(recipe, rules))
    values = recipe.finalize_hf_sn(values) if rules == "BIGGAN_HF" else values
    return {name: torch.from_numpy(np.array(value)) for name, value in values.items()}


def recognised(kind: str, state: State) -> tuple[Checkpoint, State]:
    """What a user's file with these tensors becomes."""
    checkpoint = family(kind).recognise(state, Path("G_ema.pth"), named=True)
    assert checkpoint is not None, kind
    return checkpoint, state


def listed(kind: str, keys: str, rules: str) -> Callable[[], tuple[Checkpoint, State]]:
    """A network whose names and shapes are in the goldens."""
    return lambda: recognised(kind, fill(json.loads((GOLDENS / keys).read_text()), rules))


def stylegan2_fashion() -> tuple[Checkpoint, State]:
    """The network that ships with the package."""
    checkpoint = checkpoint_from_safetensors(ROOT / "generate" / "weights" / "stylegan2_fashion.safetensors")
    assert checkpoint is not None
    return checkpoint, checkpoint.tensors


def icgan_256() -> tuple[Checkpoint, State]:
    """IC-GAN's published network of 256 px: a BigGAN of 96 channels, no classes."""
    shapes = expected_shapes(
        Layout(
            bottom=4,
            channels=tuple(96 * width for width in (16, 16, 8, 8, 4, 2, 1)),
            attention=frozenset({3}),
            z_width=17,
            hierarchical=True,
            num_classes=0,
            class_width=0,
            shared_classes=False,
            feature_dim=2048,
            feature_width=512,
        )
    )
    vectors = {f"{name[:-6]}u0": (1, shape[0]) for name, shape in shapes.items() if name.endswith("weight")}
    return recognised("icgan", fill(shapes | vectors, "BIGGAN_AJ"))


def residual_flow_mnist() -> tuple[Checkpoint, State]:
    """As published: at each of 3 scales 16 blocks (3x3, 1x1, 3x3; 512 channels), at the end 4 fully connected ones (128)."""
    random = torch.Generator().manual_seed(derive("residual_flow_mnist", SEED))
    state: State = {}
    chains: list[list[Any]] = []
    for scale, (channels, side) in enumerate(((1, 28), (4, 14), (16, 7))):
        chain: list[Any] = [] if scale else [{"logit": 1e-6}]
        widths = [] if scale else [channels]  # of the chain's activation norms
        for block in range(20 if scale == 2 else 16):
            flat = block >= 16
            width = channels * side**2 if flat else channels
            place = f"transforms.{scale}.chain.{2 * block + (0 if scale else 2)}.nnet."
            state |= flow_branch(place, width, 1 if flat else side, flat, bool(scale or block), random)
            affine = "linear" if flat else "conv"
            chain += ["actnorm"] if not scale and not block else []
            chain.append({"residual": ["swish"] * bool(scale or block) + [affine, "swish", affine, "swish", affine]})
            chain.append("actnorm")
            widths.append(width)
        places = [i for i, layer in enumerate(chain) if layer == "actnorm"]
        for i, width in zip(places, widths, strict=True):
            for name in ("weight", "bias"):
                state[f"transforms.{scale}.chain.{i}.{name}"] = 0.1 * torch.randn(width, generator=random)
        chains.append(chain + ["squeeze"] * (scale < 2))
    config = {"chains": chains, "image_shape": [1, 28, 28], "factor_out": False, "squeeze_first": False, "padding": 0}
    config |= {"coeff": 0.98, "iterations": None, "atol": 1e-3, "rtol": 1e-3}
    return Checkpoint(family="residual_flow", tensors=state, config=config), state


def flow_branch(place: str, width: int, side: int, flat: bool, first_swish: bool, random: torch.Generator) -> State:
    """The tensors of one residual branch."""
    hidden, state = 128 if flat else 512, {}
    if first_swish:
        state[f"{place}0.beta"] = torch.tensor([0.5])
    for i, (inputs, outputs) in enumerate(pairwise((width, hidden, hidden, width))):
        kernel = 1 if flat or i == 1 else 3
        name, pixels = f"{place}{2 * i + first_swish}.", 1 if kernel == 1 else side**2
        shape = (outputs, inputs) if flat else (outputs, inputs, kernel, kernel)
        state[f"{name}weight"] = torch.randn(shape, generator=random) / (inputs * kernel**2) ** 0.5
        state[f"{name}bias"] = 0.1 * torch.randn(outputs, generator=random)
        state[f"{name}u"] = torch.nn.functional.normalize(torch.randn(outputs * pixels, generator=random), dim=0)
        state[f"{name}v"] = torch.nn.functional.normalize(torch.randn(inputs * pixels, generator=random), dim=0)
        if i < 2:
            state[f"{place}{2 * i + 1 + first_swish}.beta"] = torch.tensor([0.5])
    return state


CASES = {
    "stylegan2_car": Case(build=listed("stylegan2", "car512/keys_ada_car512.json", "STYLEGAN2_ADA"), batch=4),
    "stylegan2_fashion": Case(build=stylegan2_fashion, batch=64),
    "biggan_deep_128": Case(build=listed("biggan_deep", "biggan_deep_full/keys_deep128.json", "BIGGAN_HF"), batch=8),
    "biggan_deep_256": Case(build=listed("biggan_deep", "biggan_deep_full/keys_deep256.json", "BIGGAN_HF"), batch=4),
    "biggan_deep_512": Case(build=listed("biggan_deep", "biggan_deep_full/keys_deep512.json", "BIGGAN_HF"), batch=2),
    "bigbigan": Case(build=listed("bigbigan", "bigbigan_full/keys.json", "BIGGAN_AJ"), batch=8),
    "biggan_128": Case(build=listed("biggan", "bigbigan_full/keys.json", "BIGGAN_AJ"), batch=8),  # the same sizes
    "icgan_256": Case(build=icgan_256, batch=4, features=2048),
    "residual_flow_mnist": Case(build=residual_flow_mnist, batch=16),
}


def hugging_face(checkpoint: Checkpoint, state: State, device: str) -> dict[str, Synthesize]:
    """BigGAN-deep of pytorch_pretrained_biggan."""
    size = 4 * 2 ** sum(checkpoint.config["upsample"])
    published = json.loads((GOLDENS / "biggan_deep_full" / f"config_deep{size}.json").read_text())
    config = importlib.import_module("pytorch_pretrained_biggan.config").BigGANConfig.from_dict(published)
    model = importlib.import_module("pytorch_pretrained_biggan.model").BigGAN(config)
    model.load_state_dict(state)
    model.eval().requires_grad_(False).to(device)
    return {"original": lambda z, y: model(z, torch.nn.functional.one_hot(y, CLASSES).float(), 1.0)}


def ajbrock(checkpoint: Checkpoint, state: State, device: str) -> dict[str, Synthesize]:
    """The BigGAN of 128 px of BigGAN-PyTorch."""
    settings = checkpoint.config
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of its attention layer
        model = importlib.import_module("BigGAN").Generator(
            G_ch=96, dim_z=120, resolution=128, G_attn="64", n_classes=CLASSES, shared_dim=128, hier=True,
            BN_eps=settings["bn_eps"], SN_eps=settings["sn_eps"], skip_init=True, no_optim=True,
        )  # fmt: skip
    model.load_state_dict(state)
    model.eval().requires_grad_(False).to(device)
    return {"original": lambda z, y: model(z, model.shared(y))}


def ada(checkpoint: Checkpoint, state: State, device: str) -> dict[str, Synthesize]:
    """stylegan2-ada-pytorch in float32 and, on a GPU, with float16 in the four largest blocks, as that code trains."""
    config = infer_config(checkpoint.tensors, **checkpoint.config)
    networks = importlib.import_module("training.networks")
    runs: dict[str, Synthesize] = {}
    for name, options in (("original", {}), ("original, float16", {"num_fp16_res": 4, "fp16_channels_last": True})):
        if options and device == "cpu":
            continue
        model = networks.Generator(
            config.z_dim, config.c_dim, config.w_dim, config.resolution, config.img_channels,
            mapping_kwargs={"num_layers": config.num_mapping_layers},
            synthesis_kwargs={
                "channel_base": config.channels[-1] * config.resolution, "channel_max": max(config.channels),
                "architecture": config.architecture, "conv_clamp": config.conv_clamp, **options,
            },
        )  # fmt: skip
        left = model.load_state_dict(checkpoint.tensors, strict=False)
        assert not left.unexpected_keys and all(key.endswith("resample_filter") for key in left.missing_keys), left
        model.eval().requires_grad_(False).to(device)
        runs[name] = lambda z, y, model=model: model(z, None, noise_mode="const").expand(-1, 3, -1, -1)
    return runs


# The files by which a checkout is known, the families that it has, and how to open them.
ORIGINALS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., dict[str, Synthesize]]]] = {
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


def timed(run: Run, calls: int, device: str) -> float:
    """Seconds of one call, all work on the device included."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return (time.perf_counter() - started) / calls


def in_turns(runs: dict[str, Run], seconds: float, device: str) -> dict[str, list[float]]:
    """Seconds of a call of each in every round, at least three of them, after two calls to warm up."""
    calls = {name: (run(), max(1, round(TURN / timed(run, 1, device))))[1] for name, run in runs.items()}
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    started = time.perf_counter()
    while any(len(times) < 3 for times in rounds.values()) or time.perf_counter() - started < seconds:
        for name, run in runs.items():
            rounds[name].append(timed(run, calls[name], device))
    return rounds


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    """Products of float32 with 10 bits of mantissa, on the GPUs that have them."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    for backend in backends:
        backend.allow_tf32 = True
    yield
    for backend in backends:
        backend.allow_tf32 = False


def variants(generator: Any, device: str) -> Iterator[tuple[str, Synthesize, Callable[[], Any]]]:
    """Ways to run a generator, each with the context that it runs in."""
    half, bfloat = torch.float16, torch.bfloat16
    yield "float32", generator.synthesize, contextlib.nullcontext
    if device == "cuda":
        yield "TF32", generator.synthesize, tf32
    for name, dtype in (("float16", half), ("bfloat16", bfloat)):
        yield f"{name} autocast", generator.synthesize, lambda dtype=dtype: torch.autocast(device, dtype)
    twins = {"float32": generator}
    for name, dtype in (("float16", half), ("bfloat16", bfloat)):
        twin = copy.deepcopy(generator)
        if hasattr(twin.network, "synthesis"):
            twin.network.synthesis.dtype = dtype
        elif not hasattr(twin.network, "stages"):  # the inverse of a flow needs float32
            twin.network.to(dtype)
        else:
            continue
        twins[name] = twin
        yield f"{name} throughout", twin.synthesize, contextlib.nullcontext
    for name, twin in twins.items():
        planes = copy.deepcopy(twin)
        planes.network.to(memory_format=torch.contiguous_format)
        yield f"{name}, kernels not channels-last", planes.synthesize, contextlib.nullcontext
        for mode in ("default", "reduce-overhead"):
            compiled = torch.compile(twin.synthesize, mode=mode, dynamic=False)
            yield f"{name}, compiled ({mode})", compiled, tf32 if device == "cuda" else contextlib.nullcontext


def compare_variants(generator: Any, z: Tensor, y: Tensor | None, seconds: float, device: str) -> None:
    """Print the speed of each variant and its largest difference from float32, and which is fastest."""
    exact, speeds = generator.synthesize(z, y), {}
    for name, synthesize, context in variants(generator, device):
        try:
            with context():
                difference = float((synthesize(z, y).float() - exact).abs().max())
                times = in_turns({name: lambda run=synthesize: run(z, y)}, seconds, device)[name]
        except Exception as error:  # some do not run on some devices
            click.echo(
                f"    {name:36} does not run: {type(error).__name__}: {(str(error).splitlines() or [''])[0]:.60}"
            )
            continue
        speeds[name] = len(z) / statistics.median(times)
        click.echo(f"    {name:36} {speeds[name]:9.2f} images/s   max |difference| {difference:.1e}")
    click.echo(f"    fastest: {max(speeds, key=speeds.__getitem__)}")


def benchmark(name: str, batches: list[int], seconds: float, device: str, original: str | None, more: bool) -> None:
    """Print a family's lines."""
    case = CASES[name]
    checkpoint, state = case.build()
    random = torch.Generator().manual_seed(derive("inputs", SEED))
    features = {"features": torch.randn(64, case.features, generator=random)} if case.features else {}
    generator: Any = family(checkpoint.family).open_checkpoint(checkpoint, device=device, **features)
    runs: dict[str, Synthesize] = {"ours": generator.synthesize}
    if original and checkpoint.family in ORIGINALS[original][1]:
        runs |= ORIGINALS[original][2](checkpoint, state, device)
    size = "x".join(map(str, generator.image_shape))
    for batch in batches or [1, 64 if device == "cuda" else case.batch]:
        z = torch.from_numpy(generator.latent.sample(SEED, np.arange(batch))).to(device)
        y = torch.arange(batch, device=device) % generator.num_classes if generator.num_classes else None
        images = {label: run(z, y).float() for label, run in runs.items()}
        rounds = in_turns({label: (lambda run=run: run(z, y)) for label, run in runs.items()}, seconds, device)
        for label, times in rounds.items():
            line = f"{name if label == 'ours' else '':20} {size:8} {batch:5} {label:18}"
            line += f" {batch / statistics.median(times):9.2f} images/s"
            if label != "ours":
                ratio = statistics.median(b / a for a, b in zip(rounds["ours"], times, strict=True))
                difference = float((images[label] - images["ours"]).abs().max())
                spread = float(images[label].max() - images[label].min())
                line += f"   ours is {ratio:.2f} times as fast; max |difference| {difference:.1e} in a range of {spread:.2g}"
            click.echo(line)
        if more:
            compare_variants(generator, z, y, min(seconds, 2.0), device)


@click.command()
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="per line; at least three rounds are run")
@click.option("--batch-size", "batches", type=click.IntRange(1), multiple=True, help="[default: 1 and a larger one]")
@click.option("--threads", type=click.IntRange(1), help="of a CPU [default: as PyTorch chooses]")
@click.option("--family", "names", type=click.Choice(list(CASES)), multiple=True, help="[default: all]")
@click.option(
    "--reference", type=click.Path(exists=True, file_okay=False, path_type=Path), help="an original's checkout"
)
@click.option(
    "--variants/--no-variants", "more", default=None, help="precisions, formats, torch.compile [default: on a GPU]"
)
def main(
    device: str,
    seconds: float,
    batches: tuple[int, ...],
    threads: int | None,
    names: tuple[str, ...],
    reference: Path | None,
    more: bool | None,
) -> None:
    """Print images/s of each family."""
    if not (GOLDENS / "recipe.py").is_file():
        raise click.ClickException(f"{GOLDENS}: not there; this runs in a checkout of the repository")
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device cuda: PyTorch sees no GPU")
    device = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    original = known_original(reference) if reference else None
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    click.echo(f"PyTorch {torch.__version__}, {where}, float32, seeded random weights; original: {original or 'none'}")
    with torch.no_grad():
        for name in names or CASES:
            try:
                benchmark(name, list(batches), seconds, device, original, device == "cuda" if more is None else more)
            except ImportError as error:
                raise click.ClickException(f"--reference {reference}: {error}") from None


if __name__ == "__main__":
    main()
