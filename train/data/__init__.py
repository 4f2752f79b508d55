"""Where a training's samples come from, and in which order.

order.py    which sample is seen when
fields.py   what a sample has, and where it goes in a batch
shards.py   a dataset's shards as one table; kernels.py: the compiled loops that read them; latents.py: those not stored
folder_images.py  a folder of image files as such a table
sets.py     several of these as one
outputs.py  the tensors of a batch
loader.py   batches of all that; online.py: batches of a generator behind the same interface
ffcv_pipelines.py  our shards for FFCV's own ``Loader``
"""
