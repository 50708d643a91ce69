"""Which network a recipe trains, as expert and as student."""

from nsdbench import models
from nsdbench.data import DatasetSpec
from nsdbench.methods import Recipe


def student_arch(recipe: Recipe, spec: DatasetSpec) -> str:
    """Return the id of the network a recipe distils with, at the data set's depth if it has one.

    Raises:
        ValueError: there is no such network; or it is a user's own, named without the digest of its
            source, or with that of another version.
    """
    network = recipe.values["network"]
    known = models.NETWORKS.get(network["name"])
    depth = spec.default_depth if known is not None and known.depth is not None else None
    return models.arch_id(
        network["name"],
        network.get("depth", depth),
        network["width"],
        network.get("norm", "instance_norm"),
    )
