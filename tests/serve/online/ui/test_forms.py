"""Forms are made once for a version, and do not keep it loaded."""

import dataclasses
import gc
import weakref

from shardwise.core.target import Task
from shardwise.serve.online.live import FolderSource, Models, Slot
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.predictor import Predictor


def test_a_form_does_not_keep_its_version(packages):
    slot = Slot(FolderSource("m", packages[Task.BINARY]), Predictor)
    routes = Routes(Models([slot]), ServeConfig(), Metrics())
    swapped = dataclasses.replace(slot.live, version="before")
    made = routes.page._form(swapped)
    assert routes.page._form(dataclasses.replace(swapped)) is made
    assert routes.page._form(slot.live) != made
    gone = weakref.ref(swapped)
    del swapped
    gc.collect()
    assert gone() is None
    routes.close()
