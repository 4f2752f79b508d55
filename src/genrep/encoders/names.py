"""The names of a ResNet's tensors in other libraries, and torchvision's names for them.

torchvision, timm, Barlow Twins    conv1 bn1 layer1.0.conv1 layer1.0.downsample.0
GenRep, COP-Gen, SupContrast       stem.0 stem.1, or conv1 bn1; layer1.0.shortcut.0
nn.Sequential(*resnet.children())  0 1 4.0.conv1 (lightly), 0 1 3.0.conv1 (no pooling), 0 1 2.0.conv1; or any other numbers
nn.ModuleList of layers            conv1 bn1 layers.0.0.conv1
transformers                       embedder.embedder.convolution encoder.stages.0.layers.0.layer.0.convolution
detectron2                         stem.conv1 stem.conv1.norm res2.0.conv1 res2.0.shortcut.norm
pytorch-cifar100                   conv1.0 conv1.1 conv2_x.0.residual_function.0
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from genrep.state_dicts import split

_STAGES = 4
_LEAST = 3  # stages by which a network is known to be one whose parts may be missing


@dataclass(frozen=True)
class _Layout:
    """A way to name the first convolution of a stage's first block."""

    parts: int
    mark: re.Pattern[str]
    first: int | None  # number of the first stage; None: any


_LAYOUTS = {
    "transformers": _Layout(9, re.compile(r"encoder\.stages\.(\d)\.layers\.0\.layer\.0\.convolution\.weight"), 0),
    "pytorch-cifar100": _Layout(5, re.compile(r"conv(\d)_x\.0\.residual_function\.0\.weight"), 2),
    "torchvision": _Layout(4, re.compile(r"layer(\d)\.0\.conv1\.weight"), 1),
    "detectron2": _Layout(4, re.compile(r"res(\d)\.0\.conv1\.weight"), 2),
    "nn.Sequential": _Layout(4, re.compile(r"(\d{1,3})\.0\.conv1\.weight"), None),
}


@dataclass
class Candidate:
    """A network that may be a ResNet: what stands before its names, how these are, and the numbers of its stages."""

    prefix: str
    layout: str
    stages: set[int] = field(default_factory=set)
    folder: str = ""  # the ModuleList that holds the stages, where the stem lies beside it

    @property
    def first(self) -> int:
        """Number of the stage that torchvision calls layer1."""
        known = _LAYOUTS[self.layout].first
        return min(self.stages) if known is None else known


def candidates(tensors: Mapping[str, Tensor]) -> dict[str, Candidate]:
    """Everything that looks like a ResNet, by prefix: three stages, or fewer and a first convolution."""
    found: dict[tuple[str, str], Candidate] = {}
    for name in tensors:
        for layout, how in _LAYOUTS.items():
            parted = split(name, how.parts) if name.endswith(".weight") else None
            match = how.mark.fullmatch(parted[1]) if parted is not None else None
            if parted is not None and match is not None:
                one = found.setdefault((parted[0], layout), Candidate(parted[0], layout))
                one.stages.add(int(match[1]))
                break
    known: dict[str, Candidate] = {}
    for one in found.values():
        if one.layout == "nn.Sequential" and 0 in one.stages and one.prefix:
            above, _, folder = one.prefix.rstrip(".").rpartition(".")
            one = Candidate(f"{above}." if above else "", one.layout, one.stages, folder)
        begins = one.layout == "torchvision" and not {
            f"{one.prefix}conv1.weight",
            f"{one.prefix}stem.0.weight",
        }.isdisjoint(tensors)
        if len(one.stages) >= _LEAST or begins:
            known.setdefault(one.prefix, one)
    return known


_Rename = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def _stage(offset: int, pattern: str) -> _Rename:
    return re.compile(pattern), lambda found: f"layer{int(found[1]) + offset}."


