// Matrix products on channel blocks: the arithmetic of the ConvNet's convolutions.

#pragma once

#include <cstdint>

namespace nsdbench::cpu {

// Channels of a blocked tensor come in blocks of 64 bytes: 16 floats or 8 doubles.
template <typename T>
inline constexpr int64_t kBlock = 64 / static_cast<int64_t>(sizeof(T));

// Columns that are multiplied together; wide operands are stored in panels of so many columns.
template <typename T>
inline constexpr int64_t kPanel = 4 * kBlock<T>;

// C[rows, columns] = A B (+ C if accumulate), each element one chain of multiply-adds over `depth`
// ascending, so that results do not depend on how rows are cut into strips.
//   A: element (m,k) at a[m * a_row + k * a_col]
//   B: [depth, columns], rows b_row apart      C: rows c_row apart
//   columns: a multiple of kBlock
template <typename T>
void tile_product(bool accumulate, int64_t rows, int64_t columns, int64_t depth, const T* a,
                  int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c, int64_t c_row);

}  // namespace nsdbench::cpu
