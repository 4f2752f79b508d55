"""Components from their settings: the library's classes, filled with tensors that we read, names and shapes strictly."""

from __future__ import annotations

import importlib
import inspect
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from genrep.errors import GenRepError, WeightsError
from genrep.extras import install
from genrep.untrusted import content_faults, one_line, shown

from .allowed import SCHEDULERS
from .folder import ModelFolder

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

TRANSFORMERS = {  # the class that is built, and its settings' class
    "CLIPTextModel": ("CLIPTextModel", "CLIPTextConfig"),
    "CLIPVisionModelWithProjection": ("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
    "Qwen3ForCausalLM": ("Qwen3Model", "Qwen3Config"),  # of a language model, the states before its head are used
    "Qwen3Model": ("Qwen3Model", "Qwen3Config"),
}
RENAMED = {"Transformer2DModel": "DiTTransformer2DModel"}  # classes that the library has given another name
PREFIXES = ("text_model.", "vision_model.", "model.")  # that versions of transformers write, or do not
LEFT_OUT = ("position_ids", "rotary_emb.inv_freq")  # buffers of constants in old files
HEADS = ("lm_head.weight",)  # of a language model
OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
MAX_PARAMETERS = 100_000  # tensors of a network


def library(name: str) -> Any:
    """A package of the extra ``diffusion``. Raises WeightsError, with the way to install it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise WeightsError(
            f"generators of the family diffusers need {name} ({one_line(str(error))}); {install('diffusion')}"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' remarks on settings from the terminal."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def build(folder: ModelFolder, component: str, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """A frozen network on the CPU, its parameters in ``dtype``.

    Raises WeightsError for settings that the class does not take, and for tensors that are missing, left over or of
    another shape.
    """
    package, name = folder.classes[component]
    where = folder.where(component)
    config = folder.config(component)
    with content_faults(f"{where}/config.json", WeightsError), quiet(), _skeleton():
        if package == "transformers":
            module = _of_transformers(name, config)
        else:
            module = _of_diffusers(name, config, f"{where}/config.json")
    _fill(module, dict(tensors), dtype, where)
    return module.eval().requires_grad_(False)


def _of_transformers(name: str, config: dict[str, Any]) -> nn.Module:
    transformers = library("transformers")
    cls, settings = (getattr(transformers, found) for found in TRANSFORMERS[name])
    try:
        built = settings.from_dict(config)
    except Exception as error:  # its checks raise classes of their own
        raise ValueError(f"not settings of {name}: {one_line(str(error))}") from None
    return cls(built)


def _of_diffusers(name: str, config: dict[str, Any], where: str) -> nn.Module:
    diffusers = library("diffusers")
    if name == "StableUnCLIPImageNormalizer":
        module = "diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer"
        cls: Any = getattr(library(module), name)
    else:
        cls = getattr(diffusers, RENAMED.get(name, name))
    _check_class(config, (name, cls.__name__), where)
    known = set(inspect.signature(cls.__init__).parameters) - {"self"}
    _check_keys(config, known, where)
    return cls(**{key: _tupled(value) for key, value in config.items() if key in known})


def _check_class(config: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    found = config.get("_class_name", names[0])
    if found not in names:
        raise WeightsError(f"{where}: _class_name is {shown(found)}, model_index.json says {names[0]}")


def _check_keys(config: dict[str, Any], known: set[str], where: str) -> None:
    """Refuse a setting that the class does not know, unless it asks for nothing."""
    for key, value in config.items():
        if key not in known and key != "_class_name" and value not in (None, False, 0, []):
            raise WeightsError(
                f"{where}: unknown key {shown(key)} = {shown(value)}; another version of diffusers may know it"
            )


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


@contextmanager
def _skeleton() -> Iterator[None]:
    """Within it, parameters of new modules take no memory and no time, and the global random state stays as it is."""
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook

    owner, count = threading.get_ident(), 0

    def empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        nonlocal count
        if parameter is None or threading.get_ident() != owner:
            return None  # as it is
        count += 1
        if count > MAX_PARAMETERS:
            raise ValueError(f"its settings describe more than {MAX_PARAMETERS:,} tensors")
        return torch.nn.Parameter(parameter.detach().to("meta"), requires_grad=False)

    handle = register_module_parameter_registration_hook(cast(Any, empty))  # it may return one, which its type forgets
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        handle.remove()


def used(tensors: dict[str, Tensor], component_class: str) -> dict[str, Tensor]:
    """The tensors of a file that a component is made of: without constants, and without a language model's head."""
    heads = HEADS if component_class.startswith("Qwen3") else ()
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(LEFT_OUT) and name not in heads}


