// The first 3x3 convolution, 1 to 4 channels in: straight into channel blocks, a block or two at a
// time so that its output, the largest of all activations, never exists as a whole.
//
// Lines of four pixels of a row are Winograd's F(4, 3): 6 products for a line and the three taps of a
// row, where a direct sum has 12. With the matrices of F(4x4) (winograd.h), d six pixels of a row of
// the input and g three taps,
//
//   V = B^T d,   U = G g,   M[co] = sum over ci and kh of V[ci, kh] U[ci, kh, co],   z = A^T M
//   dM = A dz,   dU[ci, kh, co] = sum over lines of V[ci, kh] dM[co],   dg = G^T dU
//
// at 6 positions. The end of a row, and the gradient of the input, are summed directly.

#pragma once

#include <cstdint>

#include "tile_product.h"

namespace nsdbench::cpu {

inline constexpr int64_t kLine = 4, kLinePositions = 6;

// Lines in a row of so many pixels, as many as pay.
int64_t lines_of(int64_t width, int64_t in_channels);

struct FirstConvSizes {
  int64_t in_channels;
  int64_t height, width;  // of the output
  int64_t channels;       // of the output, padded to whole blocks
  int64_t row, plane;     // elements between rows and between blocks of z
  int64_t lines;          // of a row: what lies behind them is summed directly

  // The input with its padding around it: [in_channels, height + 2, width + 2].
  int64_t input_row() const { return width + 2; }
  int64_t input_plane() const { return (height + 2) * (width + 2); }
  int64_t taps() const { return 9 * in_channels; }
  // Its transform V: [in_channels, height + 2, lines, kLinePositions].
  int64_t transformed_row() const { return lines * kLinePositions; }
  int64_t transformed_plane() const { return (height + 2) * transformed_row(); }
  // The weights' transform U: [blocks, in_channels, 3, kLinePositions, kBlock].
  int64_t transformed_taps() const { return in_channels * 3 * kLinePositions; }
};

// An image, padded and transformed.
template <typename T>
struct FirstInput {
  T *x, *v;
};

// Weights [taps, channels], tap = (ci * 3 + kh) * 3 + kw, and transformed.
template <typename T>
struct FirstWeights {
  T *w, *u;
};

// V from x.
template <typename T>
void first_conv_transform_input(const FirstConvSizes& sizes, const FirstInput<T>& input);

// U from w.
template <typename T>
void first_conv_transform_weights(const FirstConvSizes& sizes, const FirstWeights<T>& weights);

// z (+)= conv(x, w) for `blocks` channel blocks from `first_block` on.
//   z: [blocks, rows, columns, kBlock]
template <typename T>
void first_conv(const FirstConvSizes& sizes, bool accumulate, const FirstInput<T>& input,
                const FirstWeights<T>& weights, int64_t first_block, int64_t blocks, T* z);

// dw[tap, co] += sum over pixels of x[tap, pixel] dz[pixel, co], for the same blocks.
template <typename T>
void first_conv_weight_gradient(const FirstConvSizes& sizes, const FirstInput<T>& input,
                                const T* dz, int64_t first_block, int64_t blocks, T* dw);

// One of two products that are added up.
template <typename T>
struct ColumnTerm {
  const T* dz;  // as z
  const T* w;   // [channels, padded_taps]
};

// columns[pixel, tap] (+)= sum over terms and blocks of dz[pixel, co] w[co, tap], for `count` pixels
// from `pixel` on, those that pad odd maps included.
//   columns: [count, padded_taps]
template <typename T>
void first_conv_input_columns(const FirstConvSizes& sizes, bool accumulate, int64_t pixel,
                              int64_t count, const ColumnTerm<T>* terms, int64_t num_terms,
                              int64_t first_block, int64_t blocks, int64_t padded_taps,
                              T* columns);

// dx += the columns at their places; dx is like the padded input.
template <typename T>
void first_conv_scatter(const FirstConvSizes& sizes, const T* columns, int64_t padded_taps, T* dx);

}  // namespace nsdbench::cpu
