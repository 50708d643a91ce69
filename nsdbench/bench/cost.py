"""Estimate what a cell will cost before it runs: time, memory, stored size.

Time counts arithmetic and a fixed cost per training step:

    seconds = flops / (rate * cores) + steps * overhead

A training step on b images costs three forward passes (forward, gradient of data, gradient of
weights). An exactly differentiated student step costs eleven: 3 to take it, 8 to differentiate it.
Forward flops come from the closed form of `models.sizes`.
The rate is a round figure for narrow networks on one CPU core; expect the truth within a factor of
three either way. `schedule` corrects the time left by how long finished cells really took.
"""

from dataclasses import dataclass
from math import prod

from nsdbench.data import DatasetSpec
from nsdbench.evaluation.protocols import Protocol
from nsdbench.experts import student_arch
from nsdbench.methods import Recipe
from nsdbench.models.sizes import NetworkSize, network_size
from nsdbench.sets import parameterizations

FLOPS_PER_CORE = 8e10  # measured: 5e10 to 1.6e11 on ConvNets of width 32, natively, AVX-512
FLOPS_PER_GPU = 5e12  # our choice: a third of what a mid-range GPU of 2018 promises
SECONDS_PER_STEP = 2e-3  # measured: an augmented step of a small ConvNet, beside arithmetic
PROCESS_BYTES = 400 * 2**20  # measured: Python with torch loaded
_STEP_PASSES, _UNROLL_PASSES = 3, 11
_UNKNOWN_TRAIN_SIZE = 13_000  # ImageNet subsets: about 1,300 images in each of 10 classes


@dataclass(frozen=True)
class Work:
    """Arithmetic and steps of one phase; phases of equal key are done once for all cells."""

    phase: str
    key: tuple
    flops: float
    steps: int

    def seconds(self, cores: int, has_gpu: bool = False) -> float:
        """Return the estimated time on that many cores, or on a GPU."""
        rate = FLOPS_PER_GPU if has_gpu else FLOPS_PER_CORE * cores
        return self.flops / rate + self.steps * SECONDS_PER_STEP


@dataclass(frozen=True)
class Estimate:
    """Predicted work by phase, peak memory and stored size of a cell (None: nothing is stored)."""

    work: tuple[Work, ...]
    peak_bytes: float
    stored_bytes: float | None
    num_images: int


def estimate(
    recipe: Recipe,
    spec: DatasetSpec,
    ipc: int,
    arch: str,
    protocol: Protocol,
    seeds: int,
    repeats: int,
) -> Estimate:
    """Predict the cost of a cell from its recipe alone.

    Raises:
        ValueError: the recipe names something unknown.
        BudgetExceeded: the recipe cannot keep the budget.
    """
    image_floats = prod(spec.image_shape)
    train_size = spec.train_size or _UNKNOWN_TRAIN_SIZE
    judge = network_size(arch, spec.image_shape, spec.num_classes)
    stored: float | None = 4.0 * ipc * spec.num_classes * image_floats
    num_images = ipc * spec.num_classes
    work: list[Work] = []
    unrolled = 0.0
    if recipe.kind == "full":
        stored, num_images = None, train_size
    elif recipe.kind == "distillation":
        settings = recipe.values
        if "parameterization" in settings:
            module = parameterizations.build(settings["parameterization"], spec, ipc)
            stored, num_images = module.ledger().stored_bits / 8, module.num_images
        student = network_size(student_arch(recipe, spec), spec.image_shape, spec.num_classes)
        work += _experts_work(recipe, spec, train_size, student)
        distilling, unrolled = _distillation_work(recipe, spec, ipc, num_images, student, seeds)
        work.append(distilling)
    elif "experts" in recipe.values:  # a coreset chosen by networks of its own for every seed
        network = network_size(student_arch(recipe, spec), spec.image_shape, spec.num_classes)
        work += _experts_work(recipe, spec, train_size, network, seeds)
        if not recipe.values["experts"].get("keeps_correctness"):  # it embeds every image
            key = ("distill", spec.name, ipc, recipe.method, recipe.hash, seeds)
            work.append(Work("distill", key, seeds * train_size * network.flops, 0))
    steps = protocol.total_steps(num_images)
    batch = min(protocol.batch_size, num_images)
    runs = seeds * repeats
    key = ("evaluate", spec.name, ipc, recipe.method, arch, protocol.name, recipe.hash)
    flops = runs * steps * batch * _STEP_PASSES * judge.flops
    work.append(Work("evaluate", key, flops, runs * steps))
    training = 4.0 * (2 * batch * judge.activations + 4 * judge.parameters)
    data = 5.0 * train_size * image_floats  # pixels as bytes and as floats
    return Estimate(tuple(work), PROCESS_BYTES + data + max(training, unrolled), stored, num_images)


