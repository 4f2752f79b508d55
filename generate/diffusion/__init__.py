"""A denoiser of one's own, trained on real images by flow matching.

config.py   settings of fit-diffusion
model.py    the network, its average, and a training step
trainer.py  fit-diffusion: the run and its sheets of samples
export.py   the model folder at its end
"""
