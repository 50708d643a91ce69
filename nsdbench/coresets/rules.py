"""Which images of a class a coreset takes: rules on features and counts, one class at a time.

All of them return row numbers within the class in the order of selection, so that the coreset of a
smaller ipc is the beginning of a larger one. Where two images are equally good, rules on features
take the one that comes first; counts are often equal, and there a random one is taken.
"""

import torch


def select_herding(features: torch.Tensor, ipc: int) -> torch.Tensor:
    """Keep the mean of the chosen features near the mean of all (Welling, ICML 2009).

    Step k takes the image i, not yet chosen, with the smallest |(k + 1) mu - S - f_i|, where mu is
    the mean of all features and S the sum of those chosen so far.

    Args:
        features: [n, F] of the images of one class, as they are: not normalised.
        ipc: images to choose.

    Returns:
        [ipc] int64 row numbers.

    Raises:
        ValueError: ipc is not in 1...n, or the features are not finite vectors.
    """
    features = _checked(features, ipc)
    mean = features.mean(dim=0)
    missing = mean.clone()  # (k + 1) mu - S
    is_chosen = torch.zeros(len(features), dtype=torch.bool)
    rows = []
    for _ in range(ipc):
        distances = (features - missing).norm(dim=1).masked_fill(is_chosen, torch.inf)
        row = _first(distances == distances.min())
        rows.append(row)
        is_chosen[row] = True
        missing += mean - features[row]
    return torch.tensor(rows)


def select_k_center(features: torch.Tensor, ipc: int) -> torch.Tensor:
    """Cover the class: take what is farthest from all that is taken (Sener and Savarese, 2018).

    The first centre is the image nearest to the mean of all features (DC's author, issue 21 of
    DatasetCondensation), every further one the image whose nearest centre is farthest away.

    Args, Returns, Raises: as `select_herding`.
    """
    features = _checked(features, ipc)
    to_mean = (features - features.mean(dim=0)).norm(dim=1)
    rows = [_first(to_mean == to_mean.min())]
    nearest = torch.full((len(features),), torch.inf, dtype=features.dtype)
    for _ in range(1, ipc):
        nearest = nearest.minimum((features - features[rows[-1]]).norm(dim=1))
        nearest[rows] = -1.0  # chosen, even where duplicates leave only distances of 0
        rows.append(_first(nearest == nearest.max()))
    return torch.tensor(rows)


def forgetting_scores(is_correct: torch.Tensor) -> torch.Tensor:
    """Count how often training forgot each image (Toneva et al., ICLR 2019).

    An image is forgotten when it was classified correctly at its previous presentation and is not
    at this one. An image that a run never classified correctly scores the number of the run's
    epochs, more than any count. Scores of several runs are added (order_examples_by_forgetting.py
    of example_forgetting).

    Args:
        is_correct: [runs, epochs, N] bool, before the update that each presentation leads to.

    Returns:
        [N] int64.
    """
    events = (is_correct[:, :-1] & ~is_correct[:, 1:]).sum(dim=1)
    return torch.where(is_correct.any(dim=1), events, is_correct.shape[1]).sum(dim=0)


def select_highest(scores: torch.Tensor, ipc: int, generator: torch.Generator) -> torch.Tensor:
    """Take the images of one class with the highest scores, equals in random order.

    Args:
        scores: [n] of the images of one class.
        ipc: images to choose.
        generator: advanced alike for every ipc.

    Returns:
        [ipc] int64 row numbers.

    Raises:
        ValueError: ipc is not in 1...n.
    """
    check_size(len(scores), ipc)
    shuffled = torch.randperm(len(scores), generator=generator)
    return shuffled[scores[shuffled].argsort(descending=True, stable=True)][:ipc]


def _checked(features: torch.Tensor, ipc: int) -> torch.Tensor:
    """Return features as float64 on the CPU, so that distances do not depend on the device."""
    if features.dim() != 2 or not torch.isfinite(features).all():
        raise ValueError(
            f"features are {list(features.shape)}; expected finite vectors [n, F]: check that the "
            "network that computes them has not diverged"
        )
    check_size(len(features), ipc)
    return features.detach().cpu().double()


def check_size(num_images: int, ipc: int) -> None:
    """Raise ValueError unless a class of that many images has `ipc` to choose."""
    if not 1 <= ipc <= num_images:
        raise ValueError(
            f"ipc is {ipc}; a class of {num_images} images allows 1...{num_images}: lower ipc or "
            "use a larger data set"
        )


def _first(is_best: torch.Tensor) -> int:
    return int(torch.nonzero(is_best)[0])
