"""The commands of genrep-generate, one module per kind. Heavy imports are inside them, so that --help is instant."""
