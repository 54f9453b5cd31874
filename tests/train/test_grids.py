import pytest

from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.train.grids import asked_grids

PIXELS = [f"p{i}" for i in range(16)]


def asked(*names: str, **options: object) -> list[str]:
    config = RunConfig.from_mapping({"data": "x.parquet", "target": "label", **options})
    return [f"{grid.kind} {grid}" for grid in asked_grids(config, names)]


def test_grids_are_those_that_are_asked_for_and_the_image_that_names_tell() -> None:
    assert asked(*PIXELS, "label") == []
    assert asked(*PIXELS, "label", families="trees", sequence="p*:16") == ["sequence p*:16"]
    assert asked(*PIXELS, "label", families="cnn") == ["image p*:4x4"]
    assert asked(*PIXELS, "label", families="cnn", image="p*:2x8") == ["image p*:2x8"]


@pytest.mark.parametrize(
    ("family", "message"), [("cnn", "cnn models need the columns of an image"), ("rnn", "rnn .* a sequence")]
)
def test_a_family_without_its_grid_says_which_option_it_needs(family: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        asked("x", "y", "label", families=("trees", family))
    assert "--image" in (error.value.hint or "") or "--sequence" in (error.value.hint or "")


def test_what_is_dropped_is_no_pixel() -> None:
    with pytest.raises(ConfigError, match="need the columns"):
        asked(*PIXELS, "label", families="cnn", drop="p3")
