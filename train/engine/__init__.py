"""How a training runs: one step, its schedule, the loop, signals, checkpoints, records."""
