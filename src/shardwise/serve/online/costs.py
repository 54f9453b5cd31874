"""What a prediction takes, learned while serving."""

_UP, _DOWN = 0.1, 0.5  # how much more is expected after a longer time; how far it goes down to a shorter one
_LEAST_S = 1e-5


class Costs:
    """Seconds that groups of 1, 2 to 3, 4 to 7, ... rows take; a size that was never seen is guessed.

    They are seconds of the processor in one thread: waiting for the interpreter's lock is no cost of the model. A short
    time is believed soon, a long one must come again and again: the first prediction of a model, and one that the
    machine has held up, are no costs either. A group does not take less than a smaller one.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, rows: int, seconds: float) -> None:
        size = rows.bit_length()
        before = self._seconds.get(size, seconds)
        if seconds < before:
            self._seconds[size] = before + _DOWN * (seconds - before)
        else:
            self._seconds[size] = min(seconds, max(before * (1 + _UP), _LEAST_S))

    def expected_s(self, rows: int) -> float:
        """By the same size or a larger one, else in proportion to the next smaller one; infinite before the first.

        >>> costs = Costs()
        >>> costs.learn(1, 0.001)
        >>> costs.expected_s(1), costs.expected_s(4)
        (0.001, 0.004)
        """
        size = rows.bit_length()
        known = [seconds for other, seconds in self._seconds.items() if other >= size]
        smaller = max((other for other in self._seconds if other < size), default=None)
        if smaller is not None and size not in self._seconds:
            known.append(self._seconds[smaller] * 2.0 ** (size - smaller))
        return min(known, default=float("inf"))
