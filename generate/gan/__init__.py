"""A StyleGAN2 of one's own, trained on real images.

config.py   settings of fit-gan
model.py    the networks, and the losses of a step; discriminator.py D and its augmentation, real.py what it is shown
trainer.py  fit-gan: the run, and the weights at its end
"""
