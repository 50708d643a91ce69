"""The choice between compiled operators and twins, and what is said where they do not load."""

import os
import subprocess
import sys

import pytest
import torch

from nsdbench import errors, ops
from nsdbench.ops import backend, convnet, convnet_blocks
from nsdbench.ops.convnet import ConvNetShape


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("1", True), ("0", False)])
def test_environment_decides_on_the_cpu(monkeypatch, value, expected):
    monkeypatch.delenv("NSDBENCH_NATIVE", raising=False)
    if value is not None:
        monkeypatch.setenv("NSDBENCH_NATIVE", value)
    assert ops.is_native() is expected
    assert ops.is_native(torch.device("cpu")) is expected


def test_cuda_is_native_where_its_operators_are_loaded(monkeypatch):
    monkeypatch.delenv("NSDBENCH_NATIVE", raising=False)
    for reason in ("", "not built"):
        monkeypatch.setattr(backend.library, "cuda_missing_because", reason)
        assert ops.is_native(torch.device("cuda", 0)) is (reason == "")


def test_other_devices_have_no_native_operators(monkeypatch):
    monkeypatch.delenv("NSDBENCH_NATIVE", raising=False)
    assert not ops.is_native(torch.device("meta"))


def test_a_wrong_value_is_refused(monkeypatch):
    monkeypatch.setenv("NSDBENCH_NATIVE", "off")
    with pytest.raises(ValueError, match="NSDBENCH_NATIVE: expected 0 or 1, got 'off'"):
        ops.is_native()


# Calls every public operator. With a folder as argument, the library is looked for there.
EVERY_OPERATOR = """
import sys
from pathlib import Path
import torch
from nsdbench import errors, ops
from nsdbench.ops import backend, convnet, convnet_blocks
from nsdbench.ops.convnet import ConvNetShape

def loaded():
    return "_C.so" in Path("/proc/self/maps").read_text()

assert not loaded(), "importing loads the library"
if len(sys.argv) > 1:
    backend.library.folder = Path(sys.argv[1])
x, row = torch.rand(2, 1, 8, 8), torch.zeros(1, 1, dtype=torch.float64)
one, none, shape = torch.ones(1), [None] * 4, ConvNetShape(1, 4, 1)
theta, y = torch.rand(shape.num_parameters(x, 3)), torch.tensor([0, 2])
features = theta[: shape.num_parameters(x)]
calls = {
    "dsa": lambda: ops.dsa(x, "rotate", row),
    "dsa_jvp": lambda: ops.dsa_jvp(x, "rotate", row),
    "dsa_backward": lambda: ops.dsa_backward(x, "rotate", row),
    "inorm_relu_pool": lambda: ops.inorm_relu_pool(x, one, one),
    "inorm_relu_pool_jvp": lambda: ops.inorm_relu_pool_jvp(x, one, one, x, None, None),
    "inorm_relu_pool_nhwc": lambda: ops.inorm_relu_pool_nhwc(x.movedim(1, 3), one, one),
    "reconstruct": lambda: ops.reconstruct(x[None], none),
    "reconstruct_jvp": lambda: ops.reconstruct_jvp(x[None], none, x[None], none),
    "convnet_features": lambda: convnet.convnet_features(features, x, shape),
    "convnet_step": lambda: convnet.convnet_step(theta, x, y, 0.1, shape),
    "convnet_step_adjoint": lambda: convnet.convnet_step_adjoint(theta, x, y, theta, shape),
    "blocks.convnet_features": lambda: convnet_blocks.convnet_features(features, x, shape),
    "blocks.convnet_gradient": lambda: convnet_blocks.convnet_gradient(theta, x, y, shape),
    "blocks.convnet_adjoint": lambda: convnet_blocks.convnet_adjoint(theta, x, y, theta, shape),
}
messages = set()
for name, call in calls.items():
    try:
        call()
    except errors.ExtensionUnavailable as error:
        messages.add(str(error))
    else:
        messages.add(f"{name} ran, loaded: {loaded()}")
print("\\n--\\n".join(sorted(messages)))
"""
NUM_OPERATORS = EVERY_OPERATOR.count(": lambda: ")


def run_every_operator(*arguments, native="1"):
    done = subprocess.run(
        [sys.executable, "-c", EVERY_OPERATOR, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"NSDBENCH_NATIVE": native},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("\n--\n")


def damage(folder, how):
    path = folder / "_C.so"
    if how == "empty":
        path.touch()
    elif how == "cut short":
        whole = (backend.FOLDER / "_C.so").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "text":
        path.write_bytes(b"not an object file" * 10)
    return path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "file too short"),
        ("cut short", "the file is cut short"),
        ("text", "invalid ELF header"),
    ],
)
def test_a_library_that_does_not_load_is_one_error_with_the_reason(tmp_path, how, reason):
    path = damage(tmp_path, how)
    (message,) = run_every_operator(tmp_path)
    assert f"{path}: {reason}" in message
    assert "pip install --no-build-isolation -e ." in message and "NSDBENCH_NATIVE=0" in message
    twins = run_every_operator(tmp_path, native="0")
    assert len(twins) == NUM_OPERATORS and all("ran, loaded: False" in line for line in twins)


