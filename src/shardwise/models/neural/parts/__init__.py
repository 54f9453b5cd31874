"""Networks that lie in parts on several workers: which part is where, how they compute together, how they are kept."""
