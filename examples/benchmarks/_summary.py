"""Tables of results, as texts: what the scripts print and the documentation shows."""

import statistics

from _common import spread

REFERENCE = "torch-lean"


def ratios(rows, reference, key):
    """Return a figure over the reference's, for each row whose pair has one.

    Parameters
    ----------
    rows, reference : list of dict
        Rows of two contestants. Those of the same seed (or repeat), number of threads, processor
        and day are a pair, and only timed ones where `key` is a time.
    key : str or callable
        Name of the figure, or row -> figure.

    Returns
    -------
    quotients : list of float
        One per pair.
    """
    theirs = {_pair(row): value(row, key) for row in reference}
    pairs = [(value(row, key), theirs.get(_pair(row))) for row in rows]
    return [mine / other for mine, other in pairs if mine is not None and other]


def _pair(row):
    measured = row.get("machine", {}).get("processor"), row.get("date", "")[:10]
    return row.get("seed", row.get("repeat")), row["threads"], row.get("evaluate_every"), *measured


def value(row, key):
    """Return a figure of a row, or None: seconds of a run beside others are no figure."""
    if not row.get("timed", True) and (callable(key) or "seconds" in key):
        return None
    return key(row) if callable(key) else row.get(key)


def seconds_to(target):
    """Return a function: row -> seconds until its curve is at most at `target` percent error."""

    def seconds(row):
        reached = [point["seconds"] for point in row["curve"] if point["error"] <= target]
        return reached[0] if reached else None

    return seconds


def one_per_seed(rows):
    """Return a row per seed, that with the fewest threads: threads do not change the error."""
    ordered = sorted(rows, key=lambda row: row["threads"])
    by_seed = {}
    for row in ordered:
        by_seed.setdefault(row["seed"], row)
    return [by_seed[seed] for seed in sorted(by_seed)]


def by_contestant(rows):
    """Return contestant -> its rows, in the order in which they first appear."""
    groups = {}
    for row in rows:
        groups.setdefault(row["contestant"], []).append(row)
    return groups


def training_table(rows, target=None):
    """Return header and rows of texts: a row per contestant, with ratios to the plain loop.

    Parameters
    ----------
    rows : list of dict
        Of one data set and one network size.
    target : float, default=None
        Error in percent whose time is wanted.

    Returns
    -------
    header : list of str
        Names of the columns.
    body : list of list of str
        One per contestant.
    """
    groups = by_contestant(rows)
    threads = sorted({row["threads"] for row in rows if row.get("timed", True)})
    timings = [("seconds", "seconds")] + [
        (f"seconds to {target:g} %", seconds_to(target)) for _ in range(target is not None)
    ]
    header = ["contestant", "seeds", "error %, mean", "error %"]
    for n in threads:
        for name, _ in timings:
            header += [f"{name}, {n} thread{'s' * (n > 1)}", f"/ {REFERENCE}"]
    header += ["peak MB", f"/ {REFERENCE}", "NLL", "ECE %"]
    body = []
    for name, own in groups.items():
        seeds = one_per_seed(own)
        errors = [row["error"] for row in seeds]
        cells = [name, str(len(seeds)), f"{statistics.fmean(errors):.2f}", spread(errors)]
        for n in threads:
            for _, key in timings:
                cells += _figure_and_ratio(own, groups.get(REFERENCE, []), key, n)
        cells += _figure_and_ratio(seeds, one_per_seed(groups.get(REFERENCE, [])), "peak_mb", None)
        cells += [spread([row["nll"] for row in seeds], 4), spread([row["ece"] for row in seeds])]
        body.append(cells)
    return header, body


def _figure_and_ratio(rows, reference, key, threads, digits=1):
    rows = [row for row in rows if threads in (None, row["threads"])]
    found = [value(row, key) for row in rows]
    return [spread(found, digits), spread(ratios(rows, reference, key))]


def layer_table(rows):
    """Return header and rows of texts: the error of each layer's goodness alone, and of the sum."""
    rows = [row for row in rows if row.get("layer_errors")]
    depth = max((len(row["layer_errors"]) for row in rows), default=0)
    header = ["contestant", "seeds", *(f"layer {k + 1}" for k in range(depth)), "sum"]
    body = []
    for name, own in by_contestant(rows).items():
        seeds = one_per_seed(own)
        layers = zip(*(row["layer_errors"] for row in seeds), strict=True)
        cells = [spread(errors) for errors in layers]
        cells += ["-"] * (depth - len(cells))
        body.append([name, str(len(seeds)), *cells, spread([row["sum_error"] for row in seeds])])
    return header, body


