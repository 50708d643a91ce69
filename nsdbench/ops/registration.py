"""Register fake kernels and derivatives with the compiled operators, once they are loaded.

Registering derivatives with an operator alone gives no forward-mode rule: torch.func.jvp would
return zeros without an error. So every differentiable operator also has an autograd.Function.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from nsdbench.ops.backend import library

# Private names of torch. Should the first go, every call is made as if a transform were active;
# should the second go, a call takes 7 us longer, to find that nobody differentiates inside it.
_are_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_below_autograd = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)


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

    def run_and_save(ctx: Any, *inputs: Any) -> Any:
        with _below_autograd():
            output = run(*inputs)
        save(ctx, inputs, output)
        return output

    rules = {"backward": once_differentiable(backward) if is_last else backward}
    if jvp is not None:
        rules["jvp"] = jvp
    quick = _function(name, forward=run_and_save, **rules)
    under_transforms = _function(
        f"{name}_under_transforms",
        forward=lambda *inputs: run(*inputs),
        setup_context=save,
        vmap=_refuse_vmap(name),
        **rules,
    )

    def register() -> None:
        nonlocal run
        run = getattr(torch.ops.nsdbench, name).default
        torch.library.register_autograd(f"nsdbench::{name}", backward, setup_context=save)

    plain(name, fake)
    library.at_loading(register)

    def call(*inputs: Any) -> Any:
        if _are_transforms_active():
            return under_transforms.apply(*inputs)
        if _is_differentiated(inputs):
            return quick.apply(*inputs)
        with _below_autograd():
            return run(*inputs)

    return call


def _function(name: str, **rules: Callable[..., Any]) -> type[torch.autograd.Function]:
    """Make an autograd.Function; `grad_fn` shows its name."""
    members = {rule: staticmethod(compute) for rule, compute in rules.items()}
    return type(name, (torch.autograd.Function,), members)


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
