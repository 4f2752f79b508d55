"""Linear classifiers on a frozen encoder, by the protocols of the papers.

presets.py   what each paper does
config.py    what is asked for
run.py       from a config to entries of linear.json
heads.py     several classifiers side by side, with their SGD
choice.py    the heads of a grid, and which is the result
training.py  their epochs, from fixed features or under augmentation
logistic.py  logistic regression by L-BFGS
scores.py    accuracies, in percent
"""
