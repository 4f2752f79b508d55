"""Fine-tuning on few labels."""
