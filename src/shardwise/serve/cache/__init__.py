"""Answers that were given before, by the package and the row: in this process, in Redis, in Memcached."""