def settings_table(rows):
    """Return header and rows of texts: validation error of each setting that was tried."""
    tried = {}
    for row in rows:
        key = (row["contestant"], describe_settings(row["settings"]))
        tried.setdefault(key, []).append(row)
    header = ["contestant", "settings", "validation error %, mean", "one per seed"]
    body = []
    for (contestant, settings), own in tried.items():
        errors = [row["error"] for row in sorted(own, key=lambda row: row["seed"])]
        one_each = ", ".join(f"{error:.2f}" for error in errors)
        body.append([contestant, settings, f"{statistics.fmean(errors):.3f}", one_each])
    return header, sorted(body, key=lambda cells: (cells[0], float(cells[2])))


def tabular_tables(rows):
    """Return header and rows of texts of two tables, of accuracies by cross-validation.

    The first has the classifiers with nothing set on every data set, the second those with chosen
    settings; its rows are none where nothing was measured with any.
    """
    header = ["data", "seeds", "FFClassifier %", "MLPClassifier %", "difference"]
    body = []
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        ff, mlp = (statistics.fmean(row[name] for row in own) for name in ("ff", "mlp"))
        cells = [f"{ff:.2f}", f"{mlp:.2f}", f"{ff - mlp:+.2f}"]
        body.append([data, str(len(own)), *cells])
    chosen = [
        [row["data"], name, describe_settings(settings), row["chosen"][name]]
        for row in rows
        for name, settings in row.get("settings", {}).items()
    ]
    accuracies = {}
    for *who, accuracy in chosen:
        accuracies.setdefault(tuple(who), []).append(accuracy)
    return (header, body), (
        ["data", "contestant", "settings", "seeds", "accuracy %, mean"],
        [[*who, str(len(own)), f"{statistics.fmean(own):.2f}"] for who, own in accuracies.items()],
    )


def describe_settings(settings):
    """Return settings as they are given on the command line."""
    return " ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "none"


def versions_table(rows):
    """Return header and rows of texts: each figure of both versions and of the plain loop.

    Quotients are those of runs with the same repeat, data and number of threads.
    """
    header = ["what", "data", "threads", "old", "new", "new / old", REFERENCE, f"new / {REFERENCE}"]
    body = []
    for what, part, key in VERSION_FIGURES:
        tasks = {(row["data"], row["threads"]) for row in rows if row["part"] == part}
        for data, threads in sorted(tasks):
            own = [r for r in rows if (r["part"], r["data"], r["threads"]) == (part, data, threads)]
            cells = _version_cells(by_contestant(own), key)
            if cells[0] != "-" or cells[1] != "-":
                body.append([what, data, str(threads), *cells])
    return header, body


VERSION_FIGURES = [
    ("fit, seconds", "fit", "seconds"),
    ("fit, peak MB", "fit", "peak_mb"),
    ("predict 10,000 images, seconds", "fit", "predict_seconds"),
    ("predict with 1,000 classes, seconds", "classes", "predict_seconds"),
    ("ADS 3 x 3, seconds", "ads", lambda row: row["ads_seconds"].get("3")),
    ("ADS 5 x 5, seconds", "ads", lambda row: row["ads_seconds"].get("5")),
    ("ADS 7 x 7, seconds", "ads", lambda row: row["ads_seconds"].get("7")),
    ("ADS, peak MB", "ads", "peak_mb"),
]


def _version_cells(groups, key):
    old, new, loop = (groups.get(name, []) for name in ("old", "new", REFERENCE))
    medians = [spread([value(row, key) for row in own]) for own in (old, new, loop)]
    over_old, over_loop = spread(ratios(new, old, key)), spread(ratios(new, loop, key))
    return [medians[0], medians[1], over_old, medians[2], over_loop]


def breakdown_table(rows):
    """Return header and rows of texts: what a batch of each contestant spends its time on.

    Parameters
    ----------
    rows : list of dict
        Of ``bench_breakdown.py``, of one data set.

    Returns
    -------
    header : list of str
        Names of the columns, all in milliseconds per batch.
    body : list of list of str
        One per contestant.
    """
    kinds = list(rows[0]["milliseconds"])
    header = ["contestant", *kinds, "whole batch, milliseconds"]
    body = [
        [
            row["contestant"],
            *(f"{row['milliseconds'][kind]:.2f}" for kind in kinds),
            f"{row['whole']:.2f}",
        ]
        for row in rows
    ]
    return header, body


