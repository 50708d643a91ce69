"""A coreset of typical images: those nearest to the mean image of their class, no network needed.

An example, and no method that anybody proposed.
"""

import torch

from nsdbench.plugin import CoresetFamily, CoresetSettings, SelectionTask


def select(task: SelectionTask, settings: CoresetSettings) -> torch.Tensor:
    """Take the `ipc` images of every class with the smallest distance to its mean image."""
    chosen = []
    for label in range(task.real.num_classes):
        rows = task.real.rows_of_class(label)
        images = task.real.batch(rows)[0].flatten(1).double().cpu()
        distances = (images - images.mean(dim=0)).norm(dim=1)
        chosen.append(rows[distances.argsort(stable=True)[: task.ipc]])
    return torch.cat(chosen)


FAMILY = CoresetFamily(CoresetSettings, "nsdbench_example.near_mean:select")
