"""dataset -> partitions -> bounded batches."""
