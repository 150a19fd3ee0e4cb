"""The online learner: right gradients, the network that serves, bit-equal resumption."""

from __future__ import annotations

import numpy as np
import pytest

from stream.core.learning import CLIP, Learning, OnlineLearner

NAMES = tuple(f"feature_{number}" for number in range(6))


def lists(count: int, seed: int = 0, candidates: int = 12) -> list[tuple[np.ndarray, int]]:
    """Lists whose right candidate is the one with the largest |first feature| + second feature."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        rows = random.standard_normal((candidates, len(NAMES))).astype(np.float32)
        made.append((rows, int(np.argmax(np.abs(rows[:, 0]) + rows[:, 1]))))
    return made


def hit_rate(learner: OnlineLearner, score: str = "score") -> float:
    asked = lists(400, seed=9)
    return float(np.mean([np.argmax(getattr(learner, score)(rows)) == target for rows, target in asked]))


def test_gradients_are_those_of_the_cross_entropy() -> None:
    learner = OnlineLearner(NAMES, seed=1, learning=Learning(hidden=4, standardising=0, group=1))
    for rows, target in lists(50):
        learner.learn(rows, target)
    (rows, target) = lists(1, seed=3)[0]
    weights = learner._memory[0].astype(np.float64)
    parts = np.split(weights, np.cumsum(learner._sizes)[:-1])

    def loss() -> float:
        hidden = parts[0].reshape(len(NAMES), 4)
        scaled = rows.astype(np.float64)
        network = np.maximum(scaled @ hidden + parts[1], 0) @ parts[2] + scaled @ parts[3]
        alone = scaled @ parts[4]
        return sum(float(np.log(np.exp(s - s.max()).sum()) + s.max() - s[target]) for s in (network, alone))

    learner._add_gradients(rows, target)
    numeric = np.zeros_like(weights)
    for place in range(len(weights)):
        kept = weights[place]
        weights[place] = kept + 1e-6
        above = loss()
        weights[place] = kept - 1e-6
        numeric[place] = (above - loss()) / 2e-6
        weights[place] = kept
    assert np.abs(learner._memory[2] - numeric).max() < 1e-4


def test_the_network_learns_what_a_line_cannot() -> None:
    learner = OnlineLearner(NAMES, learning=Learning(rate=0.01, standardising=50, averaged=50))
    before = hit_rate(learner)
    for rows, target in lists(3_000):
        learner.learn(rows, target)
    assert before < 0.3
    assert hit_rate(learner, "score_linear") < 0.6
    assert hit_rate(learner) > 0.8


def test_features_are_standardised_by_the_first_lists_and_never_again() -> None:
    learner = OnlineLearner(NAMES, learning=Learning(standardising=20))
    first = lists(20)
    for rows, target in first:
        learner.learn(rows * 5 + 3, target)
    rows = np.concatenate([rows * 5 + 3 for rows, _ in first])
    found = learner.network()
    assert found.centre == pytest.approx(rows.mean(axis=0), rel=1e-4, abs=1e-4)
    assert found.spread == pytest.approx(rows.std(axis=0), rel=1e-4)
    for rows, target in lists(100, seed=5):
        learner.learn(rows - 50, target)
    assert np.array_equal(learner.network().centre, found.centre)


def test_a_feature_that_never_varies_is_spread_by_one() -> None:
    learner = OnlineLearner(NAMES, learning=Learning(standardising=5))
    for rows, target in lists(5):
        rows[:, 2] = 7.0
        learner.learn(rows, target)
    assert learner.network().spread[2] == 1.0


@pytest.mark.parametrize("cut", [1, 7, 20, 23, 101])
def test_a_learner_that_resumes_ends_with_the_same_bits(cut: int) -> None:
    learning = Learning(standardising=20, averaged=10)
    whole = OnlineLearner(NAMES, seed=2, learning=learning)
    first = OnlineLearner(NAMES, seed=2, learning=learning)
    stream = lists(130)
    for rows, target in stream:
        whole.learn(rows, target)
    for rows, target in stream[:cut]:
        first.learn(rows, target)
    resumed = OnlineLearner.from_state(first.state())
    for rows, target in stream[cut:]:
        resumed.learn(rows, target)
    assert resumed.features == NAMES
    assert resumed.learning == learning
    ends = zip(whole.state().items(), resumed.state().items(), strict=True)
    assert all(one == other and np.array_equal(a, b) for (one, a), (other, b) in ends)


def test_what_serves_is_the_average_of_the_last_steps() -> None:
    learner = OnlineLearner(NAMES, learning=Learning(standardising=0, group=1, averaged=2))
    seen = []
    for rows, target in lists(2):
        learner.learn(rows, target)
        seen.append(learner._weights.linear.copy())
    assert learner.network().linear == pytest.approx((seen[0] + seen[1]) / 2)


def test_odd_inputs_give_finite_scores_and_weights() -> None:
    learner = OnlineLearner(NAMES, learning=Learning(standardising=5, group=1))
    for rows, target in lists(5):
        learner.learn(rows, target)
    for rows, target in lists(20, seed=1):
        rows[3] = 1e30
        learner.learn(rows, target)
    rows = np.full((3, len(NAMES)), -1e30)
    scores = learner.score(rows)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, learner.score(np.full((3, len(NAMES)), -CLIP * 1e6)))


def test_half_precision_rows_are_learnt_from_like_their_single_precision_values() -> None:
    one, other = (OnlineLearner(NAMES, learning=Learning(standardising=10)) for _ in range(2))
    for rows, target in lists(60):
        half = rows.astype(np.float16)
        one.learn(half, target)
        other.learn(half.astype(np.float32), target)
    assert np.array_equal(one.network().linear, other.network().linear)
