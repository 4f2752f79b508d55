"""The one engine of every long run.

engine.py       Trainer (a kind of run), Course (how far, how often), Run (the loop)
folder.py       whose folder it is: settings that must be equal to go on, config.json
checkpoints.py  states: whole or absent, of the same settings or refused
metrics.py      metrics.jsonl: one writer, one reader, and the means between two lines
signals.py      SIGTERM, SIGINT, SIGUSR1; processes.py one process or those of torchrun
sanity.py       divergence
"""
