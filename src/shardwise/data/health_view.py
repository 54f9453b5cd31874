"""The health of partitions for people: a few lines, then what was found and what helps."""

from collections.abc import Iterator

from shardwise.core.units import format_size
from shardwise.data.health import Health


def render_health(health: Health) -> Iterator[str]:
    """Lines of text."""
    yield (
        f"{health.partitions:,} partitions in {health.files:,} files, {health.rows:,} rows, "
        f"{format_size(health.size_bytes)}; {health.empty:,} empty"
    )
    yield (
        f"rows of a partition: {health.smallest_rows:,} to {health.largest_rows:,}, mean {health.mean_rows:,.0f}; "
        f"skew {health.skew:.2f}, Gini {health.gini:.2f}"
    )
    yield f"straggler to expect with {health.workers} worker(s): {health.straggler:.2f} times an even share"
    if health.key:
        top = [f"{hot.name!r} {hot.share:.1%}{' (spread)' if hot.spread else ''}" for hot in health.hot_keys[:3]]
        yield f"key: {', '.join(health.key)}" + (f"; hot: {', '.join(top)}" if top else "; none is hot")
    for finding in health.findings:
        yield (
            f"- {finding.text}. {finding.hint[0].upper()}{finding.hint[1:]}."
            if finding.hint[:2] != "--"
            else (f"- {finding.text}. Remedy: {finding.hint}.")
        )
    if not health.findings:
        yield "nothing is wrong with them"
