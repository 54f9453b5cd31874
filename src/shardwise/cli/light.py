"""LightGBM without scikit-learn, which it imports for estimators of its own: half of what `predict` takes to start.

Importing this module imports LightGBM so, unless it is there already. Its own scikit-learn estimators are then missing
in this process; the verbs that import this module use none.
"""

import sys

if "lightgbm" not in sys.modules and "sklearn" not in sys.modules:
    sys.modules["sklearn"] = None  # type: ignore[assignment] # an import of it fails, which LightGBM is prepared for
    try:
        import lightgbm  # noqa: F401
    finally:
        del sys.modules["sklearn"]
