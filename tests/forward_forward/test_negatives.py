import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest, chisquare
from strategies import encoded_labels

from skff.forward_forward.negatives import NEGATIVES, Hard, uniform

every_sampler = pytest.mark.parametrize("sampler", NEGATIVES.values(), ids=list(NEGATIVES))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(sampler, y, n_classes, rng, scores=None):
    """Call a sampler with what it declares to need; scores (n, n_classes) are 0 by default."""
    if not hasattr(sampler, "needs"):
        return sampler(y, n_classes, rng)
    scores = torch.zeros(len(y), n_classes) if scores is None else scores
    return sampler(y, n_classes, rng, lambda candidates: scores[:, candidates])


@every_sampler
@given(labels=encoded_labels(max_classes=12), seed=st.integers(0, 2**32 - 1))
def test_sampler_never_draws_the_true_label(sampler, labels, seed):
    y, n_classes = labels
    scores = 1e3 * torch.nn.functional.one_hot(y, n_classes).float()  # the true one tempts most
    y_wrong = draw(sampler, y, n_classes, generator(seed), scores)
    assert y_wrong.shape == y.shape
    assert (y_wrong != y).all()
    assert ((0 <= y_wrong) & (y_wrong < n_classes)).all()


@every_sampler
@pytest.mark.parametrize("n_classes", [2, 3, 10, 64, 65, 200])
def test_sampler_reaches_every_wrong_label_and_no_other(sampler, n_classes):
    rng, y = generator(), torch.tensor([0, n_classes // 2, n_classes - 1]).repeat(60)
    drawn = torch.stack([draw(sampler, y, n_classes, rng) for _ in range(40)])
    for label in y[:3].tolist():
        wrong = [c for c in range(n_classes) if c != label]
        assert drawn[:, y == label].unique().tolist() == wrong


@every_sampler
def test_sampler_draws_all_wrong_labels_alike_where_their_scores_are_equal(sampler):
    y = torch.full((30_000,), 3)
    counts = torch.bincount(draw(sampler, y, 7, generator()), minlength=7).numpy()
    assert counts[3] == 0
    assert chisquare(np.delete(counts, 3)).pvalue > 1e-3


@every_sampler
def test_same_generator_state_gives_the_same_labels(sampler):
    y = torch.arange(50) % 9
    scores = torch.rand(50, 9, generator=generator(1))
    first, again, other = (draw(sampler, y, 9, generator(seed), scores) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_sampler
def test_sampler_leaves_labels_and_scores_as_they_are(sampler):
    y = torch.arange(20) % 4
    scores = torch.rand(20, 4, generator=generator())
    before = y.clone(), scores.clone()
    y_wrong = draw(sampler, y, 4, generator(), scores)
    assert torch.equal(y, before[0])
    assert torch.equal(scores, before[1])
    assert y_wrong.data_ptr() != y.data_ptr()


@every_sampler
@pytest.mark.parametrize("n_classes", [0, 1])
def test_sampler_without_a_wrong_label_to_draw_says_so(sampler, n_classes):
    with pytest.raises(ValueError, match=f"Got n_classes={n_classes}.*at least 2"):
        draw(sampler, torch.zeros(3, dtype=torch.long), n_classes, generator())


@pytest.mark.parametrize("name", [name for name, s in NEGATIVES.items() if hasattr(s, "needs")])
def test_labels_are_drawn_from_the_softmax_over_the_wrong_ones(name):
    sampler = NEGATIVES[name]
    scores = torch.tensor([0.9, 0.1, 0.5, 0.0, 0.4])
    y = torch.full((60_000,), 2)
    drawn = draw(sampler, y, 5, generator(), scores.expand(len(y), 5))
    expected = softmax(sampler.sharpness * scores.numpy()[[0, 1, 3, 4]].astype(float))
    counts = torch.bincount(drawn, minlength=5).numpy()[[0, 1, 3, 4]]
    assert chisquare(counts, expected * len(y)).pvalue > 1e-3


def test_hard_negatives_with_sharpness_0_are_uniform():
    y = torch.zeros(30_000, dtype=torch.long)
    scores = torch.tensor([0.0, 9.0, 1.0, 2.0]).expand(len(y), 4)
    counts = torch.bincount(draw(Hard(sharpness=0.0), y, 4, generator(), scores))[1:]
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_each_batch_of_many_classes_sees_a_random_subset_of_candidates():
    # A label far better than all others is drawn exactly when it is among the candidates.
    scores = torch.zeros(4, 100)
    scores[:, 42] = 1e3
    rng, y = generator(), torch.tensor([0, 7, 50, 99])
    batches = torch.stack([draw(Hard(), y, 100, rng, scores) for _ in range(2000)])
    hits = batches == 42
    assert torch.equal(hits.any(1), hits.all(1))
    assert binomtest(int(hits.all(1).sum()), len(hits), 64 / 100).pvalue > 1e-3


def test_up_to_max_candidates_every_class_is_a_candidate():
    y = torch.zeros(1, dtype=torch.long)
    scores = torch.zeros(1, 64)
    scores[:, 63] = 1e3
    assert all(draw(Hard(), y, 64, generator(seed), scores) == 63 for seed in range(50))


@pytest.mark.parametrize("max_candidates", [-1, 0, 1])
def test_a_subset_that_may_hold_no_wrong_label_is_refused(max_candidates):
    with pytest.raises(ValueError, match=f"Got max_candidates={max_candidates}.*at least 2"):
        Hard(max_candidates=max_candidates)


def test_classifier_calls_a_sampler_with_encoded_labels_and_its_generator():
    X, y = gaussian_classes(n_samples=40, n_classes=4)
    calls = []

    def sampler(y, n_classes, generator):
        calls.append((y.tolist(), n_classes, generator))
        return uniform(y, n_classes, generator)

    names = np.array(["d", "c", "b", "a"])  # encoded in sorted order
    tiny_classifier(negatives=sampler, batch_size=40, max_iter=1).fit(X, names[y])
    labels, n_classes, rng = calls[-1]
    assert sorted(labels) == sorted((3 - y).tolist())
    assert n_classes == 4
    assert isinstance(rng, torch.Generator)
