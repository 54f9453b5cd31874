"""Charts of the sealed test: how well a model separates, how honest its probabilities are, where it errs."""

from collections.abc import Sequence

import numpy as np

from shardwise.core.target import Label, Task
from shardwise.report import numbers
from shardwise.report.charts import Chart, Frame, Legend, bars, density, dots, draw, level, line, rule, whiskers
from shardwise.report.charts import steps as step_line
from shardwise.report.data import Evaluated, ReportData
from shardwise.report.words import number, percent, short

MOST_CLASSES = 10  # curves in one chart
MOST_COUNTS = 25  # above, a count is drawn as any other number
_DIAGONAL = ((0.0, 1.0), (0.0, 1.0))
_UNIT = (-0.02, 1.02)


def charts(data: ReportData) -> list[Chart]:
    """What can be drawn of the test, for the task of the run; nothing without test rows."""
    test = data.evaluated
    if test is None:
        return []
    if data.task == Task.BINARY:
        return _binary(test, data.classes)
    if data.is_classification:
        return _multiclass(test, data)
    return _regression(test, data)


def class_name(classes: Sequence[Label], index: int) -> str:
    return short(classes[index], 28) if index < len(classes) else f"class {index}"


def frequent(test: Evaluated, most: int) -> list[int]:
    """Classes with rows on both sides, the most frequent first."""
    counts = np.bincount(test.y, minlength=test.prediction.shape[1])
    order = np.argsort(-counts, kind="stable")
    return [int(index) for index in order if 0 < counts[index] < len(test.y)][:most]


def _binary(test: Evaluated, classes: Sequence[Label]) -> list[Chart]:
    positive, probability = (test.y == 1).astype(np.float64), test.prediction[:, 1]
    drawn = []
    if 0 < positive.sum() < len(positive):
        drawn = [_roc_binary(positive, probability), _precision_recall_binary(positive, probability)]
    label = class_name(classes, 1)
    return [
        *drawn,
        _calibration(positive, probability, f"Share that is {label}", f"Predicted probability of {label}"),
        _scores_binary(positive, probability, classes),
    ]


def _roc_binary(positive: np.ndarray, probability: np.ndarray) -> Chart:
    false_rate, true_rate, area = numbers.roc(positive, probability)
    alt = f"ROC curve with an area of {area:.3f}; a guess would have 0.5."
    frame = Frame(x="False positive rate", y="True positive rate", x_range=_UNIT, y_range=_UNIT)
    svg = draw("roc", alt, frame, [rule(_DIAGONAL), line(false_rate, true_rate)])
    note = "What part of the negatives is caught by mistake, to catch what part of the positives."
    return Chart(title="ROC", svg=svg, legend=[Legend(f"area {area:.3f}", 0), Legend("a guess", -1, "rule")], note=note)


def _precision_recall_binary(positive: np.ndarray, probability: np.ndarray) -> Chart:
    recall, precision, area = numbers.precision_recall(positive, probability)
    rate = float(positive.mean())
    alt = f"Precision against recall, average precision {area:.3f}; a guess would have {rate:.3f}."
    frame = Frame(x="Recall", y="Precision", x_range=_UNIT, y_range=_UNIT)
    svg = draw("precision-recall", alt, frame, [level(rate), line(recall, precision)])
    legend = [Legend(f"average precision {area:.3f}", 0), Legend(f"a guess, {percent(rate)}", -1, "rule")]
    note = "How many of the caught are right, the more of the positives are caught."
    return Chart(title="Precision and recall", svg=svg, legend=legend, note=note)


def _calibration(hit: np.ndarray, probability: np.ndarray, share: str, what: str) -> Chart:
    table = numbers.calibration(hit, probability)
    gap = float(np.average(table.error, weights=table.rows))
    alt = f"Calibration in {len(table.rows)} bins: predictions are off by {percent(gap)} on average."
    marks = [rule(_DIAGONAL), whiskers(table.predicted, table.low, table.high), dots(table.predicted, table.actual)]
    frame = Frame(x="Predicted", y="Observed", x_range=_UNIT, y_range=_UNIT, x_percent=True, y_percent=True)
    svg = draw("calibration", alt, frame, marks)
    legend = [Legend(share, 0, "o"), Legend("perfect", -1, "rule")]
    note = f"{what}, in ten equal groups of rows, with 95 % intervals. Off by {percent(gap)} on average."
    return Chart(title="Calibration", svg=svg, legend=legend, note=note)


