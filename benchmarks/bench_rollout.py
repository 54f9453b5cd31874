"""Rollouts of 10,000 simulated versions: good ones rolled back, bad ones caught, users exposed.

Each request is answered by champion or candidate, takes a log-normal time and fails now and then; labels arrive for
all. The champion is right in 90 % of the rows. A candidate "2 % worse" is right in 2 % fewer of them (88.2 %), which
is the margin. Users exposed are requests that the candidate answered until it was rolled back; the peer is a test
with a fixed horizon, of as many rows as find the margin with a chance of 95 % at the same false alarms.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from common import Results, chosen, make_parser, verdict
from shardwise.monitor.canary import ADVANCE, FINISH, ROLL_BACK, RolloutRules, Tally, decide
from shardwise.stats.sequential import Mean, Rate

RIGHT, FAILS, SPREAD = 0.9, 0.002, 0.4  # of the champion: share right, share failed, deviation of log seconds
MARGIN = 0.02 * RIGHT
AGREE = 0.8  # share of the rows on which both are right or wrong together, where it is up to chance
LOOK = 2_000  # requests between two looks
MOST_LOOKS = 300
FALSE_MOST, CAUGHT_LEAST = 0.05, 0.95


@dataclass(frozen=True)
class Case:
    """A candidate: how much less often it is right, more often it fails, slower it is (log)."""

    worse: float = 0.0
    fails: float = 0.0
    slower: float = 0.0


CASES = {
    "as good": Case(),
    "2 % worse": Case(worse=MARGIN),
    "5 % worse": Case(worse=0.05 * RIGHT),
    "20 % worse": Case(worse=0.2 * RIGHT),
    "1 % better": Case(worse=-0.01 * RIGHT),
    "fails 1 % more often": Case(fails=0.01),
    "1.5 times as slow": Case(slower=np.log(1.5)),
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--canaries", type=int, default=10_000, help="as good, and 2 %% worse; a tenth of it else")
    args = parser.parse_args()
    results = Results("rollout", args.results)
    for quality in ("arms", "paired"):
        rules = RolloutRules(margin=MARGIN, quality=quality, least_s=0.0)
        for name in chosen(args.only, CASES):
            count = args.canaries if name in ("as good", "2 % worse") else max(args.canaries // 10, 100)
            figures = measured(rules, CASES[name], count)
            told = {"as good": verdict(figures["rolled back"], FALSE_MOST),
                    "2 % worse": verdict(figures["live"], 1 - CAUGHT_LEAST)}.get(name, "")  # fmt: skip
            results.add(f"{name}, {quality}", {**figures, "verdict": told}, canaries=count)
    results.print_table()


def measured(rules: RolloutRules, case: Case, count: int) -> dict[str, float]:
    ends = [run(rules, case, seed) for seed in range(count)]
    exposed = np.array([users for _, users in ends], float)
    outcomes = [outcome for outcome, _ in ends]
    return {
        "rolled back": round(outcomes.count(ROLL_BACK) / count, 4),
        "live": round(outcomes.count(FINISH) / count, 4),
        "undecided": round(outcomes.count("undecided") / count, 4),
        "users exposed, median": float(np.median(exposed)),
        "users exposed, mean": round(float(exposed.mean())),
        "fixed horizon": round(fixed_horizon(rules)),
    }


def fixed_horizon(rules: RolloutRules) -> float:
    """Candidate's requests of a test at the last share: (z + z')^2 var (1 + share / (1 - share)) / margin^2."""
    share = rules.steps[-1]
    reach = norm.isf(rules.alpha / 2) + norm.isf(1 - CAUGHT_LEAST)
    return float(reach**2 * RIGHT * (1 - RIGHT) * (1 + share / (1 - share)) / MARGIN**2)


def run(rules: RolloutRules, case: Case, seed: int) -> tuple[str, int]:
    """How it ends, and how many requests the candidate has answered by then."""
    rng = np.random.default_rng([seed, int(1000 * (1 + case.worse + case.fails + case.slower))])
    tallies, exposed = [Tally()], 0
    for _ in range(MOST_LOOKS):
        share = rules.steps[len(tallies) - 1]
        mine = int(rng.binomial(LOOK, share))
        see(tallies[-1], case, rng, LOOK - mine, mine)
        exposed += mine
        decision = decide(rules, tallies)
        if decision.action in (ROLL_BACK, FINISH):
            return decision.action, exposed
        if decision.action == ADVANCE:
            tallies.append(Tally())
    return "undecided", exposed


def see(tally: Tally, case: Case, rng: np.random.Generator, champion: int, candidate: int) -> None:
    """Add the requests between two looks."""
    for arm, rows, change in ((tally.champion, champion, Case()), (tally.candidate, candidate, case)):
        failed = int(rng.binomial(rows, FAILS + change.fails))
        arm.requests.merge(Rate(rows, failed))
        arm.log_s.merge(_normals(rng, change.slower, rows - failed))
        arm.loss.merge(_shares(rng.binomial(rows, 1 - RIGHT + change.worse), rows))
    tally.paired.merge(_paired(rng, champion + candidate, case.worse))


def _normals(rng: np.random.Generator, centre: float, rows: int) -> Mean:
    """What `rows` normal numbers add up to, drawn as such: their mean, and the chi-square of their spread."""
    if not rows:
        return Mean()
    squares = SPREAD**2 * rng.chisquare(rows - 1) if rows > 1 else 0.0
    return Mean(float(rows), float(rng.normal(centre, SPREAD / np.sqrt(rows))), float(squares))


def _shares(hits: int, rows: int) -> Mean:
    share = hits / rows if rows else 0.0
    return Mean(float(rows), share, rows * share * (1 - share))


def _paired(rng: np.random.Generator, rows: int, worse: float) -> Mean:
    """Differences of losses in {-1, 0, 1}: rows that only one of the two has wrong."""
    alone = (1 - AGREE) * RIGHT * (1 - RIGHT)
    only_candidate, only_champion, _ = rng.multinomial(
        rows, [alone + max(worse, 0.0), alone + max(-worse, 0.0), 1 - 2 * alone - abs(worse)]
    )
    mean = (only_candidate - only_champion) / rows
    return Mean(float(rows), mean, float(only_candidate + only_champion - rows * mean**2))


if __name__ == "__main__":
    main()
