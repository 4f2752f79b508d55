"""Residual Flow (Chen et al. 2019) as a generator: latents to images by the inverse."""
