"""One row at a time through LightGBM: its single-row call, set up once.

`Booster.predict` spends about a hundred microseconds on checks, parameters and threads before it looks at a tree.
LightGBM's C interface (https://lightgbm.readthedocs.io/en/latest/C-API.html, `LGBM_BoosterPredictForMatSingleRowFast`)
takes the address of the row and does nothing else. The trees are summed in the same order, so the bits are the same.
"""

import ctypes
import threading
import weakref
from functools import partial
from typing import Any

import lightgbm as lgb
import numpy as np

_LIB: Any = vars(lgb.basic)["_LIB"]  # the library as LightGBM has loaded it
_NORMAL, _RAW, _FLOAT32 = 0, 1, 0  # C_API_PREDICT_NORMAL, C_API_PREDICT_RAW_SCORE, C_API_DTYPE_FLOAT32
_PARAMETERS = b"num_threads=1 verbosity=-1"


class SingleRow:
    """Predicts a row of `features` float32 numbers into `outputs` float64 numbers. May be shared by threads.

    `raw` asks for the sums before the link. All rounds of the booster count: two handles on some rounds each of one
    booster would not do, because LightGBM keeps one predictor per booster and does not look at the first round.
    """

    def __init__(self, booster: lgb.Booster, features: int, outputs: int, *, raw: bool = False) -> None:
        self._booster = booster  # which must outlive the handle
        self._shape = (1, features)
        self._row = np.empty(self._shape, np.float32)
        self._row_address = ctypes.c_void_p(self._row.ctypes.data)
        self._out = np.empty(outputs)
        self._out_address = self._out.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        self._length = ctypes.c_int64()
        self._length_address = ctypes.byref(self._length)
        self._raw = raw
        self._handle = _opened(booster, features, raw=raw)
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, _LIB.LGBM_FastConfigFree, self._handle)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(outputs,)` for X float32 `(1, features)`."""
        if X.shape != self._shape:
            raise ValueError(f"a row of the shape {self._shape} is expected, not {X.shape}")
        with self._lock:
            self._row[:] = X
            code = _LIB.LGBM_BoosterPredictForMatSingleRowFast(
                self._handle, self._row_address, self._length_address, self._out_address
            )
            _check(code)
            return self._out.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(SingleRow, raw=self._raw), (self._booster, self._shape[1], len(self._out))


def _opened(booster: lgb.Booster, features: int, *, raw: bool) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    code = _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, _RAW if raw else _NORMAL, 0, -1, _FLOAT32, ctypes.c_int32(features), _PARAMETERS,
        ctypes.byref(handle),
    )  # fmt: skip
    _check(code)
    return handle


def be_silent() -> None:
    """Let LightGBM print nothing from this thread: each has a level of its own, which any call with params sets."""
    call("LGBM_GetSampleCount", 1, b"verbosity=-1", ctypes.byref(ctypes.c_int()))


def call(name: str, *arguments: Any) -> None:
    """Call a function of LightGBM's C interface; raises LightGBM's own error."""
    _check(getattr(_LIB, name)(*arguments))


def _check(code: int) -> None:
    if code != 0:
        raise lgb.basic.LightGBMError(ctypes.string_at(_LIB.LGBM_GetLastError()).decode())
