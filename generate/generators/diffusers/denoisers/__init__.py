"""What predicts in the sampling loop: one module for each kind of pipeline."""
