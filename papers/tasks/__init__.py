"""A graph of our own commands, each run once in a folder named by its settings.

    task.py            Task: one call of a command with its config, and what it needs
    scheduling.py      runs tasks, a process per GPU, and keeps their times; rates.toml has those of another machine
    subset.py          a command of the graph: a few real images as a folder

The commands resume by themselves; nothing here handles that.
"""
