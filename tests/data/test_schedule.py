"""In which order the pictures of several domains come."""

import itertools

import jax
import numpy as np
import pytest
import tiny

from configs import domains as domains_config
from ctd_jax import data
from ctd_jax.data import schedule


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "temperature", "want"),
    [
        ("proportional", 2.0, [0.9, 0.1]),
        ("balanced", 2.0, [0.5, 0.5]),
        ("temperature", 2.0, [0.75, 0.25]),
        ("temperature", 1.0, [0.9, 0.1]),
        ("temperature", 1e9, [0.5, 0.5]),
    ],
)
def test_the_schedule_of_the_domains(kind, temperature, want):
    """90 and 10 pictures: n^(1/2) is 9.49 and 3.16."""
    np.testing.assert_allclose(schedule.shares(np.array([90, 10]), kind=kind, temperature=temperature), want, rtol=1e-6)
    domain = np.repeat([0, 1], [90, 10])
    order = schedule.order_of_domains(domain, seed=0, kind=kind, temperature=temperature)
    seen = np.array([order[i] for i in range(400)])
    batches = domain[seen].reshape(-1, 20)
    assert np.abs((batches == 1).sum(1) - 20 * want[1]).max() <= 1
    for d, n in enumerate((90, 10)):
        of_domain = seen[domain[seen] == d]
        assert all(
            len(set(of_domain[i : i + n])) == n for i in range(0, len(of_domain) - n + 1, n)
        )  # all before any again
    again = schedule.order_of_domains(domain, seed=0, kind=kind, temperature=temperature)
    assert [again[i] for i in (399, 7)] == [seen[399], seen[7]]
    other = schedule.order_of_domains(domain, seed=1, kind=kind, temperature=temperature)
    assert [other[i] for i in range(400)] != seen.tolist()


def test_batches_of_training_follow_the_schedule_and_resume():
    part = data.load(tiny.config("none", domains_config, data__synthetic__shots=(3, 2, 2)).data, None).split("train")
    keys = {"batch_size": 6, "seed": 0, "schedule": "balanced"}
    batches = list(itertools.islice(part.training_batches(start=0, **keys), 4))
    assert all(np.bincount(batch["domain"]).tolist() == [3, 3] for batch in batches)
    later = next(part.training_batches(start=3, **keys))
    jax.tree.map(np.testing.assert_array_equal, later, batches[3])
    one_after_the_other = [batch["mask"][:, :30].any(1) for batch in batches]
    assert all(
        (known == (batch["domain"] == 0)).all() for known, batch in zip(one_after_the_other, batches, strict=True)
    )
