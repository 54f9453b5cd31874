"""What outlives the process: content-addressed blobs, an append-only journal."""
