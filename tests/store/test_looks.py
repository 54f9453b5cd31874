"""A look counts once for each model and each set of rows."""

from pathlib import Path

from shardwise.store.looks import Looks, Marks


def test_the_same_model_again_is_no_further_look(tmp_path: Path) -> None:
    assert Looks(tmp_path).count(["data", 1], "a") == 1
    assert Looks(tmp_path).count(["data", 1], "b") == 2
    assert Looks(tmp_path).count(["data", 1], "a") == 2
    assert Looks(tmp_path).count(["data", 2], "a") == 1


def test_a_test_is_known_again_by_its_labels_or_by_most_of_its_rows(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    first = Marks("labels", range(0, 640, 10))
    assert looks.count(["split"], "a", first) == 1
    assert looks.count(["split"], "b", Marks("more labels", [*range(0, 600, 10), 605, 610, 620, 630])) == 2
    assert looks.count(["split"], "c", Marks("labels", [1, 2, 3])) == 2  # as the first; the second has other labels
    assert looks.count(["split"], "d", Marks("others", range(5, 645, 10))) == 1
    assert looks.count(["split"], "e", Marks("ten times as many", range(64))) == 5  # of those that both could have
    assert looks.count(["split"], "a", first) == 4
    assert looks.count(["another split"], "f", first) == 1


def test_rows_are_compared_as_far_as_both_are_known(tmp_path: Path) -> None:
    assert not Marks("a", [10, 12, 14, 900]).is_like(Marks("b", range(14, 100)))
    assert Marks("a", [10, 900, 5_000]).is_like(Marks("b", range(100)))
    assert Marks("a", [10, 900, 5_000]).is_like(Marks("b", [10, 20, 900, 950, 5_000]))
