"""D_dom, D_grp and D_cls: all discriminators of all levels in one module of batched weights."""

import math

import torch
from torch import Tensor, nn

from gsda.forms import Dense, Spare, Sparse
from gsda.kernels import Layers, Wanted
from gsda.pairs import Pairs


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
        self._spare: Spare = {}

    def forward(
        self, f: Tensor, pairs: Pairs | None = None, magnitude: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits, and how steeply each of them rises with the features.

        A ReLU network is linear wherever its masks are fixed, so its Jacobian at f is an ordinary
        forward expression, which one backward pass differentiates. No second graph is built; cf.
        the remark below Eq. 11. The backward pass is written by hand in `gsda.kernels`.

        Args:
            f: (N, d) features.
            pairs: the pairs to compute; None computes all N K. Elsewhere the results are 0.
            magnitude: False skips the Jacobians and returns zeros in their place.

        Returns:
            z: (N, K) logits, and ||J||_2: (N, K), the norm of dz_ik / df_i. They can be
            differentiated once.
        """
        layers = Layers(self.W1, self.b1, self.W2, self.b2, self.w3, self.b3)
        grad = torch.is_grad_enabled()
        of_layers = grad and any(parameter.requires_grad for parameter in layers)
        wanted = Wanted(magnitude, grad and f.requires_grad, of_layers)
        z: Tensor
        J_norm: Tensor
        if pairs is None:
            z, J_norm = Dense.apply(wanted, self._spare, f, *layers)
        else:
            z, J_norm = Sparse.apply(pairs, wanted, self._spare, f, *layers)
        return z, J_norm

    def recycle_gradients(self) -> None:
        """Drop all gradients, and let the next backward pass write its own over them.

        The system takes longer to hand out fresh memory for 50 M gradients, page by page, than
        the arithmetic that fills it.
        """
        for place, parameter in enumerate(self.parameters()):
            if parameter.grad is not None:
                self._spare[place] = parameter.grad
                parameter.grad = None


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    """The initialisation of torch.nn.Linear."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
