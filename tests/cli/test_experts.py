"""experts: recorded, listed, imported, and the names that they may have."""

import shlex

import pytest
import torch

from nsdbench import experts


def test_experts_record_list_and_import(nsdbench, folder):
    code, out, _ = nsdbench(
        "experts record --dataset synthetic:3x1x8x8@8+4 --arch convnet1-w8 --num-experts 2 "
        "--epochs 3 --root buffers"
    )
    assert code == 0 and out.startswith("2 experts, 3 epochs: buffers/")
    theta = [torch.zeros(shape) for shape in ((8, 1, 3, 3), (8,), (8,), (8,), (3, 288), (3,))]
    torch.save([[theta, theta]], folder / "replay_buffer_0.pt")
    code, out, err = nsdbench(
        "experts import replay_buffer_0.pt --dataset synthetic:3x1x8x8@8+4 --arch convnet1-w8 "
        "--preprocessing zca --name theirs --root buffers"
    )
    assert code == 0 and err == "check 1/1 replay_buffer_0.pt\nimport 1/1\n"
    code, out, _ = nsdbench("experts list --root buffers")
    assert code == 0 and "6/6" in out and "theirs" in out
    assert len(out.splitlines()) == 1 + len(experts.list_buffers(folder / "buffers")) == 3
    code, out, err = nsdbench("experts manifest --root buffers")
    assert code == 0 and sorted(err.splitlines()) == ["verify 1/1", "verify 1/2"]
    written = {path.name for path in (folder / "results" / "experts").iterdir()}
    assert "theirs.json" in written and len(written) == len(out.splitlines()) == 2
    assert nsdbench("experts manifest ours --root buffers")[0] == 3
    assert nsdbench("experts manifest --root none")[:2] == (
        0, "There is no finished buffer in none.\n",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "a/b", ".hidden", "a b"])
def test_a_name_never_leaves_its_folder(nsdbench, folder, name):
    before = sorted(folder.rglob("*"))
    for line in (
        f"experts import x.pt --dataset Digits16 --name {shlex.quote(name)} --preprocessing zca",
        f"experts manifest {shlex.quote(name)}",
    ):
        code, _, err = nsdbench(line)
        assert code == 2 and err.startswith("error: the name of a buffer: "), err
        assert "cannot name a file" in err
    assert sorted(folder.rglob("*")) == before
