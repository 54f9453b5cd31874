import re

import numpy as np
from tests.report.runs import column, run_of

from shardwise.report.columns import MOST_COLUMNS, columns, sparkline


def heights(path: str) -> list[float]:
    return [float(height) for height in re.findall(r"v-([\d.]+)", path)]


def test_few_values_are_drawn_by_their_counts_in_the_order_of_the_values() -> None:
    quantiles = np.quantile([0] * 78 + [1] * 22, np.linspace(0, 1, 41)).tolist()
    flag = column("flag", distinct=2, mean=0.22, quantiles=quantiles, top=[["0", 780], ["1", 220]])
    falling = heights(sparkline(flag))
    rising = heights(sparkline({**flag, "top": [["1", 780], ["0", 220]]}))
    assert falling == rising[::-1]
    assert falling[1] / falling[0] == np.float64(5.4) / 19.0
    assert (
        columns(run_of("binary", columns=[{**flag, "minimum": 0, "maximum": 1}])).rows[0]["middle"].startswith("0: 78")
    )


def test_many_values_are_drawn_from_quantiles() -> None:
    age = column("age", minimum=0, maximum=90, mean=40.0, distinct=91, quantiles=list(range(41)), top=[["5", 3]])
    assert len(heights(sparkline(age))) == 24
    assert columns(run_of("binary", columns=[age])).rows[0]["middle"] == "0 to 90, mean 40"


def test_a_column_of_nothing_is_told() -> None:
    row = columns(run_of("binary", columns=[{"name": "", "count": 0, "nulls": 0}])).rows[0]
    assert (row["name"], row["spark"], row["middle"], row["distinct"]) == ("(blank)", "", "–", "–")


def test_shares_of_nulls_are_of_all_rows() -> None:
    row = columns(run_of("binary", columns=[column("a", count=200, nulls=50)])).rows[0]
    assert (row["nulls"], row["nulls_width"]) == ("25\xa0%", "25.0")


def test_order_of_the_data_stays_when_columns_are_left_out() -> None:
    many = [column(f"c{i}", flags=["constant"] if i in (7, 900) else []) for i in range(1000)]
    table = columns(run_of("binary", columns=many))
    numbers = [int(row["name"][1:]) for row in table.rows]
    assert len(numbers) == MOST_COLUMNS
    assert numbers == sorted(numbers)
    assert {7, 900} <= set(numbers)
    assert table.left_out == 700