def test_a_library_of_older_sources_says_what_it_lacks():
    library = backend.Library(backend.FOLDER)
    calls = []
    library.at_loading(lambda: calls.append(torch.ops.nsdbench.of_tomorrow))
    for _ in range(2):
        with pytest.raises(errors.ExtensionUnavailable, match="without the operator of_tomorrow"):
            library.load()
    assert calls == [] and library.cuda_missing_because is None


def test_the_library_is_loaded_at_the_first_call_alone():
    ran = run_every_operator()
    assert len(ran) == NUM_OPERATORS and all("ran, loaded: True" in line for line in ran)


def test_no_library_has_no_devices_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "library", backend.Library(tmp_path))
    assert backend.devices() == [] and backend.simd_level() is None
    assert "no such file" in backend.unavailable_because()
    assert "no such file" in backend.cuda_unavailable_because()


class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the compiled operators that run."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.namespace == "nsdbench"
        return func(*args, **(kwargs or {}))


def every_result():
    """Values of every operator, and gradients of those that autograd differentiates."""
    stream = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=stream, dtype=torch.float64)

    shape = ConvNetShape(2, 6, 1)
    x, weight, x_t = draw(4, 3, 9, 8), draw(3), draw(4, 3, 9, 8)
    theta = draw(shape.num_parameters(x, 5)) * 0.3
    features, direction = theta[: shape.num_parameters(x)], draw(len(theta))
    soft, hard = draw(4, 5).softmax(1), torch.tensor([4, 0, 2, 2])
    spectra, kernels = draw(2, 2, 3, 4, 4), [draw(3, 2, 5), None, draw(3, 4, 8), draw(3, 4, 7)]
    rows = torch.tensor([7, 0, 29, 7])
    is_bias = torch.zeros(len(theta), dtype=torch.bool)
    is_bias[162:168] = is_bias[162 + 6 * 3 + 324 : 162 + 6 * 3 + 324 + 6] = True

    def without_biases(by_theta):  # exactly 0 in the compiled code, rounding noise in the twins
        return by_theta.masked_fill(is_bias[: len(by_theta)], 0)

    results = []
    for differentiated, run in (
        ([x], lambda x: ops.dsa(x, "rotate", torch.full((1, 1), 0.2).double())),
        ([x, weight], lambda x, w: ops.inorm_relu_pool(x, w, w)),
        ([spectra, kernels[0]], lambda t, k: ops.reconstruct(t, [k, *kernels[1:]], rows)),
        ([features, x], lambda theta, x: convnet.convnet_features(theta, x, shape)),
        ([features, x], lambda theta, x: convnet_blocks.convnet_features(theta, x, shape)),
    ):
        leaves = [leaf.clone().requires_grad_() for leaf in differentiated]
        value = run(*leaves)
        gradients = torch.autograd.grad(value.square().sum(), leaves)
        if leaves[0].dim() == 1:
            gradients = [without_biases(gradients[0]), *gradients[1:]]
        results += [value.detach(), *gradients]
    color = torch.tensor([[0.3, 1.7, 0.6]], dtype=torch.float64)
    results.append(ops.dsa_jvp(x, "color", color))
    results.append(ops.dsa_backward(x, "scale", torch.full((4, 2), 0.9).double()))
    results.append(ops.inorm_relu_pool_jvp(x, weight, weight, x_t, None, weight))
    results.append(ops.reconstruct_jvp(spectra, kernels, None, [kernels[0], None, None, None]))
    step = convnet.convnet_step(
        theta, x, hard, 0.1, shape, velocity=without_biases(direction), momentum=0.5
    )
    results += [without_biases(step[0]), without_biases(step[1]), step[2]]
    needs = (True, True, True)
    for adjoint in (convnet.convnet_step_adjoint, convnet_blocks.convnet_adjoint):
        *values, (h_theta, h_x, h_y) = adjoint(theta, x, soft, direction, shape, needs)
        results += [*values, without_biases(h_theta), h_x, h_y]
    results.append(without_biases(convnet_blocks.convnet_gradient(theta, x, hard, shape)))
    return results


def test_switched_off_every_operator_is_its_twin(monkeypatch):
    results, counts = [], []
    for switch in ("1", "0"):
        monkeypatch.setenv("NSDBENCH_NATIVE", switch)
        with Recorder() as recorder:
            results.append(every_result())
        counts.append(recorder.count)
    assert counts[0] >= NUM_OPERATORS and counts[1] == 0
    for native, twin in zip(*results, strict=True):
        torch.testing.assert_close(native, twin, rtol=1e-9, atol=1e-9)


def test_errors_do_not_depend_on_the_switch(monkeypatch):
    x, row = torch.rand(2, 3, 8, 8), torch.zeros(2, 1, dtype=torch.float64)
    infinite = row.clone()
    infinite[1] = torch.inf
    cases = {
        r"parameters: expected finite numbers, got inf for image 1": lambda: ops.dsa(
            x, "rotate", infinite
        ),
        r"index: expected entries in \[0, 2\), got 2 at position 1": lambda: ops.reconstruct(
            x[None], [None] * 4, torch.tensor([0, 2])
        ),
    }
    for switch in ("1", "0"):
        monkeypatch.setenv("NSDBENCH_NATIVE", switch)
        for message, call in cases.items():
            with pytest.raises(ValueError, match=message):
                call()
