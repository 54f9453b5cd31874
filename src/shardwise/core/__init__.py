"""Words that everybody uses; imports nothing of ours."""
