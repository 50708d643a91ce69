"""Every wrong operand of `reconstruct` is a ValueError naming the mode, expected and got.

The public function says it in full; the compiled operator names the operand.
"""

import pytest
import torch

from nsdbench import ops
from nsdbench.ops.backend import operators

NATIVE = operators()
T, U = (2, 3, 4, 5), (3, 2, 6, 7)
MODE_NAMES = ("sample", "channel", "height", "width")


def operands(device="cpu"):
    spectra = torch.zeros(2, *T, device=device)
    return spectra, [torch.zeros(3, t, u, device=device) for t, u in zip(T, U, strict=True)]


def through_wrapper(spectra, kernels, index=None):
    return ops.reconstruct(spectra, kernels, index)


def through_operator(spectra, kernels, index=None):
    return NATIVE.reconstruct(spectra, *kernels, index)


def through_backward(spectra, kernels, index=None):
    return NATIVE.reconstruct_backward(spectra.new_zeros(18, *U[1:]), spectra, *kernels, index, 1)


def refused(run, in_full, operand):
    """Expect an error: in full through the wrapper, else one that begins with the operand."""
    text = in_full if run is through_wrapper else f"reconstruct: {operand}: expected"
    return pytest.raises(ValueError, match=text)


entries = pytest.mark.parametrize("run", [through_wrapper, through_operator, through_backward])


@entries
@pytest.mark.parametrize("mode", range(4))
def test_wrong_rows(device, run, mode):
    spectra, kernels = operands(device)
    kernels[mode] = spectra.new_zeros(3, T[mode] + 1, U[mode])
    expected = (
        rf"mode {mode + 1} \({MODE_NAMES[mode]}\): expected t{mode + 1} = {T[mode]} rows .*"
        rf"got {T[mode] + 1}"
    )
    with refused(run, expected, f"kernel{mode + 1}"):
        run(spectra, kernels)


@entries
@pytest.mark.parametrize("mode", range(4))
def test_wrong_number_of_dimensions_of_a_kernel(device, run, mode):
    spectra, kernels = operands(device)
    kernels[mode] = spectra.new_zeros(T[mode], U[mode])
    expected = (
        rf"mode {mode + 1} .*: expected 3 dimensions \[N_K, t{mode + 1}, u{mode + 1}\], "
        rf"got \[{T[mode]}, {U[mode]}\]"
    )
    with refused(run, expected, f"kernel{mode + 1}"):
        run(spectra, kernels)


@entries
@pytest.mark.parametrize("mode", range(4))
def test_wrong_dtype_of_a_kernel(device, run, mode):
    spectra, kernels = operands(device)
    kernels[mode] = kernels[mode].double()
    expected = rf"mode {mode + 1} .*expected the dtype of the spectra"
    with refused(run, expected, f"kernel{mode + 1}"):
        run(spectra, kernels)


