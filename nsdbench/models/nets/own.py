"""A user's own network, as the rest of the program sees it: checked, and drawn by a generator."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from nsdbench.models.own import blame, maker, with_digest
from nsdbench.seeding import generator, global_draws


def build_own(
    name: str,
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    width: int | None,
    depth: int | None,
    norm: str,
) -> "OwnNetwork":
    """Build a user's network, and try it on two images.

    Args: as of `models.build`; the name is a factory's, with the digest of its source or without.

    Raises:
        ValueError: as of `models.own.maker`, or the code raises, or returns no network that maps
            two images to finite logits [2, num_classes].
    """
    name = with_digest(name)
    make = maker(
        name,
        in_channels=in_channels,
        image_size=image_size,
        num_classes=num_classes,
        width=width,
        depth=depth,
        norm=norm,
    )
    return OwnNetwork(name, make, (in_channels, image_size, image_size), num_classes)


class OwnNetwork(nn.Module):
    """Hold a network that a user's code builds.

    What the code draws from torch's global generators, dropout for example, is decided by the seed
    of the last `redraw` and the number of calls since then. The generators are left as they were.

    Attributes:
        name: of the factory, with the digest of its source.
        network: what the factory returned; its parameters are those of this module.
        image_shape: (C, H, W) it was built for.
        memory_format: as of `ImageClassifier`.

    Raises:
        ValueError: see `build_own`.
    """

    memory_format = torch.contiguous_format

    def __init__(
        self,
        name: str,
        make: Callable[[], Any],
        image_shape: tuple[int, int, int],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.image_shape = image_shape
        self._make = make
        self._is_random: dict[bool, bool] = {}
        self._seed: int | None = None
        self._calls = 0
        try:
            network = make()
        except (Exception, SystemExit) as error:
            raise blame(name, error, "while it was built") from error
        if not isinstance(network, nn.Module):
            raise ValueError(
                f"{name} returned a {type(network).__name__}; expected a torch.nn.Module"
            )
        self.network = network
        self._check(num_classes)

    def is_random(self, *, is_training: bool) -> bool:
        """Say whether its code drew at random when it was tried in training mode, or in the other.

        `F.dropout(x)` draws in both: its own default is that of training.
        """
        return self._is_random[is_training]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]."""
        with self._draws(x.device):
            return self.network(x)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to the features that the network's own `embed` gives."""
        if not hasattr(self.network, "embed"):
            raise ValueError(f"{self.name} has no method embed(images), which gives its features")
        embed: Callable[[torch.Tensor], torch.Tensor] = self.network.embed  # type: ignore[assignment]
        with self._draws(x.device):
            return embed(x)

    def redraw(self, stream: torch.Generator) -> None:
        """Take the parameters of a network that is built anew, as a seed from a stream decides.

        The code that builds it draws from torch's global generator, which is left as it was.
        """
        self._seed, self._calls = int(torch.randint(2**62, (), generator=stream)), 0
        with global_draws(self._seed, next(self.network.parameters()).device):
            fresh = self._make()
        try:
            self.network.load_state_dict(fresh.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"{self.name}, built again, has other parameters or buffers: "
                f"{_second_line(error)}; expected the same network every time"
            ) from error

    def get_extra_state(self) -> dict[str, int | None]:
        """Return what decides the next draw, for a checkpoint."""
        return {"seed": self._seed, "calls": self._calls}

    def set_extra_state(self, state: dict[str, int | None]) -> None:
        """Take up what `get_extra_state` returned."""
        self._seed, self._calls = state["seed"], state["calls"] or 0

    def _draws(self, device: torch.device) -> AbstractContextManager[None]:
        """Have the next call draw what the seed decides, or anything if there is none yet."""
        if self._seed is None:
            return nullcontext()
        self._calls += 1
        return global_draws(generator(self._seed, "call", self._calls).initial_seed(), device)

    def _check(self, num_classes: int) -> None:
        """Refuse a network that cannot be trained, or without finite logits for two images."""
        for key, tensor in chain(self.network.named_parameters(), self.network.named_buffers()):
            if is_lazy(tensor) or tensor.is_meta:
                raise ValueError(
                    f"{self.name}: {key} has {'no size' if is_lazy(tensor) else 'no numbers'} when "
                    "the network is built; expected layers of given sizes, on a device"
                )
        kinds = {parameter.dtype for parameter in self.network.parameters()}
        if kinds != {torch.float32}:
            got = ", ".join(sorted(map(str, kinds))) or "none"
            raise ValueError(f"{self.name} has parameters of {got}; expected torch.float32")
        device = next(self.network.parameters()).device
        images = torch.randn(2, *self.image_shape, generator=torch.Generator().manual_seed(0)).to(
            device
        )
        state = {key: value.clone() for key, value in self.network.state_dict().items()}
        for is_training in (True, False):
            self.network.train(is_training)
            try:
                with torch.enable_grad(), torch.random.fork_rng():
                    before = _states(device)
                    logits = self.network(images)
                    has_drawn = not all(map(torch.equal, before, _states(device)))
            except (Exception, SystemExit) as error:
                raise blame(self.name, error, "on two images") from error
            if not isinstance(logits, torch.Tensor) or logits.shape != (2, num_classes):
                is_tensor = isinstance(logits, torch.Tensor)
                got = str(list(logits.shape)) if is_tensor else f"a {type(logits).__name__}"
                raise ValueError(
                    f"{self.name} maps images {list(images.shape)} to {got}; expected logits "
                    f"[2, {num_classes}]"
                )
            if is_training and not logits.requires_grad:
                raise ValueError(
                    f"{self.name} gives logits without a gradient to its parameters; expected a "
                    "network that can be trained, without detach, no_grad or frozen parameters"
                )
            if not logits.isfinite().all():
                raise ValueError(f"{self.name} gives logits that are not finite, before training")
            self._is_random[is_training] = has_drawn
        self.network.train()
        self.network.load_state_dict(state)


def _second_line(error: RuntimeError) -> str:
    """Return the first fault that torch names below its heading."""
    return next(iter(str(error).splitlines()[1:]), str(error)).strip().rstrip(".")


def _states(device: torch.device) -> list[torch.Tensor]:
    """Return the states of torch's global generators that a network on a device draws from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states
