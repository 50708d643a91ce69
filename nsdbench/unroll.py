"""The unrolled student, for `from nsdbench.unroll import unrolled_sgd`; see `student.unroll`."""

from nsdbench.student.unroll import MODES, code_path, unrolled_sgd

__all__ = ["MODES", "code_path", "unrolled_sgd"]
