"""How far apart two domains lie in a model's features."""

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]
FOLDS = 5
MOST = 2000  # images of each domain: the classifier learns little from more


def a_distance(f_s: Features, f_t: Features, seed: int = 0) -> float | None:
    """The proxy A-distance: 2 (1 - 2 err), err that of a linear classifier of the domains.

    Ben-David, Blitzer, Crammer and Pereira, "Analysis of Representations for Domain Adaptation",
    NIPS 2006. The error is that of logistic regression on standardised features, the mean of both
    domains' error rates, on images that it was not fitted to (5 folds).

    Args:
        f_s: (N_s, d). f_t: (N_t, d).

    Returns:
        0 (the classifier guesses) to 2 (it is never wrong); None with under 5 images of either.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    if min(len(f_s), len(f_t)) < FOLDS:
        return None
    f_s, f_t = f_s[some(len(f_s), MOST)], f_t[some(len(f_t), MOST)]
    x = np.concatenate([f_s, f_t]).astype(np.float64)
    d = np.repeat([1, 0], [len(f_s), len(f_t)])
    wrong = np.zeros(len(d), dtype=bool)
    for fitted, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, d):
        mean, spread = x[fitted].mean(axis=0), x[fitted].std(axis=0)
        z = (x - mean) / np.where(spread > 1e-9, spread, 1.0)
        classifier = LogisticRegression(class_weight="balanced", max_iter=2000)
        classifier.fit(z[fitted], d[fitted])
        wrong[held] = classifier.predict(z[held]) != d[held]
    error = (wrong[d == 1].mean() + wrong[d == 0].mean()) / 2
    return float(np.clip(2 * (1 - 2 * error), 0.0, 2.0))


def some(n: int, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` of n, spread evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def principal_components(f: Features, n: int = 2) -> tuple[Features, list[float]]:
    """Coordinates (N, n) along the directions of largest variance, and their shares of it."""
    centred = f.astype(np.float64) - f.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    total = max(float((s**2).sum()), 1e-30)
    return u[:, :n] * s[:n], [float(v) for v in s[:n] ** 2 / total]


def neighbours_map(f: Features, seed: int = 0) -> Features:
    """t-SNE coordinates (N, 2): van der Maaten and Hinton, JMLR 2008.

    Who lies beside whom is kept; distances between heaps, and their sizes, mean nothing.
    """
    from sklearn.manifold import TSNE

    reduced, _ = principal_components(f, min(50, *f.shape))
    # A common size: else the step of the descent would depend on how large the features are.
    reduced = reduced / max(float(reduced[:, 0].std()), 1e-12)
    perplexity = float(min(30.0, max(2.0, (len(f) - 1) / 4)))
    made = TSNE(2, perplexity=perplexity, init="random", random_state=seed).fit_transform(reduced)
    return np.asarray(made)
