"""Which candidate next; knows nothing of models."""
