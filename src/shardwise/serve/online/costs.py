"""What a prediction takes, learned while serving."""

_LEARN = 0.1  # the share of the last time in what is expected


class Costs:
    """Seconds that groups of 1, 2 to 3, 4 to 7, ... rows take; a size that was never seen is guessed.

    They are seconds of the processor in one thread: waiting for the interpreter's lock is no cost of the model.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, rows: int, seconds: float) -> None:
        size = rows.bit_length()
        before = self._seconds.get(size, seconds)
        self._seconds[size] = before + _LEARN * (seconds - before)

    def expected_s(self, rows: int) -> float:
        """By the same size, else in proportion to the next smaller one that is known; infinite before the first.

        >>> costs = Costs()
        >>> costs.learn(1, 0.001)
        >>> costs.expected_s(1), costs.expected_s(4)
        (0.001, 0.004)
        """
        size = rows.bit_length()
        if size in self._seconds:
            return self._seconds[size]
        smaller = [known for known in self._seconds if known < size]
        if not smaller:
            return min(self._seconds.values(), default=float("inf"))
        return self._seconds[max(smaller)] * 2.0 ** (size - max(smaller))
