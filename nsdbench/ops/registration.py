"""Register fake kernels and derivatives with the compiled operators, once they are loaded.

Registering derivatives with an operator alone gives no forward-mode rule: torch.func.jvp would
return zeros without an error. So every differentiable operator also has an autograd.Function.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from nsdbench.ops.backend import library

# Private names of torch. Should the first go, every call is made as if a transform were active;
# should the second go, a call takes 7 us longer, to find that nobody differentiates inside it.
_are_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_below_autograd = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_TWIN = "set NSDBENCH_NATIVE=0 to run its plain PyTorch twin"


def plain(name: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """Give an operator without derivatives its fake kernel, and refusals in their place.

    Args:
        name: of the operator within the namespace nsdbench.
        fake: takes its arguments, checks them, and returns uninitialised results.

    Returns:
        As `differentiable`; differentiating its results, or calling it under torch.func.vmap,
        is an error that says what to do instead.
    """
    refuse = _raiser(RuntimeError, f"{name} has no derivatives of its own: {_TWIN}")
    return _operator(name, fake, save=lambda *_: None, backward=refuse, jvp=refuse)


def differentiable(
    name: str,
    fake: Callable[..., Any],
    *,
    save: Callable[..., None],
    backward: Callable[..., Any],
    jvp: Callable[..., Any],
) -> Callable[..., Any]:
    """Give an operator its fake kernel and its derivatives, in reverse and forward mode.

    Args:
        name, fake: as for `plain`.
        save: `setup_context` of an autograd.Function, called with (ctx, inputs, output).
        backward, jvp: as those of an autograd.Function.

    Returns:
        The differentiable function of the operator's arguments. Call it after `is_native` only:
        the operator must be loaded.

    Cost: what autograd spends on a call is as long as augmenting a small batch. So nothing is
    recorded where nobody differentiates, and torch.func's slower form is for its transforms alone.
    """

    def register() -> None:
        torch.library.register_autograd(f"nsdbench::{name}", backward, setup_context=save)

    call = _operator(name, fake, save=save, backward=backward, jvp=jvp)
    library.at_loading(register)
    return call


def _operator(
    name: str,
    fake: Callable[..., Any],
    *,
    save: Callable[..., None],
    backward: Callable[..., Any],
    jvp: Callable[..., Any],
) -> Callable[..., Any]:
    """Give an operator its fake kernel; return it with derivatives for calls from Python."""
    run: Any = None

    def run_and_save(ctx: Any, *inputs: Any) -> Any:
        with _below_autograd():
            output = run(*inputs)
        save(ctx, inputs, output)
        return output

    refuse_vmap = _no_vmap(name, f"call it once for each element, or {_TWIN}")
    rules = {"backward": backward, "jvp": jvp}
    quick = _function(name, forward=run_and_save, **rules)
    under_transforms = _function(
        f"{name}_under_transforms",
        forward=lambda *inputs: run(*inputs),
        setup_context=save,
        vmap=refuse_vmap,
        **rules,
    )

    def register() -> None:
        nonlocal run
        run = getattr(torch.ops.nsdbench, name).default
        torch.library.register_fake(f"nsdbench::{name}", fake)
        torch.library.register_vmap(f"nsdbench::{name}", refuse_vmap)

    library.at_loading(register)

    def call(*inputs: Any) -> Any:
        if _are_transforms_active():
            return under_transforms.apply(*inputs)
        if _is_differentiated(inputs):
            return quick.apply(*inputs)
        with _below_autograd():
            return run(*inputs)

    return call


def constant(instead: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Make a function return constants, and refuse the transforms of torch.func.

    Autograd records nothing. A transform would take its results for constants too, and return
    zeros; so it is refused where a tensor among the arguments, or in a list of them, depends on
    what is differentiated or batched.

    Args:
        instead: what to differentiate instead, for the message.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        name = function.__name__
        refuse = guard(
            name,
            vmap="call it once for each element",
            derivative=f"its results are constants; differentiate {instead}",
        )

        @wraps(function)
        def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
            refuse(*arguments, *options.values())
            with torch.no_grad():
                return function(*arguments, **options)

        return call

    return decorate


def guard(name: str, *, vmap: str = "", derivative: str = "") -> Callable[..., None]:
    """Make a check that refuses tensors under transforms that a function cannot take.

    Args:
        name: of the function, or of its argument, for the message.
        vmap: what to do instead of batching; "" lets it pass.
        derivative: what to do instead of forward mode and torch.func.grad; "" lets them pass.

    Returns:
        A function of any values; those that are tensors are looked at. It raises ValueError under
        torch.func.vmap, else RuntimeError.

    Cost: two comparisons where no transform is active and no dual number exists.
    """
    refuse = _raiser(RuntimeError, f"{name} cannot run under torch.func.grad or jvp: {derivative}")

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        if derivative and any(ctx.needs_input_grad) and _are_transforms_active():
            refuse()

    probe = _function(
        f"{name}_guard",
        forward=lambda *tensors: tensors[0].new_empty(0),
        setup_context=save,
        vmap=_no_vmap(name, vmap) if vmap else lambda _, dims, *t: (t[0].new_empty(0), None),
        jvp=refuse if derivative else lambda *_: None,
    )

    def check(*values: Any) -> None:
        if _are_transforms_active() or forward_ad._current_level >= 0:
            with torch.enable_grad():
                for tensor in _tensors(values):
                    probe.apply(tensor)

    return check


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


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


def _no_vmap(name: str, instead: str) -> Callable[..., NoReturn]:
    return _raiser(ValueError, f"{name} cannot run under torch.func.vmap: {instead}")


def _raiser(error: type[Exception], text: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any) -> NoReturn:
        raise error(text)

    return refuse
