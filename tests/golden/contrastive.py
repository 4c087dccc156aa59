"""Makes contrastive.npz beside it with PyTorch; see README.md. The supervised contrastive loss as cross-entropies: each
anchor picks each of its positives out of all other pictures. Values per picture, and the gradient of their mean."""

from pathlib import Path

import numpy as np
import torch
from seeded import draw
from torch.nn import functional as F

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])  # nobody shares the label of picture 3


def contrastive(features, temperature):
    z = F.normalize(features, dim=1)
    out = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        logits = (z[others] @ z[i] / temperature).expand(len(others), -1)
        each = F.cross_entropy(logits, torch.arange(len(others)), reduction="none")
        positive = LABELS[others] == LABELS[i]
        out.append(each[positive].mean() if positive.any() else 0 * each.sum())
    return torch.stack(out)


if __name__ == "__main__":
    golden = {}
    for temperature in (0.07, 1.0):
        features = torch.tensor(5 * draw("constraints/student", (6, 5)), dtype=torch.float64, requires_grad=True)
        value = contrastive(features, temperature)
        value.mean().backward()
        golden |= {f"{temperature}/value": value.detach().numpy(), f"{temperature}/gradient": features.grad.numpy()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)
