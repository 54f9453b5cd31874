"""Numbers gathered in one pass, merged; metrics are such numbers."""