def _two_spreads(first: np.ndarray, second: np.ndarray, box: tuple[float, float], name: str, frame: Frame) -> Chart:
    edges = np.linspace(*box, 31)
    shares = [np.histogram(part, edges)[0] / max(len(part), 1) for part in (first, second)]
    outline = np.append(shares[1], shares[1][-1])
    marks = [bars(edges[:-1], shares[0], np.diff(edges), 0, 0.55), step_line(edges, outline, 1)]
    return Chart(title="", svg=draw(name, f"Two histograms: {frame.x}.", frame, marks))


def _scores_binary(positive: np.ndarray, probability: np.ndarray, classes: Sequence[Label]) -> Chart:
    frame = Frame(x="Predicted probability", y="Share of the class", x_range=(0, 1), x_percent=True, y_percent=True)
    chart = _two_spreads(probability[positive == 0], probability[positive == 1], (0.0, 1.0), "scores", frame)
    legend = [Legend(class_name(classes, 0), 0, "box"), Legend(class_name(classes, 1), 1)]
    note = f"Predicted probability of {class_name(classes, 1)}. The less the two overlap, the better."
    return Chart(title="Scores of both classes", svg=chart.svg, legend=legend, note=note)


def called(test: Evaluated, data: ReportData) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the class that is predicted, and whether it is right; both `(n,)`."""
    predicted = data.called(test.prediction)
    return test.prediction[np.arange(len(predicted)), predicted], predicted == test.y


def _multiclass(test: Evaluated, data: ReportData) -> list[Chart]:
    shown = frequent(test, MOST_CLASSES)
    confidence, hit = called(test, data)
    kinds = ("roc", "precision-recall") if shown else ()
    return [
        *(_one_against_rest(test, data.classes, shown, kind) for kind in kinds),
        _calibration(hit.astype(np.float64), confidence, "Share that is right", "Probability of the predicted class"),
        _scores_multiclass(confidence, hit),
    ]


def _one_against_rest(test: Evaluated, classes: Sequence[Label], shown: Sequence[int], kind: str) -> Chart:
    is_roc = kind == "roc"
    marks, legend = [rule(_DIAGONAL)] if is_roc else [], []
    for series, index in enumerate(shown):
        curve = numbers.roc if is_roc else numbers.precision_recall
        x, y, area = curve((test.y == index).astype(np.float64), test.prediction[:, index])
        marks.append(line(x, y, series))
        legend.append(Legend(f"{class_name(classes, index)} {area:.3f}", series))
    names = ("False positive rate", "True positive rate") if is_roc else ("Recall", "Precision")
    title = "ROC, each class against the rest" if is_roc else "Precision and recall, each class"
    alt = f"{title}: " + ", ".join(entry.label for entry in legend)
    svg = draw(kind, alt, Frame(x=names[0], y=names[1], x_range=_UNIT, y_range=_UNIT), marks)
    absent = test.prediction.shape[1] - len(shown)
    note = "Number: area under the curve." if is_roc else "Number: average precision."
    note += f" The {len(shown)} most frequent classes; {absent} more are not drawn." if absent else ""
    return Chart(title=title, svg=svg, legend=legend, note=note)


def _scores_multiclass(confidence: np.ndarray, hit: np.ndarray) -> Chart:
    frame = Frame(x="Probability of the predicted class", y="Share", x_range=(0, 1), x_percent=True, y_percent=True)
    chart = _two_spreads(confidence[hit], confidence[~hit], (0.0, 1.0), "scores", frame)
    legend = [Legend("right predictions", 0, "box"), Legend("wrong predictions", 1)]
    note = f"How sure the model is. {percent(float(hit.mean()))} of the rows are right."
    return Chart(title="Confidence, right and wrong", svg=chart.svg, legend=legend, note=note)


def _regression(test: Evaluated, data: ReportData) -> list[Chart]:
    y, prediction = test.y, test.prediction.reshape(len(test.y), -1)[:, 0]
    if data.task == Task.COUNT and _are_few_counts(y):
        return [_means(y, prediction), _counts(y, prediction), _error_by_decile(y, prediction)]
    if data.task == Task.QUANTILE:
        return [
            _coverage(y, prediction, data.quantile),
            _actual_against_predicted(y, prediction),
            _residuals(y, prediction),
        ]
    return [
        _actual_against_predicted(y, prediction),
        _means(y, prediction),
        _error_by_decile(y, prediction),
        _residuals(y, prediction),
        _residuals_against_predicted(y, prediction),
        _both_spreads(y, prediction),
    ]


def _actual_against_predicted(y: np.ndarray, prediction: np.ndarray) -> Chart:
    edges = [*numbers.middle(y), *numbers.middle(prediction)]
    box = (min(edges), max(edges))
    outside = float(np.mean((y < box[0]) | (y > box[1]) | (prediction < box[0]) | (prediction > box[1])))
    correlation = float(np.corrcoef(y, prediction)[0, 1]) if np.ptp(y) > 0 and np.ptp(prediction) > 0 else 0.0
    alt = f"Density of predicted against actual values, correlation {correlation:.2f}."
    frame = Frame(x="Predicted", y="Actual", x_range=box, y_range=box)
    svg = draw("actual", alt, frame, [density(prediction, y, (box, box)), rule((box, box))])
    note = f"Stronger colour: more rows, on a logarithmic scale. {percent(outside)} of the rows lie outside."
    return Chart(title="Actual against predicted", svg=svg, legend=[Legend("equal", -1, "rule")], note=note)


def _means(y: np.ndarray, prediction: np.ndarray) -> Chart:
    table = numbers.deciles(y, prediction)
    ends = (float(min(table.predicted.min(), table.low.min())), float(max(table.predicted.max(), table.high.max())))
    marks = [rule((ends, ends)), whiskers(table.predicted, table.low, table.high), dots(table.predicted, table.actual)]
    alt = f"Mean actual value in {len(table.rows)} groups of the prediction, against the mean prediction."
    svg = draw("deciles", alt, Frame(x="Mean prediction", y="Mean of actual"), marks)
    legend = [Legend("mean of a tenth of the rows", 0, "o"), Legend("perfect", -1, "rule")]
    return Chart(title="Calibration", svg=svg, legend=legend, note="With 95 % intervals of the mean.")


def _coverage(y: np.ndarray, prediction: np.ndarray, quantile: float) -> Chart:
    covered = (y <= prediction).astype(np.float64)
    table = numbers.calibration(covered, prediction)
    marks = [level(quantile), whiskers(table.predicted, table.low, table.high), dots(table.predicted, table.actual)]
    alt = f"Share of rows at or below the predicted quantile: {percent(float(covered.mean()))}, asked {quantile:g}."
    frame = Frame(x="Predicted quantile", y="Share at or below", y_range=(-0.02, 1.02), y_percent=True)
    legend = [Legend("share of a tenth of the rows", 0, "o"), Legend(f"asked: {percent(quantile)}", -1, "rule")]
    note = f"{percent(float(covered.mean()))} of all rows lie at or below their prediction. With 95 % intervals."
    return Chart(title="Coverage", svg=draw("coverage", alt, frame, marks), legend=legend, note=note)


def _are_few_counts(y: np.ndarray) -> bool:
    """Amounts and rates are trained as counts too: only whole numbers can be counted one by one."""
    return numbers.middle(y)[1] <= MOST_COUNTS and bool((y == np.floor(y)).all())


def _counts(y: np.ndarray, prediction: np.ndarray) -> Chart:
    """Shares of 0, 1, 2 ... in the data, and what Poisson distributions with the predicted means expect."""
    most = int(min(y.max(), MOST_COUNTS))
    places = np.arange(most + 1)
    observed = np.array([np.mean(y == count) for count in places])
    expected = numbers.poisson_shares(prediction, most)
    seen = observed > 0
    marks = [dots(places[seen], observed[seen]), dots(places, expected, 1, "s")]
    floor = 0.3 * float(observed[seen].min())
    frame = Frame(x="Count", y="Share of rows", y_range=(floor, 1.6), x_whole=True, y_percent=True, y_log=True)
    alt = f"Shares of the counts 0 to {most}, observed and expected; zeros {percent(observed[0])}."
    legend = [Legend("observed", 0, "o"), Legend("expected", 1, "s")]
    note = f"{percent(observed[0])} of the rows are zero, {percent(expected[0])} are expected by Poisson distributions."
    return Chart(title="Counts, observed and expected", svg=draw("counts", alt, frame, marks), legend=legend, note=note)


def _error_by_decile(y: np.ndarray, prediction: np.ndarray) -> Chart:
    table = numbers.deciles(y, prediction)
    n = len(table.rows)
    places = np.arange(1, n + 1)
    ends = [number(table.error[place], 3) for place in (0, -1)]
    alt = f"Mean absolute error in {n} groups of the prediction, from {ends[0]} to {ends[1]}."
    frame = Frame(x="Tenth of the rows, by prediction", y="Mean absolute error", x_ticks=range(1, n + 1))
    svg = draw("error", alt, frame, [bars(places - 0.4, table.error, 0.8)])
    note = f"From {ends[0]} where predictions are lowest to {ends[1]} where they are highest."
    return Chart(title="Error by size of the prediction", svg=svg, note=note)


def _residuals(y: np.ndarray, prediction: np.ndarray) -> Chart:
    residual = y - prediction
    low, high = numbers.middle(residual)
    counts, edges = np.histogram(residual, np.linspace(low, high, 41))
    mean, tails = float(residual.mean()), np.quantile(residual, [0.05, 0.95])
    shares = counts / len(residual)
    top = (0.0, float(shares.max()) * 1.05 or 1.0)
    marks = [bars(edges[:-1], shares, np.diff(edges)), rule(((0.0, 0.0), top))]
    alt = f"Histogram of residuals: mean {number(mean)}, 90 % between {number(tails[0])} and {number(tails[1])}."
    svg = draw("residuals", alt, Frame(x="Actual − predicted", y="Share of rows", y_range=top, y_percent=True), marks)
    note = f"Mean {number(mean, 3)}. 90 % lie between {number(tails[0], 3)} and {number(tails[1], 3)}."
    return Chart(title="Residuals", svg=svg, note=note)


def _residuals_against_predicted(y: np.ndarray, prediction: np.ndarray) -> Chart:
    residual = y - prediction
    box = (numbers.middle(prediction), numbers.middle(residual))
    places, n = numbers.groups(prediction, 10)
    table = np.array(
        [[prediction[places == i].mean(), *np.quantile(residual[places == i], [0.1, 0.9])] for i in range(n)]
    )
    marks = [density(prediction, residual, box), level(0.0)]
    edges = [line(table[:, 0], table[:, column], 1) for column in (1, 2)]
    frame = Frame(x="Predicted", y="Actual − predicted", x_range=box[0], y_range=box[1])
    svg = draw(
        "residuals-predicted", "Density of residuals against predictions, with the band of 80 %.", frame, marks + edges
    )
    note = "An even band around zero is good; a funnel means that large predictions are less certain."
    legend = [Legend("80 % of the rows", 1)]
    return Chart(title="Residuals against predicted", svg=svg, legend=legend, note=note)


def _both_spreads(y: np.ndarray, prediction: np.ndarray) -> Chart:
    frame = Frame(x="Value", y="Share of rows", y_percent=True)
    chart = _two_spreads(y, prediction, numbers.middle(np.concatenate([y, prediction])), "spreads", frame)
    legend = [Legend("actual", 0, "box"), Legend("predicted", 1)]
    note = "Predictions are narrower than what happens, by as much as cannot be known."
    return Chart(title="Actual and predicted values", svg=chart.svg, legend=legend, note=note)
