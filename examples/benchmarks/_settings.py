"""Settings that validation images chose, from ``settings.json``."""

import json
from pathlib import Path

SETTINGS = Path(__file__).with_name("settings.json")
# Where the search starts, and what is used for data that it was not run on.
SHARED_START = {"learning_rate_init": 2e-3, "dropout": 0.2, "label_smoothing": 0.1}
START = {
    "ff": SHARED_START | {"label_scale": 1.0},
    "torch-lean": SHARED_START | {"weight_decay": 0.0},
}


def read_settings_file(path=SETTINGS):
    """Return the choices: dicts of data, contestant, hidden, settings, error and seeds."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8"))["chosen"] if path.exists() else []


def chosen_settings(choices, data, contestant, hidden):
    """Return the settings chosen for a contestant on a data set.

    Parameters
    ----------
    choices : list of dict
        As `read_settings_file` returns them.
    data, contestant : str
        For whom.
    hidden : list of int
        Units per layer. Where the file has none of this depth, that of the nearest depth stands
        in, the shallower of two.

    Returns
    -------
    settings : dict
        Parameters and their values; `START` where the file has none.
    """
    own = [c for c in choices if (c["data"], c["contestant"]) == (data, contestant)]
    if not own:
        return dict(START[contestant])
    nearest = min(own, key=lambda c: (abs(len(c["hidden"]) - len(hidden)), len(c["hidden"])))
    return dict(nearest["settings"])
