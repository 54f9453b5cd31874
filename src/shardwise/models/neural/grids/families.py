"""The families `cnn` and `rnn`: the network of `neural` behind a trunk that reads the cells of a grid.

Features without a place in the grid are embedded as in `neural`; without a grid both are that network.
"""

from dataclasses import dataclass
from typing import ClassVar

from shardwise.models.neural.grids.layout import GridDesign
from shardwise.models.neural.grids.trunks import ConvTrunk, GruTrunk
from shardwise.models.neural.model import Neural, NeuralParams
from shardwise.models.params import check_range

SMALL_SIDE = 7  # of what leaves the last block of convolutions, at most
SHIFT_SHARE = 14  # an image is moved by a 14th of its shorter side while it is learned
PATCHES = 32  # steps of the recurrent layer, about


@dataclass(frozen=True, kw_only=True)
class _TrunkParams(NeuralParams):
    """What networks behind a trunk were measured with (docs/decisions/0022-images-and-sequences.md)."""

    members: int = 4
    depth: int = 1
    activation: str = "relu"
    learning_rate: float = 3e-3
    beta2: float = 0.999
    patience: int = 8


@dataclass(frozen=True, kw_only=True)
class CnnParams(_TrunkParams):
    """Convolutions of `filters`, twice as many in each further block; `units` numbers come to the network behind them.

    `blocks` None: until the shorter side is at most 7. `shift`: pixels by which an image is moved while it is learned,
    at most; None: a 14th of the shorter side.
    """

    filters: int = 16
    kernel: int = 3
    blocks: int | None = None
    units: int = 128
    shift: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, filters=(1, 1024), kernel=(1, 15), units=(1, 65_536))
        for name, low, high in (("blocks", 1, 16), ("shift", 0, 1024)):
            if getattr(self, name) is not None:
                check_range(self, **{name: (low, high)})

    def trunk(self, height: int, width: int, channels: int) -> ConvTrunk:
        """For images of this size."""
        side = min(height, width)
        usual = max(1, (-(-side // SMALL_SIDE) - 1).bit_length())
        return ConvTrunk(
            height=height, width=width, channels=channels, filters=self.filters, kernel=self.kernel,
            blocks=self.blocks or usual, features=self.units,
            shift=side // SHIFT_SHARE if self.shift is None else self.shift,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RnnParams(_TrunkParams):
    """A recurrent layer with a state of `hidden` over patches of `patch` steps, then the network of `NeuralParams`.

    `patch` None: such that there are about 32 patches. Few epochs: the learning rate is to come down before what is
    learned by heart counts.
    """

    dropout: float = 0.3
    epochs: int | None = 12
    hidden: int = 64
    patch: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, hidden=(1, 4096))
        if self.patch is not None:
            check_range(self, patch=(1, 65_536))

    def trunk(self, steps: int, channels: int) -> GruTrunk:
        """For sequences of this size."""
        patch = self.patch or -(-steps // PATCHES)
        return GruTrunk(steps=steps, channels=channels, patch=min(patch, steps), hidden=self.hidden)


class Cnn(Neural):
    """A convolutional network for the cells of an image, beside which there may be other features."""

    family: ClassVar[str] = "cnn"
    kind: ClassVar[type[NeuralParams]] = CnnParams
    params: CnnParams
    _design: GridDesign

    def _make_design(self) -> GridDesign:
        return GridDesign(self.features, self.params.embedding_limit, axes=3, apart=self._apart)

    @property
    def trunk(self) -> ConvTrunk | None:
        return self.params.trunk(*self._design.sizes) if self._design.sizes else None


class Rnn(Neural):
    """A recurrent network for the steps of a sequence, beside which there may be other features."""

    family: ClassVar[str] = "rnn"
    kind: ClassVar[type[NeuralParams]] = RnnParams
    params: RnnParams
    _design: GridDesign

    def _make_design(self) -> GridDesign:
        return GridDesign(self.features, self.params.embedding_limit, axes=2, apart=self._apart, flags=True)

    @property
    def trunk(self) -> GruTrunk | None:
        return self.params.trunk(*self._design.sizes) if self._design.sizes else None
