"""The generator families that genrep can run."""
