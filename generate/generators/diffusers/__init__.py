"""Pretrained pipelines of the package ``diffusers`` as generators: folders read as a stranger's, sampled by our own loop.

    allowed      pipelines, components and schedulers that are known; all else is refused by name
    folder       a model folder: settings as strict JSON, tensors from safetensors, every file bounded and inside the folder
    building     components from their settings by the library's classes, with our loading of tensors
    identity     the digest of tensors, settings and tokenizers
    options      steps, guidance, scheduler, eta, height, width, dtype, negative_prompt
    schedules    a scheduler whose noise comes from the caller
    loop         the sampling loop: rows that begin at different steps share the model's calls
    spaces       where the noise lives: pixels, or the latents of an autoencoder
    text         prompts, encoded once each
    denoisers/   what predicts, one module for each kind of pipeline
    generator    all of it as a ``Generator``
    family       the family's module

The package ``diffusers`` itself is imported where it is needed. The import is absolute, so that it is not this folder.
"""
