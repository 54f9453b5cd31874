"""How examples/flights was made: `python examples/make_flights.py nycflights13.parquet examples/flights`.

Source: nycflights13, all flights from New York City in 2013, US Bureau of Transportation Statistics, CC0. Kept: what is
known before departure, and whether the flight arrived more than 15 minutes late. The scheduled departure is the actual
one less the delay: the source's hour and minute are of the actual one, and would tell the answer. Flights without an
arrival (cancelled, diverted) are left out.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KNOWN_BEFORE = ["carrier", "flight", "tailnum", "origin", "dest", "distance"]


def main(source: str, folder: str) -> None:
    flights = pq.read_table(source)
    flights = flights.filter(pc.is_valid(flights["arr_delay"]))
    clock = pc.cast(flights["dep_time"], pa.int64())  # 517 is 5:17
    hours = pc.divide(clock, 100)
    minutes = pc.subtract(
        pc.add(pc.multiply(hours, 60), pc.subtract(clock, pc.multiply(hours, 100))), flights["dep_delay"]
    )
    minutes = pc.if_else(pc.less(minutes, 0), pc.add(minutes, 24 * 60), minutes)  # delayed past midnight
    departure = pc.add(flights["date"], pc.cast(pc.multiply(minutes, 60_000_000), pa.duration("us")))
    late = pc.greater(flights["arr_delay"], 15)
    table = pa.table({"departure": departure, **{name: flights[name] for name in KNOWN_BEFORE}, "late": late})
    for month in range(1, 13):
        part = table.filter(pc.equal(pc.month(table["departure"]), month)).sort_by("departure")
        pq.write_table(part, Path(folder) / f"2013-{month:02d}.parquet", compression="zstd")


main(*sys.argv[1:3])
