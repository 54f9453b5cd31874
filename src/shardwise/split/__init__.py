"""row -> fold, decided row by row."""
