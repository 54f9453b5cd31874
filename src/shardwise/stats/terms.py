"""What metrics are made of: curves of ranked scores, and for additive ones the terms of a row and what their sums say.

Labels y are float64 `(rows,)`, predictions float64 `(rows,)` or `(rows, classes)`.
"""

from collections.abc import Callable

import numpy as np

EPS = float(np.finfo(np.float64).eps)  # probabilities are clipped here, as in scikit-learn's log_loss
Terms = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
Finish = Callable[[np.ndarray], np.ndarray]
Tally = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def positive(prediction: np.ndarray) -> np.ndarray:
    """Scores `(rows,)` of the positive class of two."""
    return prediction if prediction.ndim == 1 else prediction[:, 1]


# ---- curves: weights (..., scores) of positives and negatives, best score first


def roc_auc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    above = np.cumsum(positive, axis=-1) - positive / 2  # ties count half
    area = (above * negative).sum(axis=-1)
    return np.asarray(area / (positive.sum(axis=-1) * negative.sum(axis=-1)))


def average_precision(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    hits = np.cumsum(positive, axis=-1)
    called = hits + np.cumsum(negative, axis=-1)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return np.asarray((precision * positive).sum(axis=-1) / positive.sum(axis=-1))


# ---- terms (rows, sums) and what is made of their sums


def columns(*parts: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(part, dtype=np.float64) for part in parts], axis=1)


def mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 1] / sums[..., 0])


def mean_of(loss: Callable[[np.ndarray, np.ndarray, float], np.ndarray]) -> Terms:
    """Terms of a mean: the number of rows, and the loss of each."""
    return lambda y, prediction, quantile: columns(np.ones(len(y)), loss(y, prediction, quantile))


def log_loss(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    if prediction.ndim == 1:
        own = np.where(y > 0.5, prediction, 1.0 - prediction)
    else:
        own = np.take_along_axis(prediction, y.astype(np.int64)[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.clip(own, EPS, 1.0 - EPS)))


def brier(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    return np.asarray((positive(prediction) - y) ** 2)


def classes_of(prediction: np.ndarray) -> np.ndarray:
    """Class indices `(rows,)` of the greatest probability; on a tie the first class."""
    if prediction.ndim == 1:
        return (prediction > 0.5).astype(np.int64)
    return np.asarray(prediction.argmax(axis=1))


def hit(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    return np.asarray(classes_of(prediction) == y)


def confusion(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    """For each class: rows that are hit, rows that are of it, rows that are taken for it."""
    called = classes_of(prediction)
    classes = np.arange(2 if prediction.ndim == 1 else prediction.shape[1])
    is_class, is_called = y[:, None] == classes, called[:, None] == classes
    return np.concatenate([is_class & is_called, is_class, is_called], axis=1).astype(np.float64)


def tally(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted sums of `confusion`, `(3 x classes,)`, without its rows x classes."""
    classes = 2 if prediction.ndim == 1 else prediction.shape[1]
    called, own = classes_of(prediction), y.astype(np.int64)
    hit = own == called
    counted = (np.bincount(rows, mass, classes)[:classes] for rows, mass in (
        (own[hit], weight[hit]), (own, weight), (called, weight)
    ))  # fmt: skip
    return np.concatenate(list(counted))


def _thirds(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    third = sums.shape[-1] // 3
    return sums[..., :third], sums[..., third : 2 * third], sums[..., 2 * third :]


def balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    hit, actual, _ = _thirds(sums)
    present = actual > 0
    recall = np.divide(hit, actual, out=np.zeros_like(hit), where=present)
    return np.asarray(recall.sum(axis=-1) / present.sum(axis=-1))


def _f1_each(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hit, actual, called = _thirds(sums)
    present = actual + called > 0
    return np.divide(2 * hit, actual + called, out=np.zeros_like(hit), where=present), present


def f1(sums: np.ndarray) -> np.ndarray:
    return np.asarray(_f1_each(sums)[0][..., 1])


def f1_macro(sums: np.ndarray) -> np.ndarray:
    each, present = _f1_each(sums)
    return np.asarray(each.sum(axis=-1) / present.sum(axis=-1))


def square(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    return np.asarray((y - prediction) ** 2)


def absolute(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    return np.asarray(np.abs(y - prediction))


def r2_terms(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    return columns(np.ones(len(y)), y, y**2, (y - prediction) ** 2)


def r2(sums: np.ndarray) -> np.ndarray:
    """As in scikit-learn, labels that are all equal give 1 when every prediction is right, else 0."""
    rows, total, squares, error = (sums[..., i] for i in range(4))
    spread = squares - total**2 / rows
    flat = spread <= 1e-15 * squares
    value = 1.0 - error / np.where(flat, 1.0, spread)
    return np.asarray(np.where(flat, np.where(error == 0, 1.0, 0.0), value))


def poisson(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    """Deviance of a count; means below 1e-15 are taken as 1e-15, a negative count gives NaN."""
    mean = np.maximum(prediction, 1e-15)
    ratio = np.where(y > 0, y, 1.0) / mean
    gain = np.where(y > 0, y * np.log(ratio), 0.0)
    return np.asarray(np.where(y < 0, np.nan, 2.0 * (gain - y + mean)))


def pinball(y: np.ndarray, prediction: np.ndarray, quantile: float) -> np.ndarray:
    short = y - prediction
    return np.asarray(np.where(short >= 0, quantile * short, (quantile - 1.0) * short))


def covered(y: np.ndarray, prediction: np.ndarray, _quantile: float) -> np.ndarray:
    return np.asarray(y <= prediction)


def rmse(sums: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(mean(sums)))
