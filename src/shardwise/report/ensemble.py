"""What answers in a package, in words: one model, a few together, or their student, and what else was judged."""

from shardwise.report.data import Record
from shardwise.report.words import number, plural

NAMES = {"single": "the best trial", "blend": "weighted mean", "stack": "linear stack",
         "stack_trees": "stack with small trees", "distilled": "student"}  # fmt: skip


def ensemble(told: Record) -> list[tuple[str, str]]:
    """Name and value of what is told of an ensemble; nothing where nothing is known."""
    if not told:
        return []
    found = [("answers with", what_answers(told))]
    found += [(f"judged: {NAMES[way['kind']]}", _judged(way)) for way in told.get("judged", ())]
    student = told.get("student")
    if student:
        text = f"score {number(student['score'])}, its teachers {number(student['teachers_score'])}"
        found.append(("student", f"{text}: a loss {student['loses']:+.2%}"))
    return found


def what_answers(told: Record) -> str:
    """Such as `weighted mean of trials 1, 4: 6 models, those of 4 on all rows`."""
    kind = told["kind"]
    if kind == "distilled":
        return f"{NAMES[kind]}, one model"
    way = next(way for way in told["judged"] if way["kind"] == kind)
    trials = ", ".join(map(str, way["trials"]))
    of = f", {trials}" if len(way["trials"]) == 1 else f" of trials {trials}"
    anew = told.get("refitted_trials", ())
    those = "" if set(way["trials"]) <= set(anew) else f"those of {', '.join(map(str, anew))} "
    how = f", {those}on all rows" if anew else ""
    return f"{NAMES[kind]}{of}: {plural(told['models'], 'model')}{how}"


def _judged(way: Record) -> str:
    trials = ", ".join(map(str, way["trials"]))
    text = f"trials {trials}, {plural(way['models'], 'model')}, score {number(way['score'])}"
    if way["kind"] == "single":
        return text
    return f"{text}, loss lower by {number(way['gain'])} (standard error {number(way['error'])})"
