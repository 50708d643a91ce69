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
    return differentiable(name, fake, save=_save_nothing, backward=refuse, jvp=refuse)


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
    run: Any = None

    def run_and_save(ctx: Any, *inputs: Any) -> Any:
        with _below_autograd():
            output = run(*inputs)
        save(ctx, inputs, output)
        return output

    refuse_vmap = refusal(
        ValueError, name, "torch.func.vmap", f"call it once for each element, or {_TWIN}"
    )
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
        torch.library.register_autograd(f"nsdbench::{name}", backward, setup_context=save)

    library.at_loading(register)

    def call(*inputs: Any) -> Any:
        if torch.compiler.is_compiling():
            return run(*inputs)  # with the derivatives registered above
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
        derivative = f"its results are constants; differentiate {instead} instead"
        refuse = guard(
            name,
            vmap="call it once for each element",
            grad=derivative,
            forward_mode=derivative,
        )

        @wraps(function)
        def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
            refuse(*arguments, *options.values())
            with torch.no_grad():
                return function(*arguments, **options)

        return call

    return decorate


def guard(
    name: str, *, vmap: str = "", grad: str = "", forward_mode: str = ""
) -> Callable[..., None]:
    """Make a check that refuses tensors under transforms that a function cannot take.

    Args:
        name: of the function, or of its argument, for the message.
        vmap, grad, forward_mode: what to do instead of torch.func.vmap, torch.func.grad, and
            torch.func.jvp or dual numbers; "" lets them pass.

    Returns:
        A function of any values; those that are tensors are looked at, and those in lists. It
        raises ValueError under torch.func.vmap, else RuntimeError.

    Cost: two comparisons where no transform is active and no dual number exists.
    """
    refuse_grad = refusal(RuntimeError, name, "torch.func.grad", grad)
    refuse_forward_mode = refusal(RuntimeError, name, "torch.func.jvp", forward_mode)
    refuse_vmap = refusal(ValueError, name, "torch.func.vmap", vmap)

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        if grad and any(ctx.needs_input_grad) and _are_transforms_active():
            refuse_grad()

    probe = _function(
        f"{name}_guard",
        forward=lambda tensor: tensor.new_empty(0),
        setup_context=save,
        backward=lambda *_: None,
        vmap=refuse_vmap if vmap else lambda _, dims, tensor: (tensor.new_empty(0), None),
        jvp=refuse_forward_mode if forward_mode else lambda _, tensor_t: tensor_t.new_empty(0),
    )

    def check(*values: Any) -> None:
        if are_transforms_active():
            with torch.enable_grad():
                for tensor in _tensors(values):
                    probe.apply(tensor)

    return check


def _save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    pass


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


def is_watched(inputs: tuple[Any, ...]) -> bool:
    """Say whether autograd, a dual number, or a transform of torch.func may see a call."""
    return _are_transforms_active() or _is_differentiated(inputs)


def are_transforms_active() -> bool:
    """Say whether torch.func or forward mode is at work; autograd alone does not count."""
    return _are_transforms_active() or forward_ad._current_level >= 0


def _is_differentiated(inputs: tuple[Any, ...]) -> bool:
    """Say whether reverse or forward mode may ask for derivatives of a call."""
    if forward_ad._current_level >= 0:
        return True
    if torch.is_grad_enabled():
        for value in inputs:
            if isinstance(value, Tensor) and value.requires_grad:
                return True
    return False


def refusal(
    error: type[Exception], name: str, transform: str, instead: str
) -> Callable[..., NoReturn]:
    """Make a function of any arguments that raises: what cannot run, and what to do instead."""
    return _raiser(error, f"{name} cannot run under {transform}: {instead}")


def _raiser(error: type[Exception], text: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any) -> NoReturn:
        raise error(text)

    return refuse
