// The first 3x3 convolution, 1 to 4 channels in: direct, straight into channel blocks, a block or
// two at a time so that its output, the largest of all activations, never exists as a whole.

#pragma once

#include <cstdint>

#include "tile_product.h"

namespace nsdbench::cpu {

struct FirstConvSizes {
  int64_t in_channels;
  int64_t height, width;  // of the output
  int64_t channels;       // of the output, padded to whole blocks
  int64_t row, plane;     // elements between rows and between blocks of z

  // The input with its padding around it: [in_channels, height + 2, width + 2].
  int64_t input_row() const { return width + 2; }
  int64_t input_plane() const { return (height + 2) * (width + 2); }
  int64_t taps() const { return 9 * in_channels; }
};

// z (+)= conv(x, w) for `blocks` channel blocks from `first_block` on.
//   x: padded input    w: [taps, channels], tap = (ci * 3 + kh) * 3 + kw
//   z: [blocks, rows, columns, kBlock]
template <typename T>
void first_conv(const FirstConvSizes& sizes, bool accumulate, const T* x, const T* w,
                int64_t first_block, int64_t blocks, T* z);

// dw[tap, co] += sum over pixels of x[tap, pixel] dz[pixel, co], for the same blocks.
template <typename T>
void first_conv_weight_gradient(const FirstConvSizes& sizes, const T* x, const T* dz,
                                int64_t first_block, int64_t blocks, T* dw);

// columns[pixel, tap] (+)= sum over the blocks of dz[pixel, co] w[co, tap], for `count` pixels from
// `pixel` on, those that pad odd maps included.
//   w: [channels, padded_taps]    columns: [count, padded_taps]
template <typename T>
void first_conv_input_columns(const FirstConvSizes& sizes, bool accumulate, int64_t pixel,
                              int64_t count, const T* dz, int64_t first_block, int64_t blocks,
                              const T* w, int64_t padded_taps, T* columns);

// dx += the columns at their places; dx is like the padded input.
template <typename T>
void first_conv_scatter(const FirstConvSizes& sizes, const T* columns, int64_t padded_taps, T* dx);

}  // namespace nsdbench::cpu