def describe_figures(row):
    """Return what ``bench_questions.py`` measured of a question on one line."""
    about = ("data", "samples", "question", "threads")
    about += ("commit", "date", "machine", "versions", "command")
    figures = {name: value for name, value in row.items() if name not in about}
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())


def cuda_training_table(rows):
    """Return header and rows of texts: both contestants with each way to run their batches.

    Quotients are those to the plain loop's run of the same seed, without graph, in float32.

    Parameters
    ----------
    rows : list of dict
        Of ``bench_cuda.py``, of one device, data set and network size.

    Returns
    -------
    header : list of str
        Names of the columns.
    body : list of list of str
        One per contestant and mode.
    """
    header = ["contestant", "CUDA graph", "bfloat16", "seeds", "seconds to fit", f"/ {REFERENCE}"]
    header += ["seconds to predict", f"/ {REFERENCE}", "error %", "peak MB on the device"]
    groups = {}
    for row in rows:
        groups.setdefault((row["contestant"], row["graph"], row["bfloat16"]), []).append(row)
    reference = groups.get((REFERENCE, False, False), [])
    body = []
    for (name, graph, bfloat16), own in sorted(groups.items()):
        cells = [name, _yes(graph), _yes(bfloat16), str(len(own))]
        cells += _figure_and_ratio(own, reference, "seconds", None, 2)
        cells += _figure_and_ratio(own, reference, "predict_seconds", None, 4)
        cells += [spread([row["error"] for row in own]), spread([row["peak_mb"] for row in own], 0)]
        body.append(cells)
    return header, body


def cuda_explanation_table(rows):
    """Return header and rows of texts: a row per map that ``bench_cuda.py`` computed."""
    header = ["data", "layers", "window", "images", "seconds", "peak MB on the device"]
    header += ["windows unlike the CPU's", "largest difference in accuracy"]
    body = [
        [
            *[row["data"], "-".join(map(str, row["hidden"])), f"{row['window']} x {row['window']}"],
            *[str(row["samples"]), f"{row['seconds']:.2f}", spread([row["peak_mb"]], 0)],
            f"{row['windows_unlike_cpu']} of {row['windows']}",
            f"{row['largest_difference']:.4f}",
        ]
        for row in rows
    ]
    return header, body


def _yes(condition):
    return "yes" if condition else "no"


def hinton_changes_table(rows):
    """Return header and rows of texts: held-out errors of Hinton's recipe with each change."""
    header = ["change", "epochs", "seeds", "head error %", "goodness error %"]
    groups = {}
    for row in rows:
        if row["part"] == "changes":
            groups.setdefault((row["change"], row["epochs"]), []).append(row["curve"][-1])
    body = []
    for (change, epochs), last in groups.items():
        errors = [spread([point[readout] for point in last]) for readout in ("head", "goodness")]
        body.append([change, str(epochs), str(len(last)), *errors])
    return header, body


def hinton_networks_table(rows):
    """Return header and rows of texts: errors of both readouts of each network by his recipe."""
    header = ["network", "settings", "trained on", "epochs", "seed", "seconds", "threads"]
    header += ["held-out error %: head", "goodness", "test error %: head", "goodness"]
    parts = {"curve": "all but held-out images", "whole": "all training images"}
    body = []
    for row in rows:
        if row["part"] not in parts:
            continue
        cells = ["-".join(map(str, row["hidden"])), row["change"], parts[row["part"]]]
        cells += [str(row["epochs"]), str(row["seed"])]
        seconds = value(row, "seconds") if _had_the_machine(row) else None
        cells += [spread([seconds], 0), str(row["threads"])]
        for errors in (row["curve"][-1] if row["curve"] else {}, row["test"]):
            cells += [spread([errors.get(readout)]) for readout in ("head", "goodness")]
        body.append(cells)
    return header, body


def _had_the_machine(row):
    """Return whether no more ran at the end than there are cores: else seconds say little."""
    machine = row.get("machine")
    return machine is None or machine["load"] <= machine["cores"]
