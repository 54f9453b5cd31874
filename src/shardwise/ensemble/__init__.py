"""Many predictions -> one."""
