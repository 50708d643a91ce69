"""torch.func and torch.compile through every public operator: right, or refused in our words."""

import re

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jacrev, jvp, vmap

from nsdbench import ops
from nsdbench.ops import reference
from tests.ops.calls import ANGLES, CALLS, KERNELS, SPECTRA, X

OURS = (
    r"cannot run under torch\.func\.(vmap: .*call it once for each element"
    r"|(grad|jvp): its results are constants; differentiate the cross-entropy of convnet_features"
    r"|jvp: use dsa_jvp, or the compiled operator)"
    r"|has no derivatives of its own: set NSDBENCH_NATIVE=0"
)


def square(run):
    return lambda t: run(t).square().sum()


def along(run):
    return lambda t: jvp(run, (t,), (torch.ones_like(t),))[1]


# By name: the transform, and how many derivatives of the operator it takes.
TRANSFORMS = {
    "grad": (lambda run, t: grad(square(run))(t), 1),
    "jvp": (lambda run, t: along(run)(t), 1),
    "grad of grad": (lambda run, t: grad(square(grad(square(run))))(t), 2),
    "jvp of grad": (lambda run, t: along(grad(square(run)))(t), 2),
    "grad of jvp": (lambda run, t: grad(square(along(run)))(t), 2),
    "jvp of jvp": (lambda run, t: along(along(run))(t), 2),
    "vmap": (lambda run, t: vmap(run)(torch.stack([t, 2 * t])), 0),
    "vmap of grad": (lambda run, t: vmap(grad(square(run)))(torch.stack([t, 2 * t])), 1),
    "jacrev": (lambda run, t: jacrev(run)(t), 1),
}


def outcome(transform, call, monkeypatch, native):
    """The value of a transform, or the error; an error must be one sentence of ours."""
    monkeypatch.setenv("NSDBENCH_NATIVE", native)
    try:
        return transform(call.run, call.operand)
    except (ValueError, RuntimeError) as error:
        assert re.search(OURS, str(error)), error
        assert "\n" not in str(error)
        return error


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("how", TRANSFORMS)
def test_transforms_equal_the_twin_or_are_refused(how, name, monkeypatch):
    call, (transform, order) = CALLS[name], TRANSFORMS[how]
    native = outcome(transform, call, monkeypatch, "1")
    twin = outcome(transform, call, monkeypatch, "0")
    if call.is_constant:
        assert isinstance(native, Exception) and isinstance(twin, Exception)
        return
    if isinstance(native, torch.Tensor) and isinstance(twin, torch.Tensor):
        torch.testing.assert_close(native, twin)
    is_batched = "vmap" in how or how == "jacrev"
    if not is_batched and how not in ("jvp of jvp", "grad of jvp") and order <= call.derivatives:
        assert isinstance(native, torch.Tensor)
    if not ("jvp" in how and name.startswith("dsa")):
        assert isinstance(twin, torch.Tensor)


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.is_constant])
def test_what_is_detached_or_not_watched_passes(name):
    run, operand = CALLS[name].run, CALLS[name].operand
    expected = run(operand)
    _, found = grad(lambda t: (t.sum(), run(t.detach())), has_aux=True)(operand)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    found = vmap(lambda t: t.sum() + run(operand))(operand[None])[0]
    torch.testing.assert_close(found, operand.sum() + expected)
    assert not run(operand.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("name", CALLS)
def test_dual_numbers_keep_their_tangent(name):
    call = CALLS[name]
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(call.operand, torch.ones_like(call.operand))
        if call.is_constant or call.derivatives == 0:
            with pytest.raises(RuntimeError, match=OURS):
                call.run(dual)
            return
        found = forward_ad.unpack_dual(call.run(dual)).tangent
    torch.testing.assert_close(found, along(call.run)(call.operand))


def test_what_a_twin_looks_at_cannot_be_batched(monkeypatch):
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    with pytest.raises(ValueError, match=r"twin of dsa cannot run under torch.func.vmap: give"):
        vmap(lambda angles: ops.dsa(X, "rotate", angles))(ANGLES[None])
    index = torch.tensor([[0, 1]])
    with pytest.raises(ValueError, match=r"index cannot run under torch.func.vmap: batch"):
        vmap(lambda rows: ops.reconstruct(SPECTRA, KERNELS, rows))(index)
    assert reference.reconstruct(SPECTRA, KERNELS, index[0]).shape[0] == 2


SLOW_TO_COMPILE = {"convnet_gradient", "convnet_adjoint"}  # graphs of many small operators


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW_TO_COMPILE else ())
        for name in CALLS
    ],
)
def test_compiled_without_then_with_a_gradient(name):
    call = CALLS[name]
    torch.compiler.reset()
    compiled = torch.compile(call.run, backend="aot_eager")
    torch.testing.assert_close(compiled(call.operand), call.run(call.operand), rtol=0, atol=0)
    if call.is_constant:
        assert not compiled(call.operand.clone().requires_grad_()).requires_grad
        return

    def gradient(run):
        leaf = call.operand.clone().requires_grad_()
        return torch.autograd.grad(run(leaf).square().sum(), leaf)[0]

    if call.derivatives == 0:
        with pytest.raises(RuntimeError, match=OURS):
            gradient(compiled)
        return
    torch.testing.assert_close(gradient(compiled), gradient(call.run))