def _fill(module: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype, where: str) -> None:
    """Put the tensors in the places of their names."""
    import torch

    wanted = module.state_dict()
    for name in [name for name in wanted if name.endswith(LEFT_OUT)]:  # constants that the class makes by itself
        del wanted[name]
    found = _named_as(wanted, tensors)
    if missing := sorted(wanted.keys() - found.keys()):
        raise WeightsError(f"{where}: lacks the tensor {shown(missing[0])} ({len(missing)} in all)")
    if extra := sorted(found.keys() - wanted.keys()):
        raise WeightsError(
            f"{where}: has the tensor {shown(extra[0])} ({len(extra)} in all), which its settings do not"
        )
    keep = tuple(getattr(module, "_keep_in_fp32_modules", None) or ())
    for name, tensor in found.items():
        shape = tuple(wanted[name].shape)
        if tuple(tensor.shape) != shape:
            raise WeightsError(f"{where}: the tensor {shown(name)} has shape {tuple(tensor.shape)}, wanted {shape}")
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise WeightsError(f"{where}: the tensor {shown(name)} is {tensor.dtype}, wanted {wanted[name].dtype}")
        if tensor.is_floating_point():
            kept = any(part in name.split(".") for part in keep)
            # A copy, because a tensor in a file's own memory need not be aligned, which products round differently for.
            found[name] = tensor.to(torch.float32 if kept else dtype, copy=True)
    module.load_state_dict(found, strict=False, assign=True)


def _named_as(wanted: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the module's names where a file has those of another version of the libraries."""
    for prefix in PREFIXES:
        inside = [name for name in tensors if name.startswith(prefix)]
        if inside and not any(name.startswith(prefix) for name in wanted):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        elif not inside and (lost := [name for name in wanted if name.startswith(prefix)]):
            short = {name.removeprefix(prefix) for name in lost}
            tensors = {prefix + name if name in short else name: tensor for name, tensor in tensors.items()}
    renamed = {}
    for name, tensor in tensors.items():
        if name not in wanted and ".attentions." in name:
            for old, new in OLD_ATTENTION.items():
                name = name.replace(old, new)
            if name.endswith(".weight") and tensor.dim() == 4 and name in wanted and wanted[name].dim() == 2:
                tensor = tensor.flatten(1)
        renamed[name] = tensor
    return renamed


def build_scheduler(folder: ModelFolder, component: str = "scheduler", override: str | None = None) -> Any:
    """A scheduler from its settings; ``override``: of another class with the same settings, as far as it knows them.

    Raises WeightsError.
    """
    diffusers = library("diffusers")
    name = folder.classes[component][1]
    where = folder.where(f"{component}/scheduler_config.json")
    config = folder.config(component, "scheduler_config.json")
    _check_class(config, (name,), where)
    known = {key for cls in SCHEDULERS for key in inspect.signature(getattr(diffusers, cls).__init__).parameters}
    _check_keys(config, known, where)
    with content_faults(where, WeightsError), quiet():
        try:
            return getattr(diffusers, override or name).from_config(config)
        except GenRepError:
            raise
        except Exception as error:
            raise ValueError(f"not settings of {override or name}: {one_line(str(error))}") from None
