"""Tasks here or on a cluster; enforced limits."""
