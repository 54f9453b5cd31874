"""One Predictor for a row, a batch, HTTP."""
