from typing import Any, ClassVar

import pytest

from shardwise.testing.models import ModelConformance

pytest.importorskip("torch", reason="the extra torch is not installed")


class TestNeural(ModelConformance):
    family = "neural"
    params: ClassVar[dict[str, Any]] = {"epochs": 20, "width": 32, "members": 4, "batch_rows": 32, "knots": 8}
