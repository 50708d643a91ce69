"""How coresets choose images: selections by name, and the rules on features and counts.

Rules see one class. They return row numbers within the class in the order of selection, so that the
coreset of a smaller ipc is the beginning of a larger one. Where two images are equally good, rules
on features take the one that comes first; counts are often equal, and there a random one is taken.
Selections apply a rule to every class, see `registry.CoresetFamily`.
"""

from collections.abc import Callable

import torch

from nsdbench import models
from nsdbench.coresets.registry import CoresetSettings, SelectionTask
from nsdbench.data.training import TrainingData

_EMBEDDED_AT_ONCE = 512


def random(task: SelectionTask, settings: CoresetSettings) -> torch.Tensor:
    """Draw images uniformly without replacement."""
    real = task.real
    return torch.cat([real.class_rows(c, task.ipc, task.stream) for c in range(real.num_classes)])


def herding(task: SelectionTask, settings: CoresetSettings) -> torch.Tensor:
    """Apply `select_herding` to what the trained network's classifier sees of every image."""
    return _by_features(task, select_herding)


def k_center(task: SelectionTask, settings: CoresetSettings) -> torch.Tensor:
    """Apply `select_k_center` to what the trained network's classifier sees of every image."""
    return _by_features(task, select_k_center)


def forgetting(task: SelectionTask, settings: CoresetSettings) -> torch.Tensor:
    """Take what the networks of the recipe forgot most often while they were trained."""
    scores = forgetting_scores(task.experts().correctness())
    return _by_class(task, lambda rows: select_highest(scores[rows], task.ipc, task.stream))


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


def _by_class(task: SelectionTask, rule: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Join what a rule takes of the rows of every class."""
    classes = [task.real.rows_of_class(label) for label in range(task.real.num_classes)]
    return torch.cat([rows[rule(rows)] for rows in classes])


def _by_features(
    task: SelectionTask, rule: Callable[[torch.Tensor, int], torch.Tensor]
) -> torch.Tensor:
    """Apply a rule to the features of the network of the recipe, trained on all real images."""
    if task.arch is None:
        raise ValueError(
            "this coreset needs a network to embed images; set `network` in the recipe"
        )
    buffer = task.experts()
    model = models.for_dataset(task.arch, task.real)
    models.load_flat(model, buffer.snapshot(0, buffer.num_epochs))
    model = model.to(task.real.device).eval()
    return _by_class(task, lambda rows: rule(_features(model, task.real, rows), task.ipc))


@torch.no_grad()
def _features(model: models.AnyNetwork, real: TrainingData, rows: torch.Tensor) -> torch.Tensor:
    """Embed images of the training split, without augmentation: [n, F]."""
    return torch.cat(
        [model.embed(real.batch(part)[0]).cpu() for part in rows.split(_EMBEDDED_AT_ONCE)]
    )
