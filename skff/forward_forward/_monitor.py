"""Who hears of each epoch: the history, the screen and scikit-learn's callbacks."""


class Monitor:
    """Report the epochs of a fit.

    Parameters
    ----------
    estimator : estimator
        Whose callbacks are told.
    context : sklearn.callback.CallbackContext
        The fit's root context.
    history : list of dict
        Gets each epoch's record.
    hook_arguments : dict
        X, y, metadata and reconstruction_attributes for the callbacks' hooks.
    max_iter : int
        Epochs per set of layers.
    verbose : bool or int
        Whether to print a line per epoch.
    """

    def __init__(self, estimator, context, history, hook_arguments, *, max_iter, verbose):
        self.estimator = estimator
        self.context = context
        self.history = history
        self.hook_arguments = {"estimator": estimator, **hook_arguments}
        self.max_iter = max_iter
        self.verbose = verbose
        self.parent = context
        self.epoch = None

    def begin_layer(self, layer):
        """Open a task for one of several layers that are trained in turn."""
        self.parent = self.context.subcontext(
            task_name=f"layer {layer + 1}", max_subtasks=self.max_iter
        )
        self.parent.call_on_fit_task_begin(**self.hook_arguments)

    def end_layer(self):
        """Close the task of the layer."""
        self.parent.call_on_fit_task_end(**self.hook_arguments)
        self.parent = self.context

    def begin_epoch(self):
        """Open a task for an epoch."""
        self.epoch = self.parent.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.hook_arguments)

    def end_epoch(self, record):
        """Record the epoch and return whether a callback asks to stop after it."""
        self.history.append(record)
        if self.verbose:
            print(describe(record, self.max_iter), flush=True)
        return self.epoch.call_on_fit_task_end(**self.hook_arguments)


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
    names = ", ".join(str(layer + 1) for layer in record["layers"])
    losses = ", ".join(f"{loss:.4f}" for loss in record["loss"])
    shares = ", ".join(f"{share:.1%}" for share in record["positive_share"])
    plural = "s" if len(record["layers"]) > 1 else ""
    line = (
        f"epoch {record['epoch']:>{len(str(max_iter))}}/{max_iter}  {record['seconds']:6.2f} s  "
        f"layer{plural} {names}: loss {losses}, positives above negatives {shares}"
    )
    if "validation_score" in record:
        line += f", validation accuracy {record['validation_score']:.4f}"
    return line
