"""What every long run keeps: checkpoints and metrics."""
