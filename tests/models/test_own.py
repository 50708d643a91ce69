"""A user's own networks: found, versioned, checked at the door, drawn by a seed, and judged."""

import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nsdbench import models, registry
from nsdbench.models import own

ROOT = Path(__file__).parents[2]
SIZES = {"in_channels": 1, "image_size": 16, "num_classes": 10}
NET = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, in_channels, image_size, num_classes, width=8, depth=1, norm="none"):
            super().__init__()
            self.chosen = (width, depth, norm)
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, width))
            self.head = nn.Linear(width, num_classes)
            self.slope = nn.PReLU()

        def forward(self, x):
            return self.head(self.slope(self.body(x)))

    def whatever_it_takes(**sizes):
        return Net(**sizes)

    def with_statistics(in_channels, image_size, num_classes):
        return nn.Sequential(
            nn.BatchNorm2d(in_channels), nn.Flatten(),
            nn.Linear(in_channels * image_size**2, num_classes),
        )
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a file of networks; the working folder is its folder."""
    monkeypatch.chdir(tmp_path)

    def writer(code, name="mine.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(code))
        return name

    return writer


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("convnet,resnet18-w16", ["convnet", "resnet18-w16"]),
        ("a,b/net.py:Net", ["a,b/net.py:Net"]),
        ("convnet, a,b/net.py:Net~0123456789ab-d2-w4-bn ,mlp",
         ["convnet", "a,b/net.py:Net~0123456789ab-d2-w4-bn", "mlp"]),
        ("mine.py:Net,a,b/net.py:Net,a,b/net.py:Wide", ["mine.py:Net", "a,b/net.py:Net",
                                                       "a,b/net.py:Wide"]),
        ("absent.py:Net,mine.py:Net", ["absent.py:Net", "mine.py:Net"]),
        ("a,c/net.py:Net,", ["a", "c/net.py:Net", ""]),
        ("", [""]),
    ],
)  # fmt: skip
def test_a_list_is_split_at_commas_but_those_in_the_path_of_a_file(write, text, ids):
    write(NET)
    write(NET, "a,b/net.py")
    assert own.split_list(text) == ids


def digest(code):
    return hashlib.sha256(textwrap.dedent(code).encode()).hexdigest()[:12]


def test_an_id_names_the_file_and_a_digest_of_its_source(write, tmp_path):
    write(NET, "nets/mine.py")
    spec = SimpleNamespace(default_depth=3)
    full = f"nets/mine.py:Net~{digest(NET)}"
    whole = f"{tmp_path}/nets/mine.py:Net"
    for text in ("nets/mine.py:Net", "./nets/../nets/mine.py:Net", full, whole):
        assert models.resolve_id(text, spec) == full
    assert models.resolve_id("nets/mine.py:Net-d2-w64-bn", spec) == f"{full}-d2-w64-bn"
    assert models.parse_id(f"{full}-d2-w64-bn") == (full, 2, 64, "batch_norm")
    assert models.parse_id(full) == (full, None, None, "instance_norm")
    for identifier in (full, f"{full}-w64", f"{full}-d2-nonorm"):
        assert models.arch_id(*models.parse_id(identifier)) == identifier
    write(NET + "    # another version\n", "nets/mine.py")
    assert models.resolve_id("nets/mine.py:Net", spec) != full
    with pytest.raises(ValueError, match="has changed: its source is version ~.*leave the digest"):
        models.from_id(full, **SIZES)


def test_the_factory_gets_what_the_id_says_and_keeps_its_defaults(write):
    write(NET)
    assert models.from_id("mine.py:Net", **SIZES).network.chosen == (8, 1, "none")
    model = models.from_id("mine.py:Net-d2-w64-bn", **SIZES)
    assert model.network.chosen == (64, 2, "batch_norm")
    assert models.from_id("mine.py:whatever_it_takes-w5", **SIZES).network.chosen == (5, 1, "none")
    assert models.build("mine.py:Net", **SIZES, width=3).network.chosen[0] == 3
    with pytest.raises(ValueError, match=r"with_statistics~\w+ takes no width, got 4"):
        models.from_id("mine.py:with_statistics-w4", **SIZES)


def test_a_seed_decides_its_parameters_and_buffers_and_nothing_else(write):
    """Also those of modules that only their author can initialise."""
    write(NET)
    model, twin = (models.from_id("mine.py:Net", **SIZES) for _ in range(2))
    before = torch.get_rng_state()
    for network, seed in ((model, 3), (twin, 3)):
        models.initialize(network, torch.Generator().manual_seed(seed))
    assert torch.equal(models.flatten(model), models.flatten(twin))
    models.initialize(twin, torch.Generator().manual_seed(4))
    assert not torch.equal(models.flatten(model), models.flatten(twin))
    assert torch.equal(torch.get_rng_state(), before)
    assert [p.shape for p in model.parameters()] == [p.shape for p in model.network.parameters()]
    normed = models.from_id("mine.py:with_statistics", **SIZES)
    assert not normed.network[0].running_mean.any()  # the try at the door left no trace
    normed(torch.ones(4, 1, 16, 16))
    models.initialize(normed, torch.Generator().manual_seed(0))
    assert not normed.network[0].running_mean.any()


def test_a_seed_decides_what_its_code_draws_in_every_call(write, device):
    """Whatever else draws from the global generators, which stay where they are."""
    write("""
    import torch
    class Net(torch.nn.Linear):
        def __init__(self, in_channels, image_size, num_classes):
            super().__init__(1, num_classes)
        def forward(self, x):
            drawn = torch.rand(len(x), 10, device=x.device) + self.embed(x).to(x.device)
            return drawn + 0 * self.weight.sum()
        def embed(self, x):
            return torch.rand(len(x), 1)
    """)
    images, draws = torch.ones(3, 1, 16, 16, device=device), []
    state = torch.cuda.get_rng_state if device.type == "cuda" else torch.get_rng_state
    model = models.from_id("mine.py:Net", **SIZES).to(device)
    for seed in (3, 3, 4):
        torch.rand(7), torch.rand(7, device=device)
        before = torch.get_rng_state(), state()
        models.initialize(model, torch.Generator().manual_seed(seed))
        draws.append([model(images), model(images), model.embed(images), model.embed(images)])
        assert all(map(torch.equal, before, (torch.get_rng_state(), state())))
    assert all(map(torch.equal, draws[0], draws[1]))
    assert not any(map(torch.equal, draws[0], draws[2]))
    first, second, third, fourth = draws[0]
    assert not torch.equal(first, second) and not torch.equal(third, fourth)
    resumed = models.from_id("mine.py:Net", **SIZES).to(device)
    resumed.load_state_dict(model.state_dict())
    assert torch.equal(resumed(images), model(images)), "a checkpoint goes on with the next call"


def test_without_a_seed_its_code_draws_what_torch_draws(write):
    write("""
    import torch
    class Net(torch.nn.Linear):
        def __init__(self, in_channels, image_size, num_classes):
            super().__init__(1, num_classes)
        def forward(self, x):
            return torch.rand(len(x), self.out_features) + 0 * self.weight.sum()
    """)
    model = models.from_id("mine.py:Net", **SIZES)
    torch.manual_seed(5)
    found = model(torch.ones(3, 1, 16, 16))
    torch.manual_seed(5)
    assert torch.equal(found, torch.rand(3, 10))


def test_cost_of_a_users_network_is_counted(write):
    write(NET)
    expected = models.NetworkSize(
        flops=2 * (256 * 8 + 8 * 10),
        activations=256 + 8 + 8 + 10,  # flattened, body, slope, head
        parameters=257 * 8 + 9 * 10 + 1,
    )
    assert models.network_size("mine.py:Net", (1, 16, 16), 10) == expected


@pytest.mark.parametrize(
    ("code", "asked", "message"),
    [
        (NET, "other.py:Net", r"other.py: No such file.*expected the Python file of a network"),
        (NET, "mine.py:Nets", r"mine.py has nothing under 'Nets'; expected a factory.*mean Net"),
        ("Net = 3", "mine.py:Net", "mine.py has 3, which cannot be called"),
        ("Net = (", "mine.py:Net", r"mine.py, line 1 raised SyntaxError while it was loaded"),
        ("x = 1\nimport no_such", "mine.py:Net", "line 2 raised ModuleNotFoundError while .* load"),
        ("import sys\nsys.exit(4)", "mine.py:Net", "line 2 raised SystemExit while it was loaded"),
        (
            "def Net(channels): pass",
            "mine.py:Net",
            r"takes \(channels\): .*expected a factory \(\*, in_channels, image_size, num_classes",
        ),
        (
            "def Net(**sizes):\n    raise KeyError('oh')",
            "mine.py:Net",
            r"your code of mine.py, line 2 raised KeyError while it was built: 'oh'",
        ),
        ("def Net(**sizes): return 7", "mine.py:Net", "returned a int; expected a torch.nn.Module"),
        (
            "import torch\ndef Net(**sizes): return torch.nn.Flatten()",
            "mine.py:Net",
            "has parameters of none; expected torch.float32",
        ),
        (
            "import torch\ndef Net(**s): return torch.nn.Linear(16, s['num_classes']).double()",
            "mine.py:Net",
            "has parameters of torch.float64; expected torch.float32",
        ),
        (
            "import torch\ndef Net(**s): return torch.nn.Linear(16, s['num_classes'])",
            "mine.py:Net",
            r"maps images \[2, 1, 16, 16\] to \[2, 1, 16, 10\]; expected logits \[2, 10\]",
        ),
        (
            "import torch\ndef Net(**s): return torch.nn.Linear(15, 10)",
            "mine.py:Net",
            "your code of mine.py raised RuntimeError on two images",
        ),
        (
            """
            import torch
            class Net(torch.nn.Linear):
                def __init__(self, in_channels, image_size, num_classes):
                    super().__init__(256, num_classes)
                def forward(self, x):
                    return super().forward(x.flatten(1)) / 0
            """,
            "mine.py:Net",
            "logits that are not finite, before training",
        ),
        (
            """
            import torch
            class Net(torch.nn.Linear):
                def __init__(self, in_channels, image_size, num_classes):
                    super().__init__(256, num_classes)
                def forward(self, x):
                    return super().forward(x.flatten(1)).detach()
            """,
            "mine.py:Net",
            "gives logits without a gradient to its parameters; expected .* can be trained",
        ),
        (
            """
            from torch.nn import Flatten, Linear, Sequential
            def Net(num_classes, **sizes):
                return Sequential(Flatten(), Linear(256, num_classes)).requires_grad_(False)
            """,
            "mine.py:Net",
            "without a gradient to its parameters; .*frozen",
        ),
        (
            "import torch\ndef Net(**s): return torch.nn.LazyLinear(s['num_classes'])",
            "mine.py:Net",
            "weight has no size when the network is built; expected layers of given sizes",
        ),
        (
            "import torch\ndef Net(**s): return torch.nn.Linear(16, 10, device='meta')",
            "mine.py:Net",
            "weight has no numbers when the network is built",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, code, asked, message):
    write(code)
    with pytest.raises(ValueError, match=message) as refused:
        models.from_id(asked, **SIZES)
    assert "\n" not in str(refused.value)


def test_a_network_that_is_another_every_time_is_refused_when_it_is_drawn(write):
    write("""
    import itertools, torch
    SIZES = itertools.count(3)
    class Net(torch.nn.Linear):
        def __init__(self, in_channels, image_size, num_classes):
            super().__init__(256, num_classes)
            self.other = torch.nn.Linear(next(SIZES), 1)
        def forward(self, x):
            return super().forward(x.flatten(1))
    """)
    model = models.from_id("mine.py:Net", **SIZES)
    with pytest.raises(ValueError, match="built again, has other .*size mismatch for other.weight"):
        models.initialize(model, torch.Generator().manual_seed(0))


def test_names_that_are_no_files_are_unknown_ids():
    for text in ("mine.py", "mine.py:", "mine.py:3", "mine.py:Net-w0", "mine.txt:Net"):
        with pytest.raises(ValueError, match="unknown architecture id.*file.py:Factory"):
            models.parse_id(text)


def test_running_it_is_said(write, caplog):
    code = NET + "    # said\n"
    write(code)
    for _ in range(2):
        models.from_id("mine.py:Net", **SIZES)
    said = [message for message in caplog.messages if "running your code" in message]
    assert said == [f"running your code, with your rights: mine.py (version ~{digest(code)})"]


def test_ids_and_digests_need_no_torch(write, tmp_path):
    write(NET)
    file = tmp_path / "mine.py"
    program = (
        "import sys; from types import SimpleNamespace as S; from nsdbench import models;"
        f"print(models.resolve_id('{file}:Net-w3', S(default_depth=3)));"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"{file}:Net~{digest(NET)}-w3\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a package with an entry point of the group nsdbench.networks where Python finds it."""
    site = tmp_path / "site"
    (site / "plug_nets").mkdir(parents=True)
    (site / "plug_nets" / "__init__.py").write_text("")
    (site / "plug_nets" / "small.py").write_text(textwrap.dedent(NET))
    info = site / "plug_nets-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-nets\nVersion: 1.5\n")
    entries = (
        "small = plug_nets.small:Net\nlost = plug_nets.gone:Net\nresnet18 = plug_nets.small:Net"
    )
    (info / "entry_points.txt").write_text(f"[nsdbench.networks]\n{entries}\n")
    monkeypatch.syspath_prepend(str(site))
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plug_nets")]:
        del sys.modules[name]


