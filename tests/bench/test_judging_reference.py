"""Sets that reference code wrote are judged as that code judges them itself.

`reference_sets` holds the files, as the code of DC (VICO-UoE/DatasetCondensation, commit 53f63a6,
main.py), of MTT (GeorgeCazenavette/mtt-distillation, commit 50dccea, buffer.py and distill.py) and
of FRePo (yongchao97/FRePo, commit 9b98c65, script/distill.py) wrote them from our Digits32 on a
CPU, where their loaders were given our arrays, one image a class. The first two: ConvNetW32, DSA
without flips, 301 epochs.

    DC     two experiments of 60 iterations from noise, batch_real 64
    MTT    60 iterations, two experts of 10 epochs at lr 0.01, lr_teacher 0.02, lr_img 100,
           lr_lr 1e-5, 10 steps against 2 epochs, starts up to epoch 4
    FRePo  200 steps at rate 0.01, 256 real images a step, conv of width 16 with batch norm, four
           networks of at most 50 updates, learned labels; the rest as for MNIST: standardised,
           no mirror images

The numbers are the accuracies that `evaluate_synset` of the same code gave for these sets, on
networks of its own draw; the learned rate is in MTT's log alone. torch 2.13 made them: DSA turns
and scales without align_corners there, which moves sampling points by less than half a pixel.
FRePo's are of its script/eval.py at random_seed 0 and 1, eight networks each, 1,000 steps, under
jax 0.4.13, flax 0.6.11 and optax 0.1.5.
"""

from pathlib import Path

import pytest

from nsdbench.bench.facts import Claim
from nsdbench.bench.judging import Question, judge
from nsdbench.bench.verdict import claimed_verdict
from nsdbench.experts import Run
from nsdbench.sets.meaning import Meaning
from nsdbench.spread import summary

FOLDER = Path(__file__).parent / "reference_sets"
OF_360 = 100 / 360  # per cent of a test image
DC = (
    [OF_360 * right for right in (325, 324, 322, 325, 309)],
    [OF_360 * right for right in (320, 317, 317, 316, 318)],
)
MTT = [OF_360 * right for right in (328, 329, 338, 332, 337, 332, 328, 333)]
FREPO = [
    OF_360 * right
    for seed in (
        (335, 330, 334, 334, 333, 326, 332, 333),
        (334, 329, 332, 334, 335, 337, 333, 335),
    )
    for right in seed
]
RATE = 0.007506953552365303

pytestmark = pytest.mark.slow  # fifteen networks of 301 steps, ten of 1,000


def judged(names, tmp_path, protocol, arch="convnet3-w32", **changes):
    files = tuple(FOLDER / name for name in names)
    question = Question(files, "Digits32", (arch,), (protocol,), **changes)
    _, (record,) = judge(question, Run(tmp_path / "results"))
    return record


def draws(record):
    """List the accuracies of Random: every network has a set of its own."""
    return [value for (value,) in record.judged.random.values]


def is_alike(values, theirs):
    """Say whether the 95 % interval of the difference (Welch) holds 0."""
    low, high = (summary([values]).estimate - summary([theirs]).estimate).interval
    return low <= 0 <= high


def test_dc(tmp_path):
    record = judged(["res_DC_Digits32_ConvNetW32_1ipc.pt"], tmp_path, "dc")
    assert record.judged.taken_for == "2 experiments of DC, DSA, DM or CAFE"
    for ours, theirs in zip(record.accuracy.values, DC, strict=True):
        assert is_alike(ours, theirs), (ours, theirs)
    assert not is_alike(draws(record), DC[0])


def test_mtt(tmp_path):
    theirs = summary([MTT])
    claimed = Claim(mean=theirs.mean, std=theirs.std)
    names = ["images_best.pt", "labels_best.pt"]
    said = Meaning(lr=RATE)
    record = judged(names, tmp_path, "mtt-300ep", said=said, claimed=claimed)
    assert is_alike(record.accuracy.values[0], MTT), (record.accuracy.values, MTT)
    verdict = claimed_verdict(record)
    assert abs(verdict.difference) <= verdict.uncertainty
    assert not is_alike(draws(record), MTT)


def test_frepo(tmp_path):
    record = judged(["step000200.npz"], tmp_path, "frepo", arch="convnet3-w16")
    assert record.judged.taken_for == "a set of FRePo, labels centred"
    assert is_alike(record.accuracy.values[0], FREPO), (record.accuracy.values, FREPO)
    assert not is_alike(draws(record), FREPO)
