// 3x3 convolution with padding 1 as Winograd F(2x2, 3x3) or F(4x4, 3x3) on channel-blocked maps: its
// transforms, their transposes, and the layout of the products between them.
//
// An output tile of t x t depends on a patch d of n x n pixels of the input, n = t + 2 (patches
// overlap by two). With the matrices below
//
//   V = B^T d B,   U = G g G^T,   M[tile, co] = sum over ci of V[tile, ci] U[ci, co],   z = A^T M A
//
// at n^2 positions of the transformed plane: 16 products for 4 pixels and a pair of channels, or 36
// for 16, where a direct convolution needs 36 or 144. All maps are linear, so gradients are their
// transposes and share V, U and dM:
//
//   dM = A dz A^T,   dU[ci, co] = sum over tiles of V[tile, ci] dM[tile, co],   dV = dM U^T,
//   da += B dV B^T (at every patch),   dg = G^T dU G
//
// The matrices evaluate polynomials at n - 1 points and infinity (Lavin and Gray, "Fast algorithms
// for convolutional neural networks", 2016). F(2x2): points 0, 1, -1,
//
//   B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]   A^T = [1 1 1 0; 0 1 -1 -1]
//   G   = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]
//
// F(4x4): points 0, a, -a, b, -b with a = 5/8, b = 3/2,
//
//   B^T = [aabb 0 -aa-bb 0 1 0;  0 -abb -bb a 1 0;  0 abb -bb -a 1 0;
//          0 -aab -aa b 1 0;  0 aab -aa -b 1 0;  0 aabb 0 -aa-bb 0 1]
//   A^T = [1 1 1 1 1 0;  0 a -a b -b 0;  0 aa aa bb bb 0;  0 aaa -aaa bbb -bbb 1]
//   G   = [1/aabb 0 0;  (1 a aa) / (2aa (aa - bb));  (1 -a aa) / (2aa (aa - bb));
//          (1 b bb) / (2bb (bb - aa));  (1 -b bb) / (2bb (bb - aa));  0 0 1]
//
// In float32 these points round half as coarsely as the usual 1 and 2, which cost as much, and all
// their products in A and B are exact (docs/speed.md has the errors).
//
// Layout of a map: [image, block, rows, columns, kBlock], channels padded to whole blocks with
// zeros.
//   with halo (what is convolved): one row and column of zeros before, one or more after
//   without (what a convolution makes): rows and columns padded to whole tiles

#pragma once

#include <cstdint>

#include "tile_product.h"

namespace nsdbench::cpu {

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Positions of the transformed plane of a tile of so many rows and columns.
inline constexpr int64_t positions_of(int64_t tile) { return (tile + 2) * (tile + 2); }

// Sizes of one convolution's maps, in elements of the whole image.
struct TileMap {
  int64_t height, width;    // of the map, without halo or padding
  int64_t channels;         // padded to whole blocks
  int64_t block;            // kBlock
  int64_t tile;             // rows and columns of an output tile: 2 or 4
  int64_t tile_rows() const { return (height + tile - 1) / tile; }
  int64_t tile_columns() const { return (width + tile - 1) / tile; }
  int64_t tiles() const { return tile_rows() * tile_columns(); }
  int64_t blocks() const { return channels / block; }
  // With halo.
  int64_t halo_rows() const { return tile * tile_rows() + 2; }
  int64_t halo_columns() const { return tile * tile_columns() + 2; }
  int64_t halo_plane() const { return halo_rows() * halo_columns() * block; }
  int64_t halo_size() const { return blocks() * halo_plane(); }
  int64_t halo_interior() const { return (halo_columns() + 1) * block; }
  // Without.
  int64_t rows() const { return tile * tile_rows(); }
  int64_t columns() const { return tile * tile_columns(); }
  int64_t plane() const { return rows() * columns() * block; }
  int64_t size() const { return blocks() * plane(); }
};

// A run of tiles through several images, and where their transforms lie: [positions, count,
// channels].
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

// Transformed weights: [positions][panels][in][panel], with panels of kPanel output channels (the
// last may be narrower), output channels padded with zeros.
struct WeightSizes {
  int64_t in, out;  // channels of the weight tensor
  int64_t out_padded, panel;
  int64_t tile;
  int64_t matrix() const { return in * out_padded; }
  int64_t transformed() const { return positions_of(tile) * matrix(); }
  int64_t panel_width(int64_t first) const {
    return out_padded - first < panel ? out_padded - first : panel;
  }
};

// U = G g G^T for input channels [begin, end) of weights g [out, in, 3, 3].
// `transposed`: g is [in, out, 3, 3] instead, as the data gradient needs it.
template <typename T>
void transform_weight(const WeightSizes& sizes, bool transposed, const T* weight, int64_t begin,
                      int64_t end, T* u);

// dg = G^T dU G; dU is laid out as U, dg as [in][block of out][9][kBlock].
template <typename T>
void transform_weight_transposed(const WeightSizes& sizes, const T* du, T* g);

// dg for input channels [begin, end), as [out, in, 3, 3].
template <typename T>
void write_weight_gradient(const WeightSizes& sizes, const T* g, int64_t begin, int64_t end,
                           T* grad_weight);

}  // namespace nsdbench::cpu
