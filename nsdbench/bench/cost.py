"""Estimate what a cell will cost before it runs: time, memory, stored size.

Time counts arithmetic and a fixed cost per training step:

    seconds = flops / (rate * cores) + steps * overhead

and, of exact kernels, the bytes that they move through memory. Objectives, parameterizations and
coresets price themselves, see their families. Forward flops come from the closed form of
`models.sizes`. The rate is a round figure for narrow networks on one CPU core; expect the truth
within a factor of three either way. That of a GPU is measured if somebody asked for it
(`calibration`), else a guess. The display of a run corrects the time left by how long
finished cells really took, and by the pace of those under way.
"""

from dataclasses import dataclass
from math import prod

from nsdbench import coresets
from nsdbench.data import DatasetSpec
from nsdbench.distillation import objectives
from nsdbench.distillation.objectives.registry import TRAINING_PASSES
from nsdbench.evaluation.protocols import Protocol
from nsdbench.experts import student_arch
from nsdbench.methods import Recipe
from nsdbench.models.sizes import NetworkSize, network_size
from nsdbench.sets import parameterizations
from nsdbench.sets.budget import Budget

FLOPS_PER_CORE = 8e10  # measured: 5e10 to 1.6e11 on ConvNets of width 32, natively, AVX-512
BYTES_PER_CORE = 4e8  # measured: exact kernels, whose angles take as long as their bytes
SECONDS_PER_STEP = 2e-3  # measured: an augmented step of a small ConvNet, beside arithmetic
# Our choice for a GPU that was not measured: a third of what a mid-range one of 2018 promises to
# compute, half of what a data-centre one promises to move.
FLOPS_PER_GPU, BYTES_PER_GPU = 5e12, 1e12
PROCESS_BYTES = 400 * 2**20  # measured: Python with torch loaded
_UNKNOWN_TRAIN_SIZE = 13_000  # ImageNet subsets: about 1,300 images in each of 10 classes


@dataclass(frozen=True)
class Rates:
    """How fast a device is: flops and moved bytes a second, seconds of a step besides."""

    flops: float
    moved_bytes: float
    step_seconds: float

    @classmethod
    def of_cores(cls, cores: int) -> "Rates":
        """Return those of some cores of a CPU."""
        return cls(FLOPS_PER_CORE * cores, BYTES_PER_CORE * cores, SECONDS_PER_STEP)


GPU = Rates(FLOPS_PER_GPU, BYTES_PER_GPU, SECONDS_PER_STEP)  # one that was not calibrated


@dataclass(frozen=True)
class Work:
    """Arithmetic and steps of one phase; phases of equal key are done once for all cells."""

    phase: str
    key: tuple
    flops: float
    steps: int
    moved_bytes: float = 0.0

    def seconds(self, rates: Rates) -> float:
        """Return the estimated time on a device."""
        arithmetic, moving = self.flops / rates.flops, self.moved_bytes / rates.moved_bytes
        return arithmetic + moving + self.steps * rates.step_seconds


@dataclass(frozen=True)
class Estimate:
    """Predicted work by phase, peak memory and stored size of a cell (None: nothing is stored).

    `excess_ipc` is set where more is stored than Eq. 3 allows: images per class of that size.
    `judging_bytes` and `distilling_bytes` are what a step keeps; the larger one is in the peak.
    """

    work: tuple[Work, ...]
    peak_bytes: float
    stored_bytes: float | None
    num_images: int
    excess_ipc: float | None = None
    judging_bytes: float = 0.0
    distilling_bytes: float = 0.0


