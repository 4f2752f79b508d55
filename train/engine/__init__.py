"""How a training runs, on the loop of ``genrep.runs``.

training_plan.py  settings with every default and derived value filled in
samples.py        stored samples, or samples made while a run trains
optimiser.py      the papers' optimisers, and the learning rate
trainer.py        the networks and one step
records.py        TensorBoard, alarms, curves, and how well features name neighbours of labelled images
run.py            the whole, from a config to ``encoder.safetensors``
"""