def test_a_package_enters_networks_by_name(installed):
    spec = SimpleNamespace(default_depth=3)
    identifier = models.resolve_id("small-w16", spec)
    assert identifier == f"small~{digest(NET)}-w16" and "plug_nets.small" not in sys.modules
    model = models.from_id(identifier, **SIZES)
    assert model.network.chosen == (16, 1, "none")
    assert type(model.network).__module__ == "plug_nets.small"
    with pytest.raises(ValueError, match="'lost' is entered as 'plug_nets.gone:Net'"):
        models.resolve_id("lost", spec)
    with pytest.raises(
        ValueError, match="resnet18 = .* of plug-nets 1.5 adds .* nsdbench has itself"
    ):
        models.from_id("resnet18", **SIZES)


def test_embed_is_the_networks_own(write):
    write(NET + "    def embedding(in_channels, image_size, num_classes):\n"
          "        net = Net(in_channels, image_size, num_classes)\n"
          "        net.embed = net.body\n"
          "        return net\n")  # fmt: skip
    images = torch.ones(3, 1, 16, 16)
    model = models.from_id("mine.py:embedding", **SIZES)
    assert torch.equal(model.embed(images), model.network.body(images))
    with pytest.raises(ValueError, match=r"Net~\w+ has no method embed"):
        models.from_id("mine.py:Net", **SIZES).embed(images)


def test_the_wrapper_adds_no_parameter(write):
    write(NET)
    model = models.from_id("mine.py:Net", **SIZES)
    assert isinstance(model, nn.Module) and own.is_own(model.name)
    assert models.num_parameters(model) == 257 * 8 + 9 * 10 + 1
