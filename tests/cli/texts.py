"""A table, methods and a cell that tests of the command line work on."""

TABLE = """
name = "mine"
title = "Mine"
source = "nobody"
[[rows]]
label = "Random"
family = "coreset"
method = "random"
[[rows]]
label = "Dream"
family = "ours"
method = "dream"
[scales.smoke]
protocol = "common-2ep"
seeds = 2
repeats = 1
columns = [{ dataset = "Digits16", ipc = 1, arch = "convnet1-w8" }]
[scales.paper]
protocol = "common"
seeds = 1
repeats = 5
columns = [{ dataset = "ImageNette", ipc = 1, arch = "convnet5-w128" }]
"""
TINY = """
name = "tiny"
title = "Tiny"
extends = "nsd"
[[settings]]
source = "test"
network = { width = 8, depth = 1 }
experts = { num_experts = 1, epochs = 2, batch_size = 8 }
parameterization = { num_kernel_sets = 1 }
[settings.objective]
syn_steps = 2
expert_epochs = 1
max_start_epoch = 2
lr_inner = 0.02
batch_syn = 6
[settings.optimiser]
iterations = 50
lr_syn = 1.0
lr_kernels = 0.1
lr_lr = 1e-5
"""
SET = (
    "distill --method tiny --dataset synthetic:3x1x8x8@8+4 --ipc 4 --out OUT --set "
    "experts.epochs=2 --set "
)
ODD = """
name = "odd"
title = "Odd"
kind = "distillation"
source = "nobody"
[[settings]]
source = "replaced for all cells by the next block"
parameterization = { name = "lace" }
[[settings]]
source = "test"
parameterization = { name = "pixels" }
[[settings]]
when = { scale = "paper" }
source = "test"
parameterization = { name = "quilt" }
"""
CELL_ID = "Digits16-ipc1-random-convnet1-w8-common-2ep"
