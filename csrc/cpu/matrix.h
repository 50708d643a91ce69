// Small dense matrix products, vectorised for the widest instruction set of the machine it runs on.
// They serve matrices whose inner dimension is a spectrum size (1 to about 100), where calling a BLAS
// costs more than the arithmetic.

#pragma once

#include <cstdint>

namespace nsdbench::cpu {

// C[m,n] = sum_k A[m,k] B[k,n]  (+ C if accumulate).
//   A: element (m,k) at a[m * a_row + k * a_col]
//   B: [depth, columns], rows b_row apart       C: [rows, columns], rows c_row apart
template <typename T>
void multiply(bool accumulate, int64_t rows, int64_t columns, int64_t depth,
              const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row,
              T* c, int64_t c_row);

// C[s,v] = sum_{l,q} X[l,s,q] G[l,v,q]: the gradient of a mode product with respect to its matrix.
//   X: [lead, rows, depth], matrices x_lead apart, rows `depth` apart
//   G: [lead, columns, depth], matrices g_lead apart, rows `depth` apart
//   C: [rows, columns], rows c_row apart
template <typename T>
void multiply_by_transpose(int64_t lead, int64_t rows, int64_t columns, int64_t depth,
                           const T* x, int64_t x_lead, const T* g, int64_t g_lead,
                           T* c, int64_t c_row);

}  // namespace nsdbench::cpu
