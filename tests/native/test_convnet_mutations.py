"""The ConvNet pass rebuilt: with sanitizers, and with one term of a formula left out at a time.

A term whose loss nobody would notice is a term that is not tested, so every mutation must move
some derivative far outside the tolerance that the intact program keeps.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from nsdbench.ops import reference

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "convnet",
    "convnet_classifier",
    "convnet_first",
    "convnet_layout",
    "convnet_winograd",
    "first_conv",
    "norm_block",
    "simd",
    "tile_product",
    "winograd",
)
# A header that is mutated, and what is compiled with it then.
INCLUDED_BY = {"winograd_maps": ("first_conv", "winograd")}
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FLAGS = ("-std=c++20", "-ffp-contract=fast", "-Wno-psabi", "-DNSDBENCH_SERIAL")

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
]

# depth, width, channels, height, width of the images, padding, classes, images
PROBLEMS = (
    (3, 6, 3, 14, 10, 1, 4, 6),
    (2, 18, 1, 7, 7, 3, 3, 1),
    (1, 3, 4, 5, 4, 1, 2, 3),
    (3, 5, 2, 26, 14, 1, 3, 18),
)
# By file: what the change is called, the text that is changed, and what it becomes.
MUTATIONS = {
    "convnet_winograd": {
        "forward: V_t U": (
            "multiply(false, rows, transforms + position, weights_.u[l] + matrix, m_ + position);",
            "multiply(false, in.count, v.p + position, weights_.u[l] + matrix, m_ + position);"
            "if (has_tangent_) {"
            "  multiply(false, in.count, v.p + position, weights_.u[l] + matrix, m.t + position);"
            "}",
        ),
        "forward: V U_t": (
            "multiply(true, in.count, v.p + position, weights_t_.u[l] + matrix, m.t + position);",
            ";",
        ),
        "backward: dM_t U": (
            "multiply(false, rows, m_ + position, weights_.u_transposed[l] + matrix,"
            " v_ + position);",
            "for (T* half : {dv.p, dv.t}) {"
            "  if (half == nullptr) continue;"
            "  multiply(false, in.count, m.p + position, weights_.u_transposed[l] + matrix,"
            "           half + position);"
            "}",
        ),
        "backward: dM U_t": (
            "multiply(true, in.count, m.p + position, weights_t_.u_transposed[l] + matrix,",
            "if (false)"
            " multiply(true, in.count, m.p + position, weights_t_.u_transposed[l] + matrix,",
        ),
        "weights: V dM_t": (
            "multiply_weights(add, rows, transforms + position, m_ + position, du_[l] + matrix);",
            "multiply_weights(add, in.count, (has_tangent_ ? v.t : v.p) + position, m.p + position,"
            "                 du_[l] + matrix);",
        ),
        "weights: V_t dM": (
            "multiply_weights(add, rows, transforms + position, m_ + position, du_[l] + matrix);",
            "multiply_weights(add, in.count, v.p + position, m_ + position, du_[l] + matrix);",
        ),
        "weights: which half comes first": (
            "m = halves(m_, in.count, true);\n    const Pair<T> dv = halves(v_, in.count, true);",
            "m = halves(m_, in.count), dv = halves(v_, in.count);",
        ),
        "kept transforms: of which strip": ("in.first / cut_.strip * ", "0 * "),
        "strips: sums begin anew": ("|| in.first > 0", ""),
        "chunks: sums begin anew": ("first_ > begin_ || ", ""),
    },
    "winograd_maps": {
        "large tiles, input: row of 0": ("y[0] = T(aa * bb) * x[0] + ", "y[0] = x[0] + "),
        "large tiles, input: row of infinity": ("(x[5] - T(aa + bb) * x[3])", "x[5]"),
        "large tiles, input: even": ("even_a = x[4] - T(bb)", "even_a = x[4] - T(aa)"),
        "large tiles, input: odd": ("y[4] = even_b - T(b)", "y[4] = even_b - T(a)"),
        "large tiles, output: even": (
            "z[2] = T(aa) * even_a + T(bb) * even_b;",
            "z[2] = T(aa) * even_a;",
        ),
        "large tiles, output: infinity": ("(T(bb) * odd_b + m[5])", "T(bb) * odd_b"),
        "large tiles, weight: scale": ("odd_b = T(gb * b) * g[1]", "odd_b = T(gb) * g[1]"),
        "large tiles, weight: infinity": ("u[5] = g[2];", "u[5] = g[1];"),
        "large tiles, input transposed: 0": ("x[0] = T(aa * bb) * y[0];", "x[0] = y[0];"),
        "large tiles, input transposed: odd": ("T(bb) * odd_a - T(aa) * odd_b;", "T(bb) * odd_a;"),
        "large tiles, input transposed: infinity": (
            "(odd_a + odd_b) - T(aa + bb) * y[5]",
            "(odd_a + odd_b)",
        ),
        "large tiles, output transposed: even": ("even_a = z[0] + T(aa) * z[2]", "even_a = z[0]"),
        "large tiles, output transposed: infinity": ("m[5] = z[3];", "m[5] = V{};"),
        "large tiles, weight transposed: 0": ("g[0] = T(g0) * u[0]", "g[0] = u[0]"),
        "large tiles, weight transposed: infinity": ("(T(bb) * even_b + u[5])", "T(bb) * even_b"),
        "small tiles, input": ("y[3] = x[1] - x[3];", "y[3] = x[1];"),
        "small tiles, weight transposed": ("g[2] = both + u[3];", "g[2] = both;"),
    },
    "convnet": {
        "groups: the total begins anew": ("group == 0, total", "true, total"),
        "groups: vectors go on from the last": (
            "std::fill_n(sums_.first, sums_.before_taps, T(0));",
            "if (begin == 0) std::fill_n(sums_.first, sums_.before_taps, T(0));",
        ),
    },
    "norm_block": {
        "norm gradient: what pads the map": (
            "store<V>(dz + lane + n, zero);",
            "store<V>(dz + lane + n, p.gamma);",
        ),
        "norm: q": (" - point.xhat * p.q)", ")"),
        "norm: mean_t": ("load<V>(z_t) - p.mean_t", "load<V>(z_t)"),
        "norm: gamma_t": ("p.gamma_t * point.xhat + p.beta_t", "p.beta_t"),
        "norm: beta_t": ("(p.gamma_t * point.xhat + p.beta_t)", "(p.gamma_t * point.xhat)"),
        "norm gradient: dy xhat_t": ("dy_t * point.xhat + dy * point.xhat_t", "dy_t * point.xhat"),
        "norm gradient: m1_t": (" - m1_t", ""),
        "norm gradient: m2_t": ("point.xhat * m2_t", "point.xhat * 0"),
        "norm gradient: xhat_t m2": (" - point.xhat_t * m2", ""),
        "norm gradient: scale_t": ("scale_t * projected + ", ""),
        "norm gradient: r_t": ("p.gamma_t - p.scale * p.q", "p.gamma_t"),
        "norm gradient: what the pool drops": (
            "write(h * sizes.row + (sizes.width - 1) * kPixel, zero, zero);",
            ";",
        ),
    },
    "convnet_first": {
        "first: x w_t": ("x_, weights_t_.first, block", "x_, weights_.first, block"),
        "first: x_t w": ("has_theta_t_, x_t_, weights_.first", "has_theta_t_, x_, weights_.first"),
        "first weights: x_t dz": ("sizes, x_t_, z_first_.p, block", "sizes, x_, z_first_.p, block"),
        "first columns: dz w_t": ("weights_t_.first_transposed", "weights_.first_transposed"),
        "halo": ("clear_halo(0, i, block, blocks);", ""),
    },
    "first_conv": {
        "first: which line": ("row[n * kLinePositions + p]", "row[p]"),
        "first: which vector of taps": ("u + p * kBlock<T> + c * tap_step", "u + p * kBlock<T>"),
        "first: lines add to what is there": (
            "accumulate ? load<V>(target) + whole[i] : whole[i]",
            "whole[i]",
        ),
        "first: pixels after the last line": (
            "for (; n < sizes.width; ++n) {\n      conv_tile",
            "for (; false;) {\n      conv_tile",
        ),
        "first weights: which line": ("n * kLinePositions + kFirst;", "kFirst;"),
        "first weights: pixels after the last line": (
            "if (sizes.lines * kLine == sizes.width) return;",
            "if (sizes.lines > 0) return;",
        ),
        "first columns: all terms": ("term < terms + num_terms", "term < terms + 1"),
        "first columns: all blocks": (
            "block < blocks; ++block) {\n      const T* grad",
            "block < 1; ++block) {\n      const T* grad",
        ),
    },
    "convnet_classifier": {
        "classifier: f_t W": ("f, features_.t, f, 1", "f, features_.p, f, 1"),
        "classifier: f W_t": (
            "f, 1, weights_t_.classifier_transposed",
            "f, 1, weights_.classifier_transposed",
        ),
        "classifier: b_t": ("add_bias(weights_t_.classifier_bias, logits_.t);", ";"),
        "classifier: dl f_t": (
            "features_.t, 1, f, grad_logits_.p",
            "features_.p, 1, f, grad_logits_.p",
        ),
        "classifier: dl_t W": (
            "grad_logits_.t, wide, 1, weights_.classifier",
            "grad_logits_.p, wide, 1, weights_.classifier",
        ),
        "classifier: dl W_t": (
            "grad_logits_.p, wide, 1, weights_t_.classifier",
            "grad_logits_.p, wide, 1, weights_.classifier",
        ),
        "softmax: mean of the tangent": ("log_s_t = logits.t[c] - mean_t", "log_s_t = logits.t[c]"),
        "softmax: mass of a label": ("s * log_s_t * mass", "s * log_s_t"),
    },
}


def compile_all(folder, sources, *flags):
    """Compile sources {name: path} and return {name: object file}."""

    def compile_one(name):
        target = folder / f"{name}.o"
        command = [
            COMPILER,
            *FLAGS,
            *flags,
            f"-I{ROOT / 'csrc'}",
            f"-I{ROOT / 'csrc' / 'cpu'}",
            "-c",
            str(sources[name]),
            "-o",
            str(target),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return target

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(sources, pool.map(compile_one, sources), strict=True))


def link(folder, objects, *flags):
    program = folder / "program"
    command = [COMPILER, *flags, *map(str, objects.values()), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def draw(problem):
    """theta, theta_t, x, x_t, probabilities as float64 arrays."""
    depth, width, channels, height, image_width, padding, classes, images = problem
    generator = np.random.default_rng(5)
    h = (height + 2 * padding - 2) >> depth
    w = (image_width + 2 * padding - 2) >> depth
    count = width * (9 * channels + 3) + (depth - 1) * width * (9 * width + 3)
    count += classes * (width * h * w + 1)
    x_shape = (images, channels, height, image_width)
    arrays = [generator.standard_normal(shape) for shape in (count, count, x_shape, x_shape)]
    return [*arrays, generator.random((images, classes))]


def run(program, problem, *arguments):
    """Return the program's output: four passes of (loss, loss_t, theta, x, probabilities)."""
    arrays = draw(problem)
    data = np.array(problem, dtype=np.int64).tobytes() + b"".join(a.tobytes() for a in arrays)
    done = subprocess.run([str(program), *arguments], input=data, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    values = np.frombuffer(done.stdout)
    return values.reshape(4, -1)


def expected(problem):
    """The same by autograd of the twin, with zeros for the convolutions' biases."""
    depth, width, channels, _, _, padding, _, _ = problem
    theta, theta_t, x, x_t, y = map(torch.from_numpy, draw(problem))
    is_bias, start = torch.zeros(len(theta), dtype=torch.bool), 0
    for _ in range(depth):
        start += 9 * channels * width
        is_bias[start : start + width] = True
        start, channels = start + 3 * width, width
    leaves = [t.requires_grad_() for t in (theta, x, y)]
    loss = reference.convnet_loss(*leaves, depth, width, padding)
    grads = torch.autograd.grad(loss, leaves, create_graph=True)
    rows = []
    for along in range(4):
        found, loss_t = grads, torch.zeros(())
        if along > 0:
            directions = (theta_t * (along & 1), x_t * (along >> 1))
            loss_t = sum((g * v).sum() for g, v in zip(grads, directions, strict=False))
            found = torch.autograd.grad(loss_t, leaves, retain_graph=True)
        by_theta = found[0].detach().masked_fill(is_bias, 0)
        parts = (loss, loss_t, by_theta, *found[1:])
        rows.append(torch.cat([part.detach().flatten() for part in parts]).numpy())
    return np.stack(rows)


def error(ours, exact):
    """Largest difference of one pass, relative to the largest value of that pass."""
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, exact, strict=True))


