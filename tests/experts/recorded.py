"""Small recordings of experts, for the tests of what records, keeps and imports them."""

from nsdbench import data, experts
from nsdbench.experts import buffer

DATASET = "synthetic:3x1x8x8@10+2"  # 30 images: with batches of 8, the last one has 6
ARCH = "convnet1-w4"
RECIPE = experts.ExpertRecipe(num_experts=2, epochs=3, batch_size=8, lr=0.05)


def record(root, dataset, recipe=RECIPE, arch=ARCH, seed=0, **options):
    preprocessing = data.preprocessing("standardise", dataset)
    run = experts.Run(**options)
    return experts.record(dataset, preprocessing, arch, recipe, seed=seed, root=root, run=run)


def content(found):
    return (found.path / buffer.TRAJECTORIES).read_bytes()


class Killed(Exception):
    pass
