"""Reports of each epoch: to the history, the screen and scikit-learn's callbacks."""

from contextlib import contextmanager


class Monitor:
    """Report the epochs of a fit.

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        The fit's root context.
    history : list of dict
        Gets each epoch's record.
    hook_arguments : dict
        estimator, X, y, metadata and reconstruction_attributes for the callbacks' hooks.
    max_iter : int
        Epochs per phase.
    n_phases : int
        What is trained in turn.
    n_before : int
        Epochs of earlier fits in the history.
    verbose : bool or int
        Whether to print a line per epoch.
    """

    def __init__(self, context, history, hook_arguments, *, max_iter, n_phases, n_before, verbose):
        self.context = context
        self.history = history
        self.hook_arguments = hook_arguments
        self.max_iter = max_iter
        self.n_phases = n_phases
        self.seconds = []  # of each epoch of the phase
        self.n_before = n_before
        self.verbose = verbose

    def skip_phase(self):
        """Count a phase of a resumed fit that callbacks do not hear of."""
        self.n_phases -= 1
        self.context.subcontext()

    @contextmanager
    def phase(self, layers, *, nested, n_past=0):
        """Train some layers, none meaning the softmax head; as a task of its own if `nested`.

        Callbacks do not hear of the first `n_past` epochs, which are counted all the same.
        """
        root = self.context
        self.n_phases -= 1
        self.seconds, self.n_past = [], n_past
        if nested:
            name = f"layer {layers.start + 1}" if layers else "readout"
            self.context = root.subcontext(task_name=name, max_subtasks=self.max_iter)
            self.context.call_on_fit_task_begin(**self.hook_arguments)
        for _ in range(n_past):
            self.context.subcontext(task_name="epoch")
        yield
        if nested:
            self.context.call_on_fit_task_end(**self.hook_arguments)
        self.context = root

    def begin_epoch(self):
        """Open a task for an epoch."""
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.hook_arguments)

    def end_epoch(self, record):
        """Record the epoch and return whether a callback asks to stop after it."""
        record["epoch"] += self.n_before
        self.history.append(record)
        self.seconds.append(record["seconds"])
        if self.verbose:
            line = describe(record, self.n_before + self.max_iter)
            print(f"{line}  {self._time_left()}".rstrip(), flush=True)
        return self.epoch.call_on_fit_task_end(**self.hook_arguments)

    def _time_left(self):
        n_left = self.max_iter * (1 + self.n_phases) - self.n_past - len(self.seconds)
        if not n_left:
            return ""
        left = n_left * sum(self.seconds) / len(self.seconds)
        return f"about {left:.0f} s left" if left < 100 else f"about {left / 60:.0f} min left"


def describe(record, max_iter):
    """Return one readable line on an epoch.

    Parameters
    ----------
    record : dict
        See `FFClassifier.history_`.
    max_iter : int
        Epochs at most.

    Returns
    -------
    line : str
        For the screen.
    """
    width = len(str(max_iter))
    parts = [f"epoch {record['epoch']:>{width}}/{max_iter}  {record['seconds']:6.2f} s"]
    if record["layers"]:
        names = ", ".join(str(layer + 1) for layer in record["layers"])
        losses = ", ".join(f"{loss:.4f}" for loss in record["loss"])
        shares = ", ".join(f"{share:.1%}" for share in record["positive_share"])
        plural = "s" if len(record["layers"]) > 1 else ""
        parts.append(f"layer{plural} {names}: loss {losses}, positives above negatives {shares}")
    if "readout_loss" in record:
        parts.append(
            f"readout: loss {record['readout_loss']:.4f}, accuracy {record['readout_accuracy']:.4f}"
        )
    if "validation_score" in record:
        parts.append(f"validation accuracy {record['validation_score']:.4f}")
    return "  ".join(parts)
