"""The papers' tables by one command: a graph of the other commands, at a scale that fits, and a report.

    tables/*.toml      what the papers' tables and figures compare
    methods.toml fits.toml scales.toml   how encoders are trained, what is learned before, what a scale puts in their places
    specs.py           reads these files
    config.py          what the command is asked for
    tasks.py           Task: one call of a command with its config, in a folder named by the digest of its settings
    inputs.py planning.py   a table at a scale becomes rows and tasks
    scheduling.py      runs them, a process per GPU, and keeps their times; rates.toml has those of another machine
    run.py reporting.py  the whole, and the page in the end
    dry_run.py works.py    the dry run: hours and bytes, as measured or on stated hardware (hardware.toml)
    subset.py          a command of the graph: a few real images as a folder

The commands resume by themselves; nothing here handles that.
"""
