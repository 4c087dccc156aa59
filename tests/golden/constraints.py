"""Makes constraints.npz beside it with PyTorch; see README.md. Values per picture, and the student's gradient of their
mean, in float64."""

from pathlib import Path

import numpy as np
import torch
from seeded import draw
from torch.nn import functional as F


def cosine(s, t):
    return 1 - F.cosine_similarity(s, t, dim=1)


def softened(form, T):
    def distance(s, t):
        if form == "kl":
            return T**2 * F.kl_div((s / T).log_softmax(1), (t / T).softmax(1), reduction="none").sum(1)
        return ((s / T).softmax(1) - (t / T).softmax(1)).norm(dim=1) ** 2

    return distance


def unit(x):
    return F.normalize(x.flatten(1), dim=1)


def attention(x):
    return F.normalize(x.pow(2).sum(1).flatten(1), dim=1)


def channel_attention(x):
    return F.normalize(x.pow(2).mean((2, 3)), dim=1)


def pair_distances(x):
    distances = F.pdist(x)
    matrix = x.new_zeros(len(x), len(x))
    matrix[tuple(torch.triu_indices(len(x), len(x), 1))] = distances / distances.mean()
    return matrix + matrix.T


def angles(x):
    sides = F.normalize(x[None] - x[:, None], dim=2)
    return torch.bmm(sides, sides.transpose(1, 2))


def smallest_singular_values(s, k):
    return (torch.linalg.svdvals(s)[-k:] ** 2).sum().expand(len(s))


WEIGHTS = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
MAPS = {
    "encoder/map": lambda s, t: cosine(s.flatten(1), t.flatten(1)),
    "encoder/location": lambda s, t: cosine(s, t).mean((1, 2)),
    "encoder/pooled": lambda s, t: cosine(s.mean((2, 3)), t.mean((2, 3))),
    "spatial_attention": lambda s, t: (attention(s) - attention(t)).pow(2).sum(1),
    "channel_attention": lambda s, t: (channel_attention(s) - channel_attention(t)).pow(2).sum(1),
    "attention_transfer": lambda s, t: (attention(s) - attention(t)).norm(dim=1),
    "hint": lambda s, t: 0.5 * F.mse_loss(s, t, reduction="none").mean((1, 2, 3)),
    "hint/normalized": lambda s, t: F.mse_loss(unit(s), unit(t), reduction="none").sum(1) / 2,
    "heatmaps": lambda s, t: F.mse_loss(s, t, reduction="none").mean((2, 3)).mean(1),
    "delta": lambda s, t: 0.5 * 5 * (WEIGHTS * (s - t).flatten(2).norm(dim=2) ** 2).sum(1) / (3 * 4),
}
VECTORS = {
    "l2/1": softened("l2", 1.0),
    "l2/4": softened("l2", 4.0),
    "kl/1": softened("kl", 1.0),
    "kl/4": softened("kl", 4.0),
    "relational_distance": lambda s, t: F.smooth_l1_loss(pair_distances(s), pair_distances(t), reduction="none").mean(
        1
    ),
    "relational_angle": lambda s, t: F.smooth_l1_loss(angles(s), angles(t), reduction="none").mean((1, 2)),
    "shrinkage/1": lambda s, t: smallest_singular_values(s, 1),
    "shrinkage/3": lambda s, t: smallest_singular_values(s, 3),
}


def features(name, *shape):
    """Drawn in our layout, with a standard deviation of 1."""
    x = torch.tensor(5 * draw(f"constraints/{name}", shape), dtype=torch.float64)
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


if __name__ == "__main__":
    golden = {}
    for terms, shape in ((MAPS, (6, 3, 4, 5)), (VECTORS, (6, 5))):
        for name, term in terms.items():
            s, t = features("student", *shape).requires_grad_(), features("teacher", *shape)
            value = term(s, t)
            value.mean().backward()
            gradient = s.grad.permute(0, 2, 3, 1) if s.ndim == 4 else s.grad
            golden |= {f"{name}/value": value.detach().numpy(), f"{name}/gradient": gradient.numpy()}
    golden = {key: value.astype(np.float32) for key, value in golden.items()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
