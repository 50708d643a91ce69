"""The public interface for packages that add methods and their parts, networks, data or protocols.

A package enters each of them in its `pyproject.toml`, by the name that recipes and the command line
use:

    group nsdbench.objectives          an `ObjectiveFamily`
    group nsdbench.parameterizations   a `ParameterizationFamily`
    group nsdbench.coresets            a `CoresetFamily`
    group nsdbench.priors              a `PriorFamily`
    group nsdbench.methods             the package whose folder holds method files (TOML)
    group nsdbench.networks            what builds a network, "package.module:Factory"
    group nsdbench.datasets            a `DatasetFamily`
    group nsdbench.protocols           a `Protocol`

A family says which settings a recipe may give (a `Settings` model with types and ranges), what it
costs, and, as text "module:attribute", what makes the thing:

    objective            target(context: ObjectiveContext, settings) -> Objective
                         work(settings, num_images, num_classes) -> StepWork
    parameterization     plan(settings, budget: Budget) -> Shape
                         target(shape) -> Parameterization
                         shape(**settings of an artefact) -> Shape
                         work(settings, budget, train_size) -> DecodingWork, if it is to be priced
    coreset              target(task: SelectionTask, settings) -> row numbers
                         passes: of every training image through the network
    prior                target(context: PriorContext, settings) -> GeneratorPrior
                         sizes(settings, image_shape, num_classes) -> PriorSizes
                         making(settings, sizes, image_shape, train_size) -> (flops, steps), if it
                         is trained
    network              factory(*, in_channels, image_size, num_classes, width, depth, norm) ->
                         torch.nn.Module, which maps images to logits; the last three may be absent
    data set             spec, and a source: read(folder, spec, "train" or "test") -> Split

Where the family stands in a module that needs no torch, plans and lists need none either. These
names stay; other modules may move. Every name is loaded when it is first asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub("nsdbench", __file__)
