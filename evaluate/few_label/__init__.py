"""Few-label classification on frozen features: logistic regression on many draws of 1, 5, 10, 100 labels a class.

config.py   what is asked for
fit.py      the draws, and one regression of each, all in one pass
run.py      from a config to entries of few-label.json
"""
