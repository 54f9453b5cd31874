"""Live data against the data of training: drift, quality, latency; alerts."""