CPU = ROOT / "csrc" / "cpu"
ALL = {
    "program": Path(__file__).with_name("convnet_program.cpp"),
    **{name: CPU / f"{name}.cpp" for name in SOURCES},
}


def test_clean_under_sanitizers_and_right(tmp_path):
    flags = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = link(tmp_path, compile_all(tmp_path, ALL, *flags), *flags)
    for problem in PROBLEMS:
        assert error(run(program, problem), expected(problem)) < 1e-10
        assert error(run(program, problem, "float"), expected(problem)) < 1e-3


def test_every_term_is_noticed(tmp_path):
    objects = compile_all(tmp_path, ALL, "-O0")
    exact = {problem: expected(problem) for problem in PROBLEMS}
    intact = link(tmp_path, objects)
    assert max(error(run(intact, p), exact[p]) for p in PROBLEMS) < 1e-10

    unnoticed = []
    for name, changes in MUTATIONS.items():
        file = f"{name}.h" if name in INCLUDED_BY else f"{name}.cpp"
        text = (CPU / file).read_text()
        # A header is found beside the file that includes it.
        parts = INCLUDED_BY.get(name, (name,))
        for number, (label, (old, new)) in enumerate(changes.items()):
            assert old in text, f"{old!r} is no longer in {file}"
            folder = tmp_path / f"{name}-{number}"
            folder.mkdir()
            sources = {part: folder / f"{part}.cpp" for part in parts}
            for part, source in sources.items():
                shutil.copy(CPU / f"{part}.cpp", source)
            (folder / file).write_text(text.replace(old, new))
            program = link(folder, objects | compile_all(folder, sources, "-O0"))
            if max(error(run(program, p), exact[p]) for p in PROBLEMS) < 1e-4:
                unnoticed.append(label)
    assert not unnoticed
