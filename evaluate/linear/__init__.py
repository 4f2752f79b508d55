"""Linear classifiers on a frozen encoder, by the protocols of the papers.

config.py    what each paper does, and what is asked for
run.py       from a config to entries of linear.json
heads.py     several classifiers side by side, with their SGD
training.py  their epochs, from fixed features or under augmentation
logistic.py  logistic regression by L-BFGS
scores.py    accuracies, in percent
"""
