"""Machine learning on data bigger than memory."""
