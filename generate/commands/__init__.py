"""The commands of genrep-generate, a module each kind. Heavy imports happen inside them, so that --help is instant."""
