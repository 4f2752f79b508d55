"""Where a training's samples come from, and in which order."""
