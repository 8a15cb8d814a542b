"""D_dom, D_grp and D_cls: all discriminators of all levels in one module of batched weights."""

import math

import torch
from torch import Tensor, nn


class Discriminators(nn.Module):
    """K independent networks d - h - h - 1 with ReLU, in batched weights.

    There is no normalisation inside: it would couple the samples of a batch, and the gradient at
    one feature would no longer be that sample's own.

    Attributes:
        W1: (K, h, d). W2: (K, h, h). w3: (K, h). b1, b2: (K, h). b3: (K,).
    """

    def __init__(self, n_discriminators: int, features: int, hidden: int) -> None:
        super().__init__()
        K, d, h = n_discriminators, features, hidden
        self.W1 = _uniform((K, h, d), d)
        self.b1 = _uniform((K, h), d)
        self.W2 = _uniform((K, h, h), h)
        self.b2 = _uniform((K, h), h)
        self.w3 = _uniform((K, h), h)
        self.b3 = _uniform((K,), h)

    def forward(self, f: Tensor, magnitude: bool = True) -> tuple[Tensor, Tensor]:
        """Logits, and how steeply each of them rises with the features.

        A ReLU network is linear wherever its masks m1, m2 are fixed, so its Jacobian at f is
        J = W1' (m1 * W2' (m2 * w3)): an ordinary forward expression, which one backward pass
        differentiates. No second graph is built; cf. the remark below Eq. 11.

        Args:
            f: (N, d) features.
            magnitude: False skips the Jacobians and returns zeros in their place.

        Returns:
            z: (N, K) logits, and ||J||_2: (N, K), the norm of dz_ik / df_i.
        """
        K, h, d = self.W1.shape
        a1 = torch.addmm(self.b1.flatten(), f, self.W1.view(K * h, d).t())  # (N, K h)
        a1 = a1.view(len(f), K, h).transpose(0, 1)  # (K, N, h)
        a2 = torch.baddbmm(self.b2[:, None], a1.relu(), self.W2.transpose(1, 2))  # (K, N, h)
        z = torch.baddbmm(self.b3[:, None, None], a2.relu(), self.w3[:, :, None])  # (K, N, 1)
        z = z.squeeze(2).t()
        if not magnitude:
            return z, torch.zeros_like(z)
        u2 = (a2 > 0) * self.w3[:, None]  # (K, N, h)
        u1 = (a1 > 0) * torch.bmm(u2, self.W2)  # (K, N, h)
        J = torch.bmm(u1, self.W1)  # (K, N, d)
        # vector_norm has subgradient 0 at 0, where sqrt(sum of squares) would give NaN.
        return z, torch.linalg.vector_norm(J, dim=2).t()


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    """The initialisation of torch.nn.Linear."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
