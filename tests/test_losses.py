import math

import pytest
import torch

from wsi_maxmin.losses import (
    explicit_negative_entropy,
    extended_log_barrier,
    presence_penalty,
    size_barrier,
    surrogate_entropy,
    weighted_sum,
)


def slope(function, value):
    value = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    function(value).backward()
    return float(value.grad)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_equal_logits_give_the_closed_forms_of_both_entropies(classes):
    logits = torch.full((4, classes), 7.0)
    assert float(surrogate_entropy(logits)) == pytest.approx(math.log2(classes))
    assert float(explicit_negative_entropy(logits)) == pytest.approx(-math.log2(classes))


def test_entropies_of_a_quarter_and_three_quarters_match_pencil_and_paper():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 5.0 + math.log(3)]])
    assert float(surrogate_entropy(logits)) == pytest.approx((2 + math.log2(4 / 3)) / 2)
    assert float(explicit_negative_entropy(logits)) == pytest.approx(0.25 * -2 + 0.75 * math.log2(0.75))


@pytest.mark.parametrize("uncertainty", [surrogate_entropy, explicit_negative_entropy])
def test_equal_logits_are_a_minimum(uncertainty):
    logits = torch.zeros(1, 3, requires_grad=True)
    uncertainty(logits).backward()
    assert logits.grad.abs().max() < 1e-7
    assert all(uncertainty(torch.eye(3)[:1] * away) > uncertainty(torch.zeros(1, 3)) for away in (-2, 0.1, 50))


@pytest.mark.parametrize("uncertainty", [surrogate_entropy, explicit_negative_entropy])
@pytest.mark.parametrize("logits", [[[1e4, -1e4]], [[-1e4, 1e4]], [[1e4, 1e4]], [[-1e4, -1e4]]])
def test_saturated_logits_give_finite_values_and_gradients(uncertainty, logits):
    logits = torch.tensor(logits, requires_grad=True)
    value = uncertainty(logits)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_only_sem_pulls_a_saturated_posterior_back():
    gradients = {}
    for uncertainty in (surrogate_entropy, explicit_negative_entropy):
        logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
        uncertainty(logits).backward()
        gradients[uncertainty] = float(logits.grad[0, 0])
    assert gradients[surrogate_entropy] == pytest.approx(0.5 / math.log(2))
    assert gradients[explicit_negative_entropy] == 0


@pytest.mark.parametrize("t", [1.0, 5.0, 10.0, 30.0])
@pytest.mark.parametrize("z", [-1000.0, -1.0, -0.05, -0.0005, 0.0, 0.3, 50.0])
def test_barrier_matches_its_formula(z, t):
    inside = -math.log(-z) / t if z < 0 else None
    beyond = t * z - math.log(1 / t**2) / t + 1 / t
    expected = inside if z <= -1 / t**2 else beyond
    assert float(extended_log_barrier(torch.tensor(z, dtype=torch.float64), t)) == pytest.approx(expected)


@pytest.mark.parametrize("t", [1.0, 5.0, 30.0])
def test_barrier_is_continuous_in_value_and_slope_where_its_branches_meet(t):
    def barrier(z):
        return extended_log_barrier(z, t)

    edge, step = -1 / t**2, 1e-9 / t**2
    left, right = (torch.tensor(edge + sign * step, dtype=torch.float64) for sign in (-1, 1))
    assert float(barrier(left)) == pytest.approx(float(barrier(right)), abs=1e-7)
    assert slope(barrier, float(left)) == pytest.approx(t)
    assert slope(barrier, float(right)) == pytest.approx(t)


@pytest.mark.parametrize("z", [-1e6, -1e-30, 0.0, 1e6])
def test_barrier_has_a_finite_positive_slope_everywhere(z):
    assert 0 < slope(lambda value: extended_log_barrier(value, 5.0), z) <= 5


def test_size_barrier_matches_pencil_and_paper():
    mask = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).view(1, 1, 2, 2).repeat(2, 1, 1, 1)
    mask[1] = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    # Sizes 2 and 2, then 3 and 1; t = 5.
    assert float(size_barrier(mask, 5)) == pytest.approx((-2 * math.log(2) - math.log(3)) / 5 / 2)
    shares = -(2 * math.log(0.5) + math.log(0.75) + math.log(0.25)) / 5 / 2
    assert float(size_barrier(mask, 5, normalise=True)) == pytest.approx(shares)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_size_barrier_pushes_a_mask_away_from_empty_and_from_full(value):
    mask = torch.full((1, 1, 4, 4), value, requires_grad=True)
    size_barrier(mask, 5).backward()
    away = -mask.grad * (1 if value == 0 else -1)
    torch.testing.assert_close(away, torch.full_like(away, 5 - (1 / 5) / 16))


@pytest.mark.parametrize(
    ("sizes", "label", "expected"),
    [
        # Four pixels: the label's size must lie in [1, 4], any other must be 0.
        ([4.0, 0.0], 0, 0),
        ([1.0, 0.0], 0, 0),
        ([0.25, 0.0], 0, 0.75**2 / 4),
        ([3.0, 1.0], 0, 1 / 4),
        ([3.0, 1.0], 1, 9 / 4),
        ([0.0, 4.0], 0, (1 + 16) / 4),
        ([1.0, 2.0, 1.0], 2, (1 + 4) / 4),
    ],
)
def test_presence_penalty_matches_pencil_and_paper(sizes, label, expected):
    posterior = (torch.tensor(sizes) / 4).view(1, -1, 1, 1).expand(1, -1, 2, 2)
    assert float(presence_penalty(posterior, torch.tensor([label]))) == pytest.approx(expected)


def test_presence_penalty_is_the_mean_over_the_batch():
    posterior = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).view(2, 2, 1, 1).expand(2, 2, 2, 2)
    assert float(presence_penalty(posterior, torch.tensor([0, 0]))) == pytest.approx((0 + 2**2 / 4) / 2)


@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_presence_penalty_has_finite_gradients_that_favour_the_label_where_they_are_not_zero(logit):
    logits = torch.stack([torch.full((1, 3, 3), logit), torch.zeros(1, 3, 3)], dim=1).requires_grad_()
    presence_penalty(torch.softmax(logits, dim=1), torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 0] <= 0).all()
    assert bool(logits.grad.any()) == (logit == 0)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_size_barrier_of_a_saturated_mask_has_a_finite_value_and_gradient(logit, normalise):
    logits = torch.full((2, 1, 4, 4), logit, requires_grad=True)
    value = size_barrier(torch.sigmoid(logits), 5, normalise=normalise)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_weighted_sum_adds_weight_times_term_and_logs_the_bare_terms():
    first, second = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    loss = weighted_sum({"first": first, "second": second}, {"second": 0.1})
    loss.total.backward()
    assert loss.total.item() == pytest.approx(2.3)
    assert (float(first.grad), float(second.grad)) == (1, pytest.approx(0.1))
    assert loss.terms == {"first": 2.0, "second": 3.0}
    assert not any(term.requires_grad for term in loss.terms.values())


def test_a_weight_that_names_no_term_is_an_error():
    with pytest.raises(KeyError, match="backgruond"):
        weighted_sum({"background": torch.tensor(1.0)}, {"backgruond": 0.1})
