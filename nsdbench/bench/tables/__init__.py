"""The published tables as data: their rows, their columns at every scale, and the printed numbers.

A file `<name>.toml` declares a table:

    name = "table1"                # equals the file's name
    title = "..."
    source = "..."                 # where it was published
    published = "table1.csv"       # printed numbers, in results/paper/; optional
    footnotes = ["..."]            # what a reader of the numbers has to know
    axes = ["parameterization.t3", "parameterization.t1"]   # optional: settings to draw it over

    [[rows]]
    label = "Random"               # as in the CSV
    family = "coreset"
    method = "random"              # of a file, or of our tables ("not implemented")
    set = { "objective.guided_weight" = 0.1 }     # optional: settings that replace the method's
    grid = { "optimiser.lr_syn" = [10, 30] }      # optional: a sweep, a row for every combination
    seeds = 3                      # optional: instead of the scale's
    when = { scale = "small", ipc = [1, 10] }     # optional: the columns the row has cells in
    protocol = "dc"                # optional: instead of the scale's
    published_protocol = "..."     # how the printed number was evaluated; default "common"
    note = "..."                   # optional: a footnote of this row
    # or, instead of `method`: a difference of two rows
    derived = { minus = ["DC w. ours", "DC"] }

    [scales.smoke]
    protocol = "common-150ep"
    full_protocol = "full-20ep"    # of the row whose method is "full", if there is one
    seeds = 3                      # distilled or drawn sets per cell
    repeats = 1                    # networks per set
    full_repeats = 3               # networks trained on the full data
    note = "..."                   # optional: what was reduced
    columns = [{ dataset = "Digits16", ipc = 1, arch = "convnet2-w32" }]

A figure of real images has no rows, and at a scale nothing but
    similarity = { dataset = "Digits", label = 0, num_images = 100 }    # training images of a class

A column may add `published_arch` where the paper names another network than the one we take it for.
Further folders come from the environment variable NSDBENCH_TABLES.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