_BLOCKS: tuple[_Rename, ...] = (
    # transformers, pytorch-cifar100
    (re.compile(r"^(layer\d)\.layers\."), r"\1."),
    (re.compile(r"^(layer\d\.\d+)\.layer\.(\d)\.convolution\."), lambda found: f"{found[1]}.conv{int(found[2]) + 1}."),
    (re.compile(r"^(layer\d\.\d+)\.layer\.(\d)\.normalization\."), lambda found: f"{found[1]}.bn{int(found[2]) + 1}."),
    (
        re.compile(r"^(layer\d\.\d+)\.residual_function\.([013467])\."),
        lambda found: f"{found[1]}.{'bn' if int(found[2]) % 3 else 'conv'}{int(found[2]) // 3 + 1}.",
    ),
    # detectron2
    (re.compile(r"^(layer\d\.\d+)\.conv(\d)\.norm\."), r"\1.bn\2."),
    (re.compile(r"^(layer\d\.\d+)\.(?:shortcut|downsample)\.(?:1|bn|norm|normalization)\."), r"\1.downsample.1."),
    (
        re.compile(r"^(layer\d\.\d+)\.(?:shortcut|downsample)\.(?:(?:0|conv|convolution)\.)?(weight|bias)$"),
        r"\1.downsample.0.\2",
    ),
)
_BN = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$"
_CONV = r"stem\.(?:0|conv1?)|layer0\.0|layer0\.conv1?|embedder\.embedder\.convolution"
_NORM = r"stem\.(?:1|bn1?|norm1?|conv1\.norm)|layer0\.1|layer0\.(?:bn|norm)1?|norm1|embedder\.embedder\.normalization"
_STEM: tuple[_Rename, ...] = (
    (re.compile(rf"^(?:{_CONV})\.weight$"), "conv1.weight"),
    (re.compile(rf"^(?:{_NORM}){_BN}"), r"bn1.\1"),
)
_STEM_CALLED_CONV1: tuple[_Rename, ...] = (
    (re.compile(r"^conv1\.0\.weight$"), "conv1.weight"),
    (re.compile(rf"^conv1\.1{_BN}"), r"bn1.\1"),
)


def torchvision_names(names: Mapping[str, Tensor], one: Candidate) -> dict[str, str]:
    """torchvision's name for each of a candidate's names. Names without a counterpart stay."""
    renames = [*_stages_of(one), *_BLOCKS]
    if one.layout == "nn.Sequential" and not one.folder:
        renames += _numbered_stem(names, one.first)
    else:
        renames += _STEM
        if "bn1.weight" not in names:  # beside it, conv1.0, conv1.1, … are a stem of several convolutions
            renames += _STEM_CALLED_CONV1
    made = {}
    for name in names:
        new = name
        for pattern, replacement in renames:
            new = pattern.sub(replacement, new)
        made[name] = new
    return made


def _stages_of(one: Candidate) -> Iterable[_Rename]:
    offset = 1 - one.first
    if one.layout == "nn.Sequential":
        folder = re.escape(f"{one.folder}.") if one.folder else ""
        numbers = "|".join(map(str, sorted(one.stages)))
        return [_stage(offset, rf"^{folder}({numbers})\.")]
    patterns = {
        "transformers": r"^encoder\.stages\.(\d)\.",
        "pytorch-cifar100": r"^conv(\d)_x\.",
        "detectron2": r"^res(\d)\.",
    }
    return [_stage(offset, patterns[one.layout])] if one.layout in patterns else []


def _numbered_stem(names: Mapping[str, Tensor], first: int) -> list[_Rename]:
    """The convolution and the batch norm before the stages, by what they hold; what else stands there is of a stem, too."""
    before = {
        name: tensor
        for name, tensor in names.items()
        if (found := re.match(r"(\d{1,3})\.", name)) and int(found[1]) < first
    }
    convolutions = [name for name, tensor in before.items() if name.endswith(".weight") and tensor.dim() == 4]
    norms = [name for name in before if name.endswith(".running_mean")]
    others: _Rename = (re.compile(rf"^({'|'.join(map(str, range(first)))})\."), r"stem.\1.")
    if len(convolutions) != 1 or len(norms) != 1:
        return [others]
    return [
        (re.compile(rf"^{re.escape(convolutions[0])}$"), "conv1.weight"),
        (re.compile(rf"^{re.escape(norms[0].removesuffix('.running_mean'))}{_BN}"), r"bn1.\1"),
        others,
    ]


def stages_fault(one: Candidate) -> str | None:
    """Why a candidate's stages are not a ResNet's; None if they are, or some are missing, which their tensors tell."""
    numbers = sorted(one.stages)
    if numbers[-1] - one.first >= _STAGES or numbers[0] < one.first:
        return f"its blocks stand at {', '.join(map(str, numbers))}; wanted {_STAGES} layers one after another"
    return None


_REASONS = (
    (
        re.compile(r"^(conv1\.\d|stem\.(\d|conv)|(conv|bn)[2-9]\b)"),
        "a stem of several convolutions (ResNet-C and -D, CLIP)",
    ),
    (re.compile(r"^layer\d\.\d+\.(se|se_module|attn|eca|cbam|ca|sa)\b"), "attention in its blocks (SE, ECA, CBAM)"),
    (re.compile(r"^layer\d\.\d+\.(downsample|shortcut)\.[2-9]"), "shortcuts that pool (ResNet-D)"),
    (
        re.compile(r"\.(weight_orig|weight_mask|weight_g|weight_v|original\d?)$"),
        "weights in parts (pruned or normalised ones)",
    ),
    (re.compile(r"\.(filt|aa\.filt)$"), "blur pooling"),
)


def reason(unknown: Iterable[str]) -> str | None:
    """The kind of network that has these names, which no plain ResNet has."""
    names = list(unknown)
    return next((what for pattern, what in _REASONS if any(pattern.search(name) for name in names)), None)
