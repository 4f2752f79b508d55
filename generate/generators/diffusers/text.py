"""Prompts and what a text encoder makes of them: each distinct prompt is encoded once, alone, and kept.

Alone, because a batch of others would change the last bits, and an image depends on its own prompt only.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from genrep.errors import GeneratorError, WeightsError
from genrep.progress import note
from genrep.untrusted import content_faults, label, one_line

from .building import library, quiet
from .folder import ModelFolder, read_tokenizer_settings

if TYPE_CHECKING:
    from torch import Tensor

CACHE_BYTES = 1 << 30
FAST = {"CLIPTokenizerFast": "CLIPTokenizer", "Qwen2TokenizerFast": "Qwen2Tokenizer"}  # by their names of before
KLEIN_LAYERS = (9, 18, 27)  # of FLUX.2 [klein]'s text encoder, whose states are stacked
KLEIN_TOKENS = 512
# The chat template of Qwen3 for one question, without thinking. The folder's own template is a program and is not run.
KLEIN_PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


class TextEncoder(Protocol):
    """A prompt as the network takes it."""

    def __call__(self, prompt: str) -> Tensor:
        """Shape: ``(1, tokens, width)``."""
        ...


class PromptCache:
    """Encoded prompts, up to a number of bytes; the one that was used longest ago goes first."""

    def __init__(self, encode: TextEncoder, limit: int = CACHE_BYTES) -> None:
        self.encode, self.limit = encode, limit
        self.kept: OrderedDict[str, Tensor] = OrderedDict()
        self.bytes = 0
        self.encoded = 0  # prompts that were encoded, for tests and reports

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Shape: B texts -> ``(B, tokens, width)``."""
        import torch

        found: dict[str, Tensor] = {}  # those of this batch, whatever is dropped meanwhile
        for prompt in prompts:
            if prompt not in found:
                found[prompt] = self._one(prompt)
        return torch.cat([found[prompt] for prompt in prompts])

    def _one(self, prompt: str) -> Tensor:
        import torch

        if prompt in self.kept:
            self.kept.move_to_end(prompt)
            return self.kept[prompt]
        with torch.inference_mode(False), torch.no_grad():  # what is kept serves gradients with respect to z later
            made = self.encode(prompt)
        self.encoded += 1
        self.kept[prompt] = made
        self.bytes += made.nbytes
        while self.bytes > self.limit and len(self.kept) > 1:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes
        return made


def texts(y: Any, count: int) -> list[str]:
    """The prompts of a batch; None gives empty ones. Raises GeneratorError for anything but ``count`` texts."""
    if y is None:
        return [""] * count
    prompts = [y] if isinstance(y, str) else list(y)
    if len(prompts) != count or not all(isinstance(prompt, str) for prompt in prompts):
        raise GeneratorError(f"the generator takes {count} prompts, as many as latents; found {label(repr(y), 60)}")
    return prompts


def read_tokenizer(folder: ModelFolder, vocabulary: int, length: int) -> Any:
    """The tokenizer in a folder; it must fit an encoder of so many words and places. Raises WeightsError."""
    transformers = library("transformers")
    name, where = folder.classes["tokenizer"][1], folder.where("tokenizer")
    files = folder.tokenizer_files("tokenizer")
    if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files.keys():
        raise WeightsError(f"{where}: holds neither tokenizer.json nor vocab.json and merges.txt")
    if "tokenizer_config.json" in files:
        read_tokenizer_settings(files["tokenizer_config.json"])  # refuses code
    with content_faults(where, WeightsError), quiet(), tempfile.TemporaryDirectory() as copies:
        for file, path in files.items():  # so that the library meets these files and no others
            shutil.copyfile(path, Path(copies) / file)
        try:
            made = getattr(transformers, FAST.get(name, name)).from_pretrained(copies, local_files_only=True)
            largest = max(made.get_vocab().values())
        except Exception as error:  # tokenizers raises Exception itself
            raise ValueError(f"not a tokenizer {name}: {one_line(str(error))}") from None
    if largest >= vocabulary:
        raise WeightsError(f"{where}: its words are numbered up to {largest}, text_encoder has {vocabulary}")
    if not 1 <= made.model_max_length <= length and name.startswith("CLIP"):
        raise WeightsError(f"{where}: model_max_length is {made.model_max_length}, wanted at most {length}")
    return made


class ClipText:
    """CLIP's states of a prompt, which is cut at the encoder's length."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer, self.encoder, self.told = tokenizer, encoder, False

    def __call__(self, prompt: str) -> Tensor:
        """See ``TextEncoder``."""
        length = self.tokenizer.model_max_length
        ids, mask = tokens(self.tokenizer, prompt, length)
        if not self.told and len(self.tokenizer(prompt, verbose=False).input_ids) > length:
            note(f"prompt {label(prompt, 60)}: cut at {length} tokens, as are other long ones")
            self.told = True
        device = self.encoder.device
        uses = getattr(self.encoder.config, "use_attention_mask", False)
        return self.encoder(ids.to(device), attention_mask=mask.to(device) if uses else None)[0].to(self.encoder.dtype)


class QwenText:
    """States of three layers of Qwen3, side by side, as FLUX.2 [klein] was trained with."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        if encoder.config.num_hidden_layers < KLEIN_LAYERS[-1]:
            found = encoder.config.num_hidden_layers
            raise WeightsError(
                f"text_encoder has {found} layers; FLUX.2 [klein] uses the states of layer {KLEIN_LAYERS[-1]}"
            )
        self.tokenizer, self.encoder = tokenizer, encoder

    def __call__(self, prompt: str) -> Tensor:
        """See ``TextEncoder``."""
        import torch

        ids, mask = tokens(self.tokenizer, KLEIN_PROMPT.format(prompt), KLEIN_TOKENS)
        device = self.encoder.device
        states = self.encoder(
            input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True, use_cache=False
        ).hidden_states
        stacked = torch.stack([states[layer] for layer in KLEIN_LAYERS], dim=1).to(self.encoder.dtype)
        batch, layers, length, width = stacked.shape
        return stacked.permute(0, 2, 1, 3).reshape(batch, length, layers * width)


def tokens(tokenizer: Any, text: str, length: int) -> tuple[Tensor, Tensor]:
    """Ids and mask of a text, cut or padded. Shape: ``(1, length)`` each."""
    found = tokenizer([text], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return found.input_ids, found.attention_mask
