// 3x3 convolution with padding 1 as Winograd F(2x2, 3x3) on channel-blocked maps: its transforms,
// their transposes, and the products between them.
//
// An output tile of 2x2 depends on a 4x4 patch d of the input (patches overlap by two). With
//
//   B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]   A^T = [1 1 1 0; 0 1 -1 -1]
//   G   = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]
//
//   V = B^T d B,   U = G g G^T,   M[t, co] = sum over ci of V[t, ci] U[ci, co],   z = A^T M A
//
// at 16 positions p of the transformed plane: 16 products a tile and channel pair instead of 36.
// All maps are linear, so gradients are their transposes and share V, U and dM:
//
//   dM = A dz A^T,   dU[ci, co] = sum over t of V[t, ci] dM[t, co],   dV = dM U^T,
//   da += B dV B^T (at every patch),   dg = G^T dU G
//
// Transforms only add and halve. In float32 the error is that of a direct convolution or smaller: a
// sum here has as many terms as there are input channels, not nine times as many.
//
// Layout of a map: [image, block, rows, columns, kBlock], channels padded to whole blocks with
// zeros.
//   with halo (what is convolved): one row and column of zeros before, one or two after
//   without (what a convolution makes): rows and columns padded to whole tiles

#pragma once

#include <cstdint>

#include "tile_product.h"

namespace nsdbench::cpu {

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Sizes of one convolution's maps, in elements of the whole image.
struct TileMap {
  int64_t height, width;    // of the map, without halo or padding
  int64_t channels;         // padded to whole blocks
  int64_t block;            // kBlock
  int64_t tile_rows() const { return (height + 1) / 2; }
  int64_t tile_columns() const { return (width + 1) / 2; }
  int64_t tiles() const { return tile_rows() * tile_columns(); }
  int64_t blocks() const { return channels / block; }
  // With halo.
  int64_t halo_rows() const { return 2 * tile_rows() + 2; }
  int64_t halo_columns() const { return 2 * tile_columns() + 2; }
  int64_t halo_plane() const { return halo_rows() * halo_columns() * block; }
  int64_t halo_size() const { return blocks() * halo_plane(); }
  int64_t halo_interior() const { return (halo_columns() + 1) * block; }
  // Without.
  int64_t rows() const { return 2 * tile_rows(); }
  int64_t columns() const { return 2 * tile_columns(); }
  int64_t plane() const { return rows() * columns() * block; }
  int64_t size() const { return blocks() * plane(); }
};

// A run of tiles through several images, and where their transforms lie: [16, count, channels].
struct TileRange {
  TileMap map;
  int64_t first, count;
  int64_t image_stride;     // elements between the images of the map
  int64_t position_stride;  // elements between the positions of the transform
};

// V = B^T d B from a map with halo.
template <typename T>
void transform_input(const TileRange& range, const T* a, T* v);

// da += B dV B^T, the transpose; da is a map with halo.
template <typename T>
void transform_input_transposed(const TileRange& range, const T* v, T* a);

// z = A^T M A into a map without halo.
template <typename T>
void transform_output(const TileRange& range, const T* m, T* z);

// dM = A dz A^T, the transpose.
template <typename T>
void transform_output_transposed(const TileRange& range, const T* z, T* m);

// Transformed weights: [16][panels][in][panel], with panels of kPanel output channels (the last may
// be narrower), output channels padded with zeros.
struct WeightSizes {
  int64_t in, out;  // channels of the weight tensor
  int64_t out_padded, panel;
  int64_t matrix() const { return in * out_padded; }
  int64_t panel_width(int64_t first) const {
    return out_padded - first < panel ? out_padded - first : panel;
  }
};

// U = G g G^T for input channels [begin, end) of weights g [out, in, 3, 3].
// `transposed`: g is [in, out, 3, 3] instead, as the data gradient needs it.
template <typename T>
void transform_weight(const WeightSizes& sizes, bool transposed, const T* weight, int64_t begin,
                      int64_t end, T* u);

// dg = G^T dU G for input channels [begin, end); dU is laid out as U, the sum over `parts` buffers
// part_stride apart; dg is [out, in, 3, 3].
template <typename T>
void transform_weight_transposed(const WeightSizes& sizes, const T* du, int64_t parts,
                                 int64_t part_stride, int64_t begin, int64_t end, T* grad_weight);

}  // namespace nsdbench::cpu
