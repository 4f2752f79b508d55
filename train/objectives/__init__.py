"""What an encoder is trained to do: losses and the heads that they need, one module each."""
