"""What a process that runs nothing but shardwise leaves out when it starts.

LightGBM imports scikit-learn and pandas for estimators and tables that no code of ours uses: 1.1 of 1.4 seconds, of
each command and each worker. It is prepared for their not being there. In a user's own Python it imports them.
"""

import sys

_ABSENT = ("sklearn", "pandas")
alone = False


def claim() -> None:
    """Say that nothing but shardwise runs in this process, before anything of it that learns is imported."""
    global alone
    alone = True


def import_lightgbm() -> None:
    """Import LightGBM, and neither scikit-learn nor pandas unless they are there already."""
    absent = [name for name in _ABSENT if name not in sys.modules and "lightgbm" not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None: an import of it fails
    try:
        import lightgbm  # noqa: F401
    finally:
        for name in absent:
            del sys.modules[name]
