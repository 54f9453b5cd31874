"""Sample weights: whether there are any."""

from shardwise.core.errors import DataError
from shardwise.data.profile import Profile

NUMBERS = ("number", "decimal")


def check_weights(column: str | None, profile: Profile, opened: Profile) -> None:
    """Raise `DataError` where no row that could be learned from has a weight above 0: by the profiles of all rows and
    of those outside the test fold."""
    if column is None or not _none_counts(opened, column):
        return
    whole = _none_counts(profile, column)
    facts, where = (profile.columns[column], "") if whole else (opened.columns[column], " outside the test fold")
    if facts.minimum == facts.maximum == 0 and not facts.nulls:
        text = f"all {facts.count:,} rows{where} have weight 0 in column {column!r}"
    else:
        text = f"none of {facts.count:,} rows{where} has a weight above 0 in column {column!r}"
    raise DataError(text, hint="A null and a negative weight count as 0. Give another --weight, or leave it out.")


def _none_counts(profile: Profile, column: str) -> bool:
    facts = profile.columns[column]
    return facts.group in NUMBERS and facts.count > 0 and (facts.maximum is None or facts.maximum <= 0)
