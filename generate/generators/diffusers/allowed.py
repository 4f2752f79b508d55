"""What a model folder may name. A class that is not listed here is never imported."""

from __future__ import annotations

from dataclasses import dataclass

TEXT_TO_IMAGE = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")  # of Stable Diffusion: never read


@dataclass(frozen=True)
class PipelineKind:
    """What a pipeline's class needs in its folder."""

    kind: str  # which denoiser: pixels, dit, stable_diffusion, unclip, flux2
    components: tuple[str, ...]
    steps: int  # the library's defaults
    guidance: float
    unused: tuple[str, ...] = ()  # components that are left unread


PIPELINES = {
    "DDPMPipeline": PipelineKind("pixels", ("unet", "scheduler"), 1000, 1.0),
    "DDIMPipeline": PipelineKind("pixels", ("unet", "scheduler"), 50, 1.0),
    "ConsistencyModelPipeline": PipelineKind("pixels", ("unet", "scheduler"), 1, 1.0),
    "DiffusionPipeline": PipelineKind("pixels", ("unet", "scheduler"), 50, 1.0),  # what fit-diffusion writes
    "DiTPipeline": PipelineKind("dit", ("transformer", "vae", "scheduler"), 50, 4.0),
    "StableDiffusionPipeline": PipelineKind("stable_diffusion", TEXT_TO_IMAGE, 50, 7.5, UNUSED),
    "LatentConsistencyModelPipeline": PipelineKind("stable_diffusion", TEXT_TO_IMAGE, 4, 8.5, UNUSED),
    "StableUnCLIPImg2ImgPipeline": PipelineKind(
        "unclip",
        (*TEXT_TO_IMAGE, "feature_extractor", "image_encoder", "image_normalizer", "image_noising_scheduler"),
        20,
        10.0,
    ),
    "Flux2KleinPipeline": PipelineKind("flux2", (*TEXT_TO_IMAGE[:3], "transformer", "scheduler"), 50, 4.0),
}

SCHEDULERS = (
    "CMStochasticIterativeScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)

# By kind and component: (library, class) as model_index.json says them.
CLASSES: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("pixels", "unet"): (("diffusers", "UNet2DModel"),),
    ("dit", "transformer"): (("diffusers", "DiTTransformer2DModel"), ("diffusers", "Transformer2DModel")),
    ("flux2", "transformer"): (("diffusers", "Flux2Transformer2DModel"),),
    ("flux2", "vae"): (("diffusers", "AutoencoderKLFlux2"),),
    ("flux2", "text_encoder"): (("transformers", "Qwen3ForCausalLM"), ("transformers", "Qwen3Model")),
    ("flux2", "tokenizer"): (("transformers", "Qwen2TokenizerFast"), ("transformers", "Qwen2Tokenizer")),
}
COMMON: dict[str, tuple[tuple[str, str], ...]] = {
    "scheduler": tuple(("diffusers", name) for name in SCHEDULERS),
    "unet": (("diffusers", "UNet2DConditionModel"),),
    "vae": (("diffusers", "AutoencoderKL"),),
    "text_encoder": (("transformers", "CLIPTextModel"),),
    "tokenizer": (("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")),
    "feature_extractor": (("transformers", "CLIPImageProcessor"), ("transformers", "CLIPFeatureExtractor")),
    "image_encoder": (("transformers", "CLIPVisionModelWithProjection"),),
    "image_normalizer": (
        ("stable_diffusion", "StableUnCLIPImageNormalizer"),
        ("diffusers", "StableUnCLIPImageNormalizer"),
    ),
    "image_noising_scheduler": (("diffusers", "DDPMScheduler"), ("diffusers", "DDIMScheduler")),
}


def classes_of(kind: str, component: str) -> tuple[tuple[str, str], ...]:
    """The (library, class) pairs that a component may have."""
    return CLASSES.get((kind, component)) or COMMON[component]
