"""Learning a latent view adversarially against mutual information (COP-Gen; HL).

config.py    what a run is asked for; presets cop-gen and hl
source.py    the frozen generator, its anchors, and what of the latent T moves (chunks, W layers)
network.py   T and its constraint; weights.py the file that it is kept in
pixels.py    T_x of float images, differentiable; losses.py SupCon
trainer.py   one step of the game; run.py a whole run: fit_navigator; records.py what it tells
delta.py     measure_delta: how far learned walks go; compare.py: whether they are harder than random ones
"""
