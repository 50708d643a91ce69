"""Every wrong operand of `dsa` is a ValueError that says what was expected and what came."""

import pytest
import torch

from nsdbench import ops
from nsdbench.ops.backend import operators
from nsdbench.ops.dsa import OPERATIONS, PARAMETERS

NATIVE = operators()
ROTATE = OPERATIONS.index("rotate")


def operands(device="cpu"):
    images = torch.zeros(4, 3, 8, 8, device=device)
    return images, images.new_zeros(4, 1, dtype=torch.float64)


def through_wrapper(images, parameters):
    return ops.dsa(images, "rotate", parameters)


def through_tangent(images, parameters):
    return ops.dsa_jvp(images, "rotate", parameters)


def through_transpose(images, parameters):
    return ops.dsa_backward(images, "rotate", parameters)


def through_operator(images, parameters):
    return NATIVE.dsa(images, ROTATE, parameters, True, False)


def through_backward(images, parameters):
    return NATIVE.dsa_backward(images, ROTATE, parameters, True)


def through_fake(images, parameters):
    with torch._subclasses.FakeTensorMode() as mode:
        return through_operator(mode.from_tensor(images), mode.from_tensor(parameters))


entries = pytest.mark.parametrize(
    "run",
    [
        through_wrapper,
        through_tangent,
        through_transpose,
        through_operator,
        through_backward,
        through_fake,
    ],
)


@entries
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 3, 8, 8)])
def test_wrong_number_of_dimensions(device, run, shape):
    images, parameters = operands(device)
    sizes = ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=rf"dsa: .*expected 4 dimensions.*got \[{sizes}\]"):
        run(images.new_zeros(shape), parameters)


@entries
def test_wrong_dtype_of_the_images(device, run):
    images, parameters = operands(device)
    with pytest.raises(ValueError, match="expected .*float"):
        run(images.to(torch.uint8), parameters)


@pytest.mark.parametrize("run", [through_operator, through_backward, through_fake])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_compiled_operator_refuses_other_floats(device, run, dtype):
    images, parameters = operands(device)
    with pytest.raises(ValueError, match="expected .*float32 or float64, got"):
        run(images.to(dtype), parameters)


@pytest.mark.parametrize("run", [through_wrapper, through_tangent, through_transpose])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_twin_serves_other_floats(device, run, dtype):
    images, parameters = operands(device)
    assert run(images.to(dtype), parameters).dtype == dtype


@entries
@pytest.mark.parametrize("shape", [(3, 1), (4, 2), (4,), (4, 1, 1), (0, 1)])
def test_wrong_shape_of_the_parameters(device, run, shape):
    images, parameters = operands(device)
    sizes = ", ".join(map(str, shape))
    expected = rf"parameters: expected shape \[[41].*, 1\] .*, got \[{sizes}\]"
    with pytest.raises(ValueError, match=expected):
        run(images, parameters.new_zeros(shape))


@pytest.mark.parametrize("operation", [*OPERATIONS, "identity"])
def test_every_operation_knows_its_number_of_parameters(device, operation):
    images, columns = torch.zeros(2, 3, 8, 8, device=device), len(PARAMETERS[operation])
    right, wrong = (
        images.new_ones(2, count, dtype=torch.float64) for count in (columns, columns + 1)
    )
    ops.dsa(images, operation, right)
    expected = rf"\[2 or 1, {columns}\] for {operation}, got \[2, {columns + 1}\]"
    with pytest.raises(ValueError, match=expected):
        ops.dsa(images, operation, wrong)
    if operation != "identity":
        number = OPERATIONS.index(operation)
        brief = rf"parameters: expected shape \[2, {columns}\]"
        with pytest.raises(ValueError, match=brief):
            NATIVE.dsa(images, number, wrong, True, False)
        with pytest.raises(ValueError, match=brief):
            NATIVE.dsa_backward(images, number, wrong, True)


@entries
def test_wrong_dtype_of_the_parameters(device, run):
    images, parameters = operands(device)
    with pytest.raises(ValueError, match="parameters: expected .*dtype"):
        run(images, parameters.float())


@pytest.mark.parametrize("run", [through_wrapper, through_tangent, through_transpose])
def test_wrong_device_of_the_parameters(device, run):
    images, parameters = operands(device)
    expected = f"expected the device of the images {images.device}, got meta"
    with pytest.raises(ValueError, match=expected):
        run(images, parameters.to("meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "run", [through_wrapper, through_tangent, through_transpose, through_operator, through_backward]
)
def test_parameters_on_the_cpu_beside_images_on_cuda(run):
    images, parameters = operands("cuda")
    with pytest.raises(ValueError, match="parameters: expected .*device"):
        run(images, parameters.cpu())


@pytest.mark.parametrize("run", [through_wrapper, through_tangent, through_transpose])
def test_parameters_are_not_learned(run):
    images, parameters = operands()
    with pytest.raises(ValueError, match="expected drawn numbers, got a tensor that requires a gr"):
        run(images, parameters.requires_grad_())


@pytest.mark.parametrize("run", [through_wrapper, through_operator, through_backward])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_parameters_that_are_not_finite(run, value):
    images, parameters = operands()
    parameters[2] = value
    with pytest.raises(ValueError, match=rf"expected finite numbers, got -?{abs(value)} for image"):
        run(images, parameters)


@pytest.mark.parametrize("name", ["noise", "", "Color"])
def test_unknown_operation(name):
    images, parameters = operands()
    with pytest.raises(ValueError, match=f"expected one of color, .*, identity, got '{name}'"):
        ops.dsa(images, name, parameters)


@pytest.mark.parametrize("number", [-1, 6])
def test_unknown_number_of_an_operation(device, number):
    images, parameters = operands(device)
    with pytest.raises(ValueError, match=f"operation: expected a number from 0 to 5, got {number}"):
        NATIVE.dsa(images, number, parameters, True, False)
    with pytest.raises(ValueError, match=f"operation: expected a number from 0 to 5, got {number}"):
        NATIVE.dsa_backward(images, number, parameters, True)
