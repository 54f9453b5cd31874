"""What every saved model has: `model.json` with the family, the target, the features and the params."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shardwise.core.errors import PackageError, context
from shardwise.core.schema import Feature
from shardwise.core.target import Target

FORMAT = 1
HEADER = "model.json"
INDENTED = 1_000  # features up to which people may read it


@dataclass(frozen=True)
class Header:
    """The content of `model.json`; `extra` is the family's own, plain JSON values."""

    family: str
    target: Target
    features: Sequence[Feature]
    params: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write into `folder`, which is made if need be; the same model gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "format": FORMAT,
            "family": self.family,
            "target": self.target.to_json(),
            "features": [feature.to_json() for feature in self.features],
            "params": dict(self.params),
            "extra": dict(self.extra),
        }
        indent = 1 if len(self.features) <= INDENTED else None  # which is written some times more slowly
        text = json.dumps(content, indent=indent, sort_keys=True, ensure_ascii=False)
        (folder / HEADER).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, family: str | None = None) -> "Header":
        """Read from `folder`; raises `PackageError` for another family or format, or when it is damaged."""
        with context(path=str(folder / HEADER)):
            try:
                content = json.loads((folder / HEADER).read_text(encoding="utf-8"))
                header = cls(
                    content["family"],
                    Target.from_json(content["target"]),
                    tuple(Feature.from_json(feature) for feature in content["features"]),
                    content["params"],
                    content["extra"],
                )
                version = content["format"]
            except (KeyError, TypeError, ValueError) as error:
                raise PackageError("the description of the model is damaged", hint="Train it again.") from error
            if version != FORMAT:
                raise PackageError(f"models of format {version} cannot be read, only {FORMAT}", hint="Train it again.")
            if family not in (None, header.family):
                raise PackageError(f"this is a model of the family {header.family!r}, not {family!r}")
            return header


def params_to_json(params: Any) -> dict[str, Any]:
    """All params, defaults made explicit."""
    return asdict(params)
