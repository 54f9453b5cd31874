"""Is the challenger better; and how a version goes live."""
