"""LIBERO: the real simulator in its own environment, the published protocols, the results."""
