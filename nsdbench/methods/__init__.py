"""Methods as TOML files: read them, and resolve one to the recipe of a cell.

A file `<name>.toml` holds a method:

    name = "nsd"                 # equals the file's name
    title = "NSD"                # as reports print it
    kind = "distillation"        # distillation | coreset | full
    extends = "mtt"              # optional: all blocks of that method come first
    source = "..."               # citation

    [[settings]]                 # blocks apply in order, later matching blocks override key by key;
                                 # another objective or parameterization starts its section afresh
    source = "paper, sec. 4.1"   # where the values of this block come from; required
    [settings.objective]         # every key but `when` and `source` is a section
    syn_steps = 50

    [[settings]]
    when = { scale = "smoke", ipc = [1, 10] }     # a value or a list; without = always
    source = "our choice: ..."
    [settings.optimiser]
    iterations = 200

Files come from this folder, from the folders of the environment variable NSDBENCH_METHODS and from
installed packages (entry points of the group nsdbench.methods, see `registry`).
What a file may say is in `schema`; a variant, "nsd+objective.guided_weight=0.1", is a method with
settings of its own (`variants`).
A method that no file describes is `NotImplementedYet`; a file that is wrong is a ValueError that
names the file and the key.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
