"""One candidate x folds -> scores, out-of-fold predictions."""