def _experts_work(
    recipe: Recipe, spec: DatasetSpec, train_size: int, network: NetworkSize, buffers: int = 1
) -> list[Work]:
    """Count the training of the experts; one buffer serves all ipc and methods that share it.

    Imported ones (`buffer`) are not trained.
    """
    settings = recipe.values.get("experts")
    if not settings or "buffer" in settings:
        return []
    images = buffers * settings.get("num_experts", 0) * settings.get("epochs", 0) * train_size
    steps = images // settings.get("batch_size", 256)
    preprocessing = recipe.values.get("data", {}).get("preprocessing")
    described = tuple(sorted((key, str(value)) for key, value in settings.items()))
    key = ("experts", spec.name, preprocessing, student_arch(recipe, spec), described, buffers)
    passes = _STEP_PASSES * (2 if settings.get("optimiser") == "gsam" else 1)
    return [Work("experts", key, images * passes * network.flops, steps)]


def _classwise_work(
    recipe: Recipe, spec: DatasetSpec, ipc: int, num_images: int, student: NetworkSize, seeds: int
) -> tuple[Work, float]:
    """Count the outer loop of DM, DC or IDC, and the bytes that one class keeps.

    Real images are seen by a forward pass (DM) or a gradient, decoded ones by a gradient or by a
    gradient and its adjoint. Between outer steps networks train on all decoded images (DC) or on
    real ones (IDC).
    """
    objective, optimiser = recipe.values["objective"], recipe.values["optimiser"]
    iterations = seeds * optimiser["iterations"]
    is_gradient = objective["name"] != "distribution"
    passes = spec.num_classes * objective["real_batch"] * (_STEP_PASSES if is_gradient else 1)
    limit = spec.num_classes * (objective.get("batch_syn") or num_images)
    passes += min(num_images, limit) * (_UNROLL_PASSES if is_gradient else _STEP_PASSES)
    steps = 2.0 * spec.num_classes
    trained = 0.0
    if objective["name"] == "gradient":
        trained = objective["inner_epochs"] * (1 - 1 / objective["outer_loops"]) * num_images
        steps += trained / min(objective["batch_network"], num_images)
    elif objective["name"] == "conv-gradient":
        trained = objective["real_images_network"] * (1 - 1 / objective["inner_loops"])
        steps += trained / objective["batch_network"]
    passes += trained * _STEP_PASSES
    key = ("distill", spec.name, ipc, recipe.method, recipe.hash, seeds)
    work = Work("distill", key, iterations * passes * student.flops, int(iterations * steps))
    batch = max(3 * objective["real_batch"], 6 * min(num_images, limit) // spec.num_classes)
    kept = 4.0 * (4 * student.parameters + batch * student.activations)
    return work, kept


def _distillation_work(
    recipe: Recipe, spec: DatasetSpec, ipc: int, num_images: int, student: NetworkSize, seeds: int
) -> tuple[Work, float]:
    """Count the outer loop, and the bytes that one unrolled student keeps."""
    objective, optimiser = recipe.values.get("objective", {}), recipe.values.get("optimiser", {})
    iterations = seeds * optimiser.get("iterations", 0)
    if objective.get("name") in ("distribution", "gradient", "conv-gradient"):
        return _classwise_work(recipe, spec, ipc, num_images, student, seeds)
    inner = objective.get("syn_steps", 1)
    batch = min(objective.get("batch_syn") or num_images, num_images)
    passes = inner * batch * _UNROLL_PASSES
    if objective.get("guided_weight"):
        passes += objective.get("real_batch", 0) * _STEP_PASSES
    key = ("distill", spec.name, ipc, recipe.method, recipe.hash, seeds)
    work = Work("distill", key, iterations * passes * student.flops, 2 * iterations * inner)
    kept = 4.0 * (inner * student.parameters + 6 * batch * student.activations)
    return work, kept