@pytest.mark.parametrize("mode", range(4))
def test_wrong_device_of_a_kernel(device, mode):
    spectra, kernels = operands(device)
    kernels[mode] = kernels[mode].to("meta")
    expected = rf"mode {mode + 1} .*expected the device of the spectra {spectra.device}, got meta"
    with pytest.raises(ValueError, match=expected):
        ops.reconstruct(spectra, kernels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@entries
def test_operands_on_the_cpu_beside_spectra_on_cuda(run):
    spectra, kernels = operands("cuda")
    with refused(run, "mode 3 .*expected the device of the spectra", "kernel3"):
        run(spectra, [*kernels[:2], kernels[2].cpu(), kernels[3]])
    with refused(run, "index: expected the device of the spectra", "index"):
        run(spectra, kernels, torch.zeros(1, dtype=torch.int64))


@entries
@pytest.mark.parametrize("mode", range(1, 4))
def test_kernel_sets_disagree(device, run, mode):
    spectra, kernels = operands(device)
    kernels[mode] = spectra.new_zeros(4, T[mode], U[mode])
    with refused(run, rf"mode {mode + 1} .*expected N_K = 3 .*got 4", r"kernel\d"):
        run(spectra, kernels)


@entries
@pytest.mark.parametrize("mode", range(4))
def test_empty_mode(device, run, mode):
    spectra, kernels = operands(device)
    shape = list(spectra.shape)
    shape[mode + 1] = 0
    with refused(run, rf"mode {mode + 1} .*expected a size of at least 1", "spectra"):
        run(spectra.new_zeros(shape), [None] * 4)
    kernels[mode] = spectra.new_zeros(3, T[mode], 0)
    with refused(run, rf"mode {mode + 1} .*expected sizes of at least 1, got", f"kernel{mode + 1}"):
        run(spectra, kernels)


@entries
def test_wrong_spectra(device, run):
    spectra, kernels = operands(device)
    with refused(run, r"expected 5 dimensions .*got \[2, 3, 4, 5\]", "spectra"):
        run(spectra[0], kernels)
    with refused(run, "expected dtype float32 or float64, got", "spectra"):
        run(spectra.half(), kernels)
    with refused(run, r"at least one spectrum tensor, got \[0, ", "spectra"):
        run(spectra[:0], kernels)


@entries
def test_wrong_index(device, run):
    spectra, kernels = operands(device)
    with refused(run, r"index: expected 1 dimension, got \[1, 1\]", "index"):
        run(spectra, kernels, torch.zeros(1, 1, dtype=torch.int64, device=device))
    with refused(run, "index: expected dtype int64", "index"):
        run(spectra, kernels, torch.zeros(1, dtype=torch.int32, device=device))


@entries
def test_index_out_of_range_on_the_cpu(run):
    spectra, kernels = operands()
    for wrong in (-1, 18):
        expected = rf"index: expected entries in \[0, 18\), got {wrong} at position 1"
        with pytest.raises(ValueError, match=expected):
            run(spectra, kernels, torch.tensor([0, wrong]))


def test_wrong_device_of_the_index(device):
    spectra, kernels = operands(device)
    expected = f"index: expected the device of the spectra {spectra.device}, got meta"
    with pytest.raises(ValueError, match=expected):
        ops.reconstruct(spectra, kernels, torch.zeros(1, dtype=torch.int64, device="meta"))


def test_wrong_number_of_kernels():
    spectra, kernels = operands()
    with pytest.raises(ValueError, match="expected four tensors or None, one per mode, got 3"):
        ops.reconstruct(spectra, kernels[:3])


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((17, *U[1:]), torch.float32), ((18, 14, 6), torch.float32), ((18, *U[1:]), torch.float64)],
)
def test_wrong_gradient_of_the_images(device, shape, dtype):
    spectra, kernels = operands(device)
    expected = (
        r"grad_images: expected shape \[18, 2, 6, 7\] with the right dtype and device, "
        rf"got \[{', '.join(map(str, shape))}\]"
    )
    with pytest.raises(ValueError, match=expected):
        NATIVE.reconstruct_backward(
            torch.zeros(shape, dtype=dtype, device=device), spectra, *kernels, None, 1
        )


def test_gradient_of_an_identity(device):
    spectra, kernels = operands(device)
    kernels[1] = None
    with pytest.raises(ValueError, match="wanted: there is no kernel2"):
        NATIVE.reconstruct_backward(spectra.new_zeros(18, 3, 6, 7), spectra, *kernels, None, 4)


def test_wrong_tangent():
    spectra, kernels = operands()
    with pytest.raises(ValueError, match=r"kernels_t of mode 3 \(height\): expected shape \[3, 4"):
        ops.reconstruct_jvp(spectra, kernels, None, [None, None, torch.zeros(1), None])
    with pytest.raises(
        ValueError, match="spectra_t: expected shape .* torch.float32 on cpu, got .*float64"
    ):
        ops.reconstruct_jvp(spectra, kernels, spectra.double(), [None] * 4)
    with pytest.raises(ValueError, match="spectra_t: expected shape .* on cpu, got .* on meta"):
        ops.reconstruct_jvp(spectra, kernels, spectra.to("meta"), [None] * 4)
    with pytest.raises(ValueError, match="spectra_t: expected shape"):
        ops.reconstruct_jvp(spectra, kernels, torch.zeros(1), [None] * 4)


def test_fake_tensors_refuse_the_same():
    spectra, kernels = operands()
    kernels[2] = torch.zeros(3, 9, 6)
    with torch._subclasses.FakeTensorMode() as mode:
        fakes = [mode.from_tensor(x) for x in (spectra, *kernels)]
        with pytest.raises(ValueError, match=r"mode 3 \(height\): expected t3 = 4 rows"):
            NATIVE.reconstruct(*fakes, None)


def test_index_out_of_range_is_nan_and_has_no_gradient_off_the_cpu(implementation):
    if implementation.name == "cpu":
        pytest.skip("the CPU raises, see test_index_out_of_range_on_the_cpu")
    spectra, kernels = operands(implementation.device)
    spectra, kernels = spectra + 1, [k + 1 for k in kernels]
    index = torch.tensor([5, -1, 18, 2**40], device=implementation.device)
    images = implementation.forward([spectra, *kernels], index)
    assert images[0].isfinite().all() and images[1:].isnan().all()
    grads = implementation.backward(torch.ones_like(images), [spectra, *kernels], index, 31)
    alone = implementation.backward(torch.ones_like(images[:1]), [spectra, *kernels], index[:1], 31)
    assert all(map(torch.equal, grads, alone))
