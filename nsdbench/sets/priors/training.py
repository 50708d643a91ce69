"""Make the priors of this package: at random, or trained on the training split alone.

A trained one is the decoder of a conditional variational autoencoder (our choice: stable, quick and
without an adversary). With images x in [-1, 1] of D numbers, their classes y, and the mean and
deviation (m, s) of z that an encoder gives:

    L = mean (x - G(m + s e, y))^2 + kl_weight KL(N(m, s^2) || N(0, 1)) / D,    e ~ N(0, 1)

Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014, with a Gaussian likelihood whose
variance is kl_weight / 2. The encoder is one of the suite's ConvNets, and dropped afterwards.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from nsdbench import models
from nsdbench.data.fetching.cache import find_cache_dir, keep_tensors, make_folder, read_tensors
from nsdbench.errors import Diverged
from nsdbench.files import readable
from nsdbench.seeding import generator
from nsdbench.sets.priors.base import PriorContext
from nsdbench.sets.priors.families import StyleSettings, SuiteTrainedSettings, encoder_arch
from nsdbench.sets.priors.style import StyleGenerator
from nsdbench.sums import json_sum

PRIOR_SEED = 0  # a prior is shared by all runs on a data set, as experts are
_SCHEMA = 1  # of the files: another number, other priors


def random(context: PriorContext, settings: StyleSettings) -> StyleGenerator:
    """Return the generator as it is initialised."""
    data = context.data
    prior = StyleGenerator(settings, data.image_shape, data.num_classes)
    prior.initialize(generator(PRIOR_SEED, "prior", "initialize"))
    prior.facts = {"name": "random"}
    return prior


def suite_trained(context: PriorContext, settings: SuiteTrainedSettings) -> StyleGenerator:
    """Train the generator, or load it if it was trained before.

    The file is found by training data and settings, and holds the seconds of its training. A
    training that is killed starts anew (our choice: it takes seconds to minutes).

    Raises:
        Diverged: a loss became NaN or infinite.
    """
    data = context.data
    identity = {
        "schema": _SCHEMA,
        "dataset_checksum": data.checksum,
        "image_shape": list(data.image_shape),
        "settings": settings.model_dump(),
        "seed": PRIOR_SEED,
    }
    name = f"{readable(data.name)}-{json_sum(identity)[:16]}"
    cache = find_cache_dir()
    file = cache / "priors" / f"{name}.safetensors" if cache else None
    prior = random(context, settings)
    expected = {key: tuple(value.shape) for key, value in prior.state_dict().items()}
    expected |= {"seconds": (), "losses": (settings.epochs,)}
    with _locked(file):
        tensors = read_tensors(file, "a prior", lambda shapes: shapes == expected)
        if tensors is None:
            tensors = _train(prior, context, settings)
            keep_tensors(file, tensors)
    seconds, losses = tensors.pop("seconds"), tensors.pop("losses")
    prior.load_state_dict(tensors)
    prior.seconds = float(seconds)
    prior.facts = {"name": name, "loss_first": float(losses[0]), "loss_last": float(losses[-1])}
    return prior


@contextlib.contextmanager
def _locked(file: Path | None) -> Iterator[None]:
    """Hold a file's lock: the second of two processes waits for the prior of the first."""
    if file is None:
        yield
        return
    make_folder(file.parent)
    with FileLock(file.with_suffix(".lock")):
        yield


def _train(
    prior: StyleGenerator, context: PriorContext, settings: SuiteTrainedSettings
) -> dict[str, Tensor]:
    """Train a generator in place; return its tensors, with the seconds and the losses."""
    started = time.perf_counter()
    data = context.data
    encoder = models.from_id(
        encoder_arch(settings, data.image_shape),
        in_channels=data.image_shape[0],
        image_size=data.image_shape[1],
        num_classes=2 * settings.z_dim,
    )
    models.initialize(encoder, generator(PRIOR_SEED, "prior", "encoder"))
    networks = torch.nn.ModuleList([prior, encoder]).to(context.device).train()
    adam = torch.optim.Adam(networks.parameters(), lr=settings.lr)
    context.progress("prior", 0, settings.epochs)
    losses = []
    for epoch in range(settings.epochs):
        stream = generator(PRIOR_SEED, "prior", "epoch", epoch)
        order = torch.randperm(len(data.train), generator=stream)
        total = 0.0
        for rows in order.split(settings.batch_size):
            noise = torch.randn(len(rows), settings.z_dim, generator=stream)
            x = (data.train.images[rows].to(context.device).float() / 127.5) - 1
            y = data.train.labels[rows].to(context.device)
            loss = loss_of(prior, encoder, x, y, noise.to(context.device), settings.kl_weight)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            total += loss.item() * len(rows)
        losses.append(total / len(order))
        if not math.isfinite(losses[-1]):
            raise Diverged(
                f"the prior of {data.name}: the loss of epoch {epoch + 1} is {losses[-1]} at lr "
                f"{settings.lr:g}; lower parameterization.prior_lr"
            )
        context.progress("prior", epoch + 1, settings.epochs)
    tensors = {key: value.cpu().contiguous() for key, value in prior.state_dict().items()}
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    tensors["seconds"] = torch.tensor(time.perf_counter() - started, dtype=torch.float64)
    return tensors


def loss_of(
    prior: StyleGenerator,
    encoder: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    noise: Tensor,
    kl_weight: float,
) -> Tensor:
    """Return the loss of a batch, see the module's formula.

    Args:
        prior, encoder: the two networks; the encoder gives m and log s^2, one after the other.
        x: [n, C, H, W] images in [-1, 1].
        y: [n] classes.
        noise: [n, z_dim] e.
        kl_weight: of the divergence.
    """
    mean, log_variance = encoder(x).chunk(2, dim=1)
    w = prior.map(mean + (log_variance / 2).exp() * noise, y)
    error = (prior.from_f(w, prior.to_f(w, 0), 0) - x).square().mean()
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
    return error + kl_weight * divergence / x[0].numel()
