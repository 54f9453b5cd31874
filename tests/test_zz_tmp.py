from tests.test_asking import *
import pytest
@pytest.mark.parametrize(("limit","rungs"), [(1200, "partitions"), (1800,"partitions"), (400,"rounds"), (900,"rounds"), (1800,"rounds")])
def test_p(data, rounds, searches, limit, rungs):
    rounds.limit_s = limit
    r = searched(data, run="one", time="20s", rungs=rungs)
    print(limit, rungs, rounds.used_s, best(searches[0]).number)
    for r in records(data, "one", "trial"):
        print(r["number"], r["rung"], round(r["loss"],4), r["rests"], [(f["rounds"], f["steps"], f["cut"]) for f in r["folds"]])
