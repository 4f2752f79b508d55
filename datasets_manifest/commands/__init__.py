"""The verbs of genrep-manifest: a module each, whose ``command`` it is (../cli.py)."""
