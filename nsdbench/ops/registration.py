"""Register fake kernels and derivatives with the compiled operators, once they are loaded.

Registering derivatives with an operator alone gives no forward-mode rule: torch.func.jvp would
return zeros without an error. So every differentiable operator also has an autograd.Function.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from nsdbench.ops.backend import library

# A private name of torch; should it go, every call is made as if a transform were active.
_are_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def plain(name: str, fake: Callable[..., Any]) -> None:
    """Give an operator without derivatives its fake kernel; torch.func.vmap is refused.

    Args:
        name: of the operator within the namespace nsdbench.
        fake: takes its arguments, checks them, and returns uninitialised results.
    """

    def register() -> None:
        torch.library.register_fake(f"nsdbench::{name}", fake)
        torch.library.register_vmap(f"nsdbench::{name}", _refuse_vmap(name))

    library.at_loading(register)


def differentiable(
    name: str,
    fake: Callable[..., Any],
    *,
    save: Callable[..., None],
    backward: Callable[..., Any],
    jvp: Callable[..., Any] | None = None,
    is_last: bool = False,
) -> Callable[..., Any]:
    """Give an operator its fake kernel and its derivatives, in reverse and forward mode.

    Args:
        name, fake: as for `plain`.
        save: `setup_context` of an autograd.Function, called with (ctx, inputs, output).
        backward: as that of an autograd.Function.
        jvp: the same; None where forward mode is torch's own error.
        is_last: differentiating `backward` is a clear error.

    Returns:
        The differentiable function of the operator's arguments. Call it after `is_native` only:
        the operator must be loaded.

    Cost: what autograd spends on a call is as long as augmenting a small batch. So nothing is
    recorded where nobody differentiates, and torch.func's slower form is for its transforms alone.
    """
    run: Any = None

    class Quick(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = run(*inputs)
            save(ctx, inputs, output)
            return output

    class UnderTransforms(torch.autograd.Function):
        @staticmethod
        def forward(*inputs: Any) -> Any:
            return run(*inputs)

        setup_context = staticmethod(save)
        vmap = staticmethod(_refuse_vmap(name))

    rules = {"backward": once_differentiable(backward) if is_last else backward}
    if jvp is not None:
        rules["jvp"] = jvp
    for function in (Quick, UnderTransforms):
        for rule, compute in rules.items():
            setattr(function, rule, staticmethod(compute))

    def register() -> None:
        nonlocal run
        run = getattr(torch.ops.nsdbench, name).default
        torch.library.register_autograd(f"nsdbench::{name}", backward, setup_context=save)

    plain(name, fake)
    library.at_loading(register)

    def call(*inputs: Any) -> Any:
        if _are_transforms_active():
            return UnderTransforms.apply(*inputs)
        if _is_differentiated(inputs):
            return Quick.apply(*inputs)
        return run(*inputs)

    return call


def _is_differentiated(inputs: tuple[Any, ...]) -> bool:
    """Say whether reverse or forward mode may ask for derivatives of a call."""
    if forward_ad._current_level >= 0:
        return True
    if torch.is_grad_enabled():
        for value in inputs:
            if isinstance(value, Tensor) and value.requires_grad:
                return True
    return False


def _refuse_vmap(name: str) -> Callable[..., NoReturn]:
    def refuse(info: Any, in_dims: Any, *arguments: Any) -> NoReturn:
        raise ValueError(
            f"{name} cannot run under torch.func.vmap: call it once for each element, or set "
            "NSDBENCH_NATIVE=0 to run its plain PyTorch twin"
        )

    return refuse
