"""The server's page for people: what is served, how it goes, decisions, and why an answer is what it is."""
