"""Learning the directions in latent space that shift, zoom, turn and colour images (GenRep section 3.2).

config.py    what a run is asked for
alphas.py    the transforms, the strengths α that they are drawn with and their units; numpy alone
targets.py   warp: T(G(z), α) and its mask, batched on the device
trainer.py   one step; run.py a whole run: fit_steer
export.py    the file of learned walks
measure.py   what +α does to generated images; curves.py draws it; sheet.py a picture of it
"""
