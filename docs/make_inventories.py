"""Where other projects describe what our pages refer to.

Sphinx can fetch the full inventories from their sites; a build without a network could not. So the
few objects that our pages name are listed here, and written as inventories of their own.
"""

from pathlib import Path
from zlib import compress

SITES = {
    "sklearn": "https://scikit-learn.org/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "joblib": "https://joblib.readthedocs.io/en/stable/",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}
OBJECTS = {
    "sklearn": {
        "class": [
            "sklearn.calibration.CalibratedClassifierCV",
            "sklearn.exceptions.ConvergenceWarning",
            "sklearn.linear_model.Ridge",
            "sklearn.model_selection.GridSearchCV",
            "sklearn.neural_network.MLPClassifier",
            "sklearn.pipeline.Pipeline",
            "sklearn.preprocessing.StandardScaler",
            "sklearn.utils.Bunch",
        ],
        "function": [
            "sklearn.datasets.get_data_home",
            "sklearn.inspection.permutation_importance",
            "sklearn.utils.validation.validate_data",
        ],
    },
    "joblib": {
        "function": {
            "joblib.parallel_config": "generated/joblib.parallel_config.html",
            "joblib.hash": "generated/joblib.hash.html",
        }
    },
    "skorch": {"class": {"skorch.NeuralNetClassifier": "classifier.html"}},
    "torch": {
        "class": {"torch.Generator": "generated/torch.Generator.html"},
        "module": {"torch.distributed": "distributed.html"},
    },
    "numpy": {
        "class": {"numpy.memmap": "reference/generated/numpy.memmap.html"},
        "function": {"numpy.load": "reference/generated/numpy.load.html"},
    },
}


def write_all(folder):
    """Write an inventory per project; return the mapping that intersphinx takes."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for project, kinds in OBJECTS.items():
        lines = []
        for kind, names in kinds.items():
            for name in names:
                page = f"modules/generated/{name}.html"  # of scikit-learn
                place = names[name] if isinstance(names, dict) else page
                lines.append(f"{name} py:{kind} 1 {place}#{name} -")
        head = "# Sphinx inventory version 2\n# Project: {}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        path = folder / f"{project}.inv"
        text = "\n".join(lines) + "\n"
        path.write_bytes(head.format(project).encode() + compress(text.encode()))
        mapping[project] = (SITES[project], str(path))
    return mapping


INVENTORIES = Path(__file__).parent / "_build" / "inventories"
