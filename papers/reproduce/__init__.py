"""The papers' tables by one command: a graph of the other commands, at a scale that fits, and a report.

tables/*.toml      what the papers' tables and figures compare
methods.toml fits.toml scales.toml   how encoders are trained, what is learned before, what a scale puts in their places
specs.py           reads these files
config.py          what the command is asked for
inputs.py planning.py   a table at a scale becomes rows and tasks (papers/tasks)
run.py reporting.py  the whole, and the page in the end
dry_run.py works.py    the dry run: hours and bytes, as measured or on stated hardware (hardware.toml)
"""
