"""Linear classifiers on a frozen encoder, by the protocols of the papers.

presets.py   what each paper does
config.py    what is asked for
run.py       from a config to entries of linear.json
heads.py     several classifiers side by side, with their SGD
fit.py       epochs, from fixed features or under augmentation; checkpoints
logistic.py  logistic regression by L-BFGS
"""
