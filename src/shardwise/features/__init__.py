"""batches -> model-ready batches."""