def judging_bytes(size: NetworkSize, batch: int) -> float:
    """Predict the bytes of a training step: activations and gradients, parameters four times."""
    return 4.0 * (2 * batch * size.activations + 4 * size.parameters)


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
    judge = network_size(protocol.network(arch), spec.image_shape, spec.num_classes)
    limit = 4.0 * ipc * spec.num_classes * image_floats
    stored: float | None = limit
    num_images = ipc * spec.num_classes
    work: list[Work] = []
    distilling = 0.0  # bytes
    if recipe.kind == "full":
        stored, num_images = None, train_size
    elif recipe.kind == "distillation":
        shape = parameterizations.plan(recipe.values["parameterization"], spec, ipc)
        stored, num_images = 4.0 * shape.num_elements, shape.num_images
        decoding = _decoding_work(recipe, spec, ipc, train_size)
        if decoding.making_steps:
            made = ("prior", spec.name, decoding.making_key)
            work.append(Work("prior", made, decoding.making_flops, decoding.making_steps))
        work += _experts_work(recipe, spec, train_size)
        step, distilling = _distillation_work(recipe, spec, ipc, num_images, seeds, decoding)
        work.append(step)
    else:
        work += _experts_work(recipe, spec, train_size, seeds)
        work += _selection_work(recipe, spec, ipc, train_size, seeds)
    steps = protocol.total_steps(num_images)
    batch = min(protocol.batch_size, num_images)
    runs = seeds * repeats
    key = ("evaluate", spec.name, ipc, recipe.method, arch, protocol.name, recipe.hash)
    flops = runs * steps * batch * TRAINING_PASSES * judge.flops
    work.append(Work("evaluate", key, flops, runs * steps))
    training = judging_bytes(judge, batch)
    data = 5.0 * train_size * image_floats  # pixels as bytes and as floats
    return Estimate(
        tuple(work),
        PROCESS_BYTES + data + max(training, distilling),
        stored,
        num_images,
        ipc * stored / limit if stored is not None and stored > limit else None,
        training,
        distilling,
    )


def _experts_work(
    recipe: Recipe, spec: DatasetSpec, train_size: int, buffers: int = 1
) -> list[Work]:
    """Count the training of the experts; one buffer serves all ipc and methods that share it.

    A coreset has a buffer for every seed. Imported experts (`buffer`) are not trained.
    """
    settings = recipe.values.get("experts")
    if not settings or "buffer" in settings:
        return []
    images = buffers * settings.get("num_experts", 0) * settings.get("epochs", 0) * train_size
    steps = images // settings.get("batch_size", 256)
    preprocessing = recipe.values.get("data", {}).get("preprocessing")
    described = tuple(sorted((key, str(value)) for key, value in settings.items()))
    key = ("experts", spec.name, preprocessing, student_arch(recipe, spec), described, buffers)
    passes = TRAINING_PASSES * (2 if settings.get("optimiser") == "gsam" else 1)
    return [Work("experts", key, images * passes * _student(recipe, spec).flops, steps)]


def _decoding_work(
    recipe: Recipe, spec: DatasetSpec, ipc: int, train_size: int
) -> parameterizations.DecodingWork:
    """Count what decoding costs besides, of a step and before all steps."""
    family, settings = parameterizations.read(recipe.values["parameterization"])
    return family.work(settings, Budget(spec.image_shape, spec.num_classes, ipc), train_size)


def _distillation_work(
    recipe: Recipe,
    spec: DatasetSpec,
    ipc: int,
    num_images: int,
    seeds: int,
    decoding: parameterizations.DecodingWork,
) -> tuple[Work, float]:
    """Count the outer loop, and the bytes that one of its steps keeps."""
    family, settings = objectives.read(recipe.values["objective"])
    step = family.work(settings, num_images, spec.num_classes)
    iterations = seeds * recipe.values["optimiser"]["iterations"]
    student = _student(recipe, spec)
    key = ("distill", spec.name, ipc, recipe.method, recipe.hash, seeds)
    flops = iterations * (step.passes * student.flops + decoding.flops)
    kept = step.kept_parameters * student.parameters + step.kept_images * student.activations
    kernel = objectives.kernel_work(recipe, spec, num_images)
    moved = iterations * kernel.moved_bytes
    work = Work("distill", key, flops, int(iterations * step.steps), moved)
    return work, 4.0 * (kept + decoding.kept) + kernel.kept_bytes


def _selection_work(
    recipe: Recipe, spec: DatasetSpec, ipc: int, train_size: int, seeds: int
) -> list[Work]:
    """Count what a coreset looks at after its networks are trained."""
    family, _ = coresets.read(recipe.values["coreset"])
    if not family.passes:
        return []
    key = ("distill", spec.name, ipc, recipe.method, recipe.hash, seeds)
    flops = seeds * family.passes * train_size * _student(recipe, spec).flops
    return [Work("distill", key, flops, 0)]


def _student(recipe: Recipe, spec: DatasetSpec) -> NetworkSize:
    return network_size(student_arch(recipe, spec), spec.image_shape, spec.num_classes)
