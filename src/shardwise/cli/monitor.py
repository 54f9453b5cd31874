"""shardwise monitor PACKAGE --data NEW"""

import sys
from typing import Any

import click

from shardwise.cli import print_json
from shardwise.cli.options import json_option, read_options, reading_options, registry_option
from shardwise.data.dataset import open_dataset
from shardwise.monitor.alerts import open_alerts
from shardwise.monitor.judge import DriftConfig
from shardwise.registry.references import open_package
from shardwise.serve.monitoring import MonitorConfig, monitor
from shardwise.serve.predictor import Predictor

_SHOWN = 10


@click.command("monitor")
@click.argument("package")
@click.option("--data", multiple=True, required=True, metavar="NEW", help="New rows, with or without labels.")
@click.option("--window", default=10_000, show_default=True, help="Rows that are judged together.")
@click.option("--false-alarms", default=0.001, show_default=True, help="Per window where nothing has changed.")
@click.option("--detector", default="adwin", show_default=True, help="Of concept drift: adwin, page-hinkley, none.")
@click.option("--alert", multiple=True, metavar="log|URL", help="Send what is found to a webhook, or to the log.")
@click.option("--strict", is_flag=True, help="Exit code 1 when something is found.")
@registry_option
@reading_options
@json_option
def command(
    *, package: str, data: tuple[str, ...], window: int, false_alarms: float, detector: str, alert: tuple[str, ...],
    strict: bool, registry: str | None, as_json: bool, **reading: Any,
) -> int:  # fmt: skip
    """Is new data like the data that PACKAGE (a folder, NAME@3 or NAME@champion) was trained on?

    Windows of rows are compared with the training profile: distributions, missing cells, new values, ranges, answers;
    where the data has the target, also the quality. Tells what to retrain on.
    """
    config = MonitorConfig(window_rows=window, drift=DriftConfig(false_alarms=false_alarms),
                           detector=None if detector == "none" else detector)  # fmt: skip
    places = open_alerts(alert, _tell)
    try:
        dataset = open_dataset(data, options=read_options(reading))
        result = monitor(Predictor(open_package(package, registry)), dataset, config)
        if result["findings"]:
            content = {"model": package, "findings": result["findings"], "suggestion": result["suggestion"]}
            for place in places:
                place.send(content)
    finally:
        for place in places:
            place.close()
    if as_json:
        print_json(result)
    else:
        print("\n".join(_lines(result)))
    return 1 if strict and result["findings"] else 0


def _tell(event: str, **details: Any) -> None:
    print(f"{event}: {details}", file=sys.stderr)


def _lines(result: dict[str, Any]) -> list[str]:
    alarmed = sum(bool(window["findings"]) for window in result["windows"])
    lines = [f"{result['rows']:,} rows in {len(result['windows'])} windows, {alarmed} of them with findings"]
    columns = sorted((c for c in result["columns"] if c["psi"] is not None), key=lambda column: -column["psi"])
    lines += [f"  {c['column']}: PSI {c['psi']:.3f}, JS {c['js']:.3f}{_ks(c)}, missing {c['missing'][0]:.1%} -> "
              f"{c['missing'][1]:.1%}" for c in columns[:_SHOWN]]  # fmt: skip
    quality = result["quality"]
    if quality:
        before = f", {quality['test']['value']:.5g} on the test of the training" if quality["test"] else ""
        lines.append(f"{quality['metric']} {quality['now']['value']:.5g} on {quality['rows']:,} labelled rows{before}")
    lines += [f"! {finding['text']}" for finding in result["findings"]]
    few = result["unjudged_rows"]
    if few:
        lines.append(f"{few:,} rows are in windows too small to be judged, which need {DriftConfig().least_rows}.")
    silent = "Nothing was judged." if few == result["rows"] else "Nothing was found."
    return [*lines, result["suggestion"] or silent]


def _ks(column: dict[str, Any]) -> str:
    return "" if column["ks"] is None else f", KS {column['ks']:.3f}"
