// Mode products of a batch of tensors, and their gradients.
//
// Formula, for one batch element b with kernel set j(b), X_b viewed as [lead, t, right]:
//   forward        Y_b[l,v,q] = sum_s X_b[l,s,q] K_j[s,v]
//   transposed     the same with K_j^T: the gradient of X_b from that of Y_b
//   backward       P_b[s,v]   = sum_{l,q} X_b[l,s,q] G_b[l,v,q]: K_j's gradient from this element
//   sum by key     out[k]     = sum of P_b over the b with key(b) == k, b ascending
// Layout: row-major, elements contiguous; sizes in elements; batches and offsets are 64-bit.
//
// Batch elements. All images wanted: b is a pair i * N_K + j and a tensor is [t1 or u1, ..]. A selection
// by index: b is one image, (i * N_K + j) * u1 + r = index[b], its sample mode has size 1 after the
// first product, which takes column r of K1. An index out of range gives NaN and no gradient.
//
// Thread-to-data map, mode_product_fwd_kernel and mode_product_bwd_kernel:
//   grid    x: tiles of 16 columns n = (l, q), or of v; y: tiles of 16 v, or of s; z: batch, strided
//   block   16 x 16 threads, one output each
//   thread  x runs over what is contiguous in memory: q, or v where right == 1
// sum_by_key_kernel:
//   grid    x: tiles of 256 elements; y: keys, strided
//   block   256 threads, one element each; keys of 256 batch elements at a time in shared memory
//
// Shared memory: at most 4352 bytes a block (two 16 x 17 tiles of double; the 17th column avoids bank
// conflicts). Passes over memory: X is read u/16 times, K once per 16 columns, Y written once.
// Reduction order: forward s ascending; backward n ascending in tiles of 16, each tile added up before
// it joins the total, so that float errors grow with n/16; sums over b are compensated (Kahan), so that
// their error does not grow; no atomics, equal calls give equal bits.
// Reference: nsdbench/ops/reference.py, mode_product. CPU twin: csrc/cpu/mode_product.h.

#pragma once

#include <cmath>
#include <cstdint>

#include "simt.h"

namespace nsdbench::kernels {

constexpr int kTile = 16;
constexpr int kTilePitch = kTile + 1;
constexpr int kSumThreads = 256;

// What the elements of a batch are.
struct Batch {
  const int64_t* index;     // [count] images wanted, null: the elements are pairs
  int64_t count;            // elements
  int64_t num_spectra;      // N_T
  int64_t num_kernel_sets;  // N_K
  int64_t samples;          // u1
};

struct Element {
  int64_t spectrum, kernel_set, sample;  // i, j, r; spectrum is -1 for an index out of range
};

SIMT_DEVICE Element element_of(const Batch& batch, int64_t b) {
  if (batch.index == nullptr) return {b / batch.num_kernel_sets, b % batch.num_kernel_sets, 0};
  const int64_t image = batch.index[b];
  const int64_t pair = image / batch.samples;
  if (image < 0 || pair >= batch.num_spectra * batch.num_kernel_sets) return {-1, 0, 0};
  return {pair / batch.num_kernel_sets, pair % batch.num_kernel_sets, image % batch.samples};
}

struct ProductArguments {
  int64_t lead, t, u, right;  // X is [lead, t, right] and Y [lead, u, right], or the other way round
  int64_t kernel_columns;     // row length of K in memory: u, or u1 where one column is selected
  bool is_selection;          // take column r of K (or slice r of X where there is no K); u is 1
  bool is_shared_input;       // X holds one tensor per spectrum, not per batch element
};

// K[s, v] of this element; without a K, the column of the identity that selects sample r.
template <typename scalar_t>
SIMT_DEVICE scalar_t kernel_entry(const ProductArguments& a, const scalar_t* kernel,
                                  const Element& element, int64_t s, int64_t v) {
  if (a.is_selection && element.spectrum < 0) return static_cast<scalar_t>(NAN);
  if (kernel == nullptr) return static_cast<scalar_t>(s == element.sample ? 1 : 0);
  const int64_t column = a.is_selection ? element.sample : v;
  return kernel[(element.kernel_set * a.t + s) * a.kernel_columns + column];
}

// Y = X x_n K, or with kTransposed X = Y x_n K^T.
//   in      [batch or N_T, lead, inner, right], inner = t (transposed: u)
//   kernel  [N_K, t, kernel_columns], null for a selection without a kernel
//   out     [batch, lead, outer, right], outer = u (transposed: t)
template <typename scalar_t, bool kTransposed>
SIMT_KERNEL void mode_product_fwd_kernel(ProductArguments a, Batch batch, const scalar_t* in,
                                         const scalar_t* kernel, scalar_t* out) {
  SIMT_SHARED(scalar_t, in_tile, kTile * kTilePitch);      // [s, n]
  SIMT_SHARED(scalar_t, kernel_tile, kTile * kTilePitch);  // [s, v]
  const int64_t inner = kTransposed ? a.u : a.t;
  const int64_t outer = kTransposed ? a.t : a.u;
  const int64_t columns = a.lead * a.right;
  const bool is_last_mode = a.right == 1;
  const int x = simt::thread_x(), y = simt::thread_y();
  const int64_t n0 = simt::block_x() * kTile, v0 = simt::block_y() * kTile;
  const int n_own = is_last_mode ? y : x;
  const int v_own = is_last_mode ? x : y;

  for (int64_t b = simt::block_z(); b < batch.count; b += simt::grid_size_z()) {
    const Element element = element_of(batch, b);
    const int64_t source = a.is_shared_input ? (element.spectrum < 0 ? 0 : element.spectrum) : b;
    const scalar_t* in_b = in + source * columns * inner;
    scalar_t total = 0;
    for (int64_t s0 = 0; s0 < inner; s0 += kTile) {
      {
        const int s_local = is_last_mode ? x : y, n_local = is_last_mode ? y : x;
        const int64_t s = s0 + s_local, n = n0 + n_local;
        scalar_t value = 0;
        if (s < inner && n < columns) {
          value = in_b[(n / a.right * inner + s) * a.right + n % a.right];
        }
        in_tile[s_local * kTilePitch + n_local] = value;
      }
      {
        const int64_t s = s0 + y, v = v0 + x;
        scalar_t value = 0;
        if (s < inner && v < outer) {
          value = kTransposed ? kernel_entry(a, kernel, element, v, s)
                              : kernel_entry(a, kernel, element, s, v);
        }
        kernel_tile[y * kTilePitch + x] = value;
      }
      simt::barrier();
      const int64_t depth = inner - s0 < kTile ? inner - s0 : kTile;
      for (int64_t s = 0; s < depth; ++s) {
        total += in_tile[s * kTilePitch + n_own] * kernel_tile[s * kTilePitch + v_own];
      }
      simt::barrier();  // before the tiles are overwritten
    }
    const int64_t n = n0 + n_own, v = v0 + v_own;
    if (n < columns && v < outer) {
      out[b * columns * outer + (n / a.right * outer + v) * a.right + n % a.right] = total;
    }
  }
}

// P_b[s,v] = sum_n X_b[s,n] G_b[v,n].
//   in       [batch or N_T, lead, t, right]
//   grad_out [batch, lead, u, right]
//   partial  [batch, t, u]
template <typename scalar_t>
SIMT_KERNEL void mode_product_bwd_kernel(ProductArguments a, Batch batch, const scalar_t* in,
                                         const scalar_t* grad_out, scalar_t* partial) {
  SIMT_SHARED(scalar_t, in_tile, kTile * kTilePitch);    // [s, n]
  SIMT_SHARED(scalar_t, grad_tile, kTile * kTilePitch);  // [v, n]
  const int64_t columns = a.lead * a.right;
  const bool is_last_mode = a.right == 1;
  const int x = simt::thread_x(), y = simt::thread_y();
  const int64_t v0 = simt::block_x() * kTile, s0 = simt::block_y() * kTile;
  const int row = is_last_mode ? x : y, column = is_last_mode ? y : x;

  for (int64_t b = simt::block_z(); b < batch.count; b += simt::grid_size_z()) {
    const Element element = element_of(batch, b);
    const int64_t source = a.is_shared_input ? (element.spectrum < 0 ? 0 : element.spectrum) : b;
    const scalar_t* in_b = in + source * columns * a.t;
    const scalar_t* grad_b = grad_out + b * columns * a.u;
    scalar_t total = 0;
    for (int64_t n0 = 0; n0 < columns; n0 += kTile) {
      const int64_t n = n0 + column;
      const int64_t lead = n / a.right, q = n % a.right;
      const int64_t s = s0 + row, v = v0 + row;
      in_tile[row * kTilePitch + column] =
          s < a.t && n < columns ? in_b[(lead * a.t + s) * a.right + q] : scalar_t(0);
      grad_tile[row * kTilePitch + column] =
          v < a.u && n < columns ? grad_b[(lead * a.u + v) * a.right + q] : scalar_t(0);
      simt::barrier();
      scalar_t tile_total = 0;
      for (int k = 0; k < kTile; ++k) {
        tile_total += in_tile[y * kTilePitch + k] * grad_tile[x * kTilePitch + k];
      }
      total += tile_total;
      simt::barrier();  // before the tiles are overwritten
    }
    if (s0 + y < a.t && v0 + x < a.u) partial[(b * a.t + s0 + y) * a.u + v0 + x] = total;
  }
}

enum class Key { kSpectrum, kKernelSet, kKernelColumn };

SIMT_DEVICE int64_t key_of(const Batch& batch, Key key, int64_t b) {
  const Element element = element_of(batch, b);
  if (element.spectrum < 0) return -1;
  if (key == Key::kSpectrum) return element.spectrum;
  if (key == Key::kKernelSet) return element.kernel_set;
  return element.kernel_set * batch.samples + element.sample;
}

// out[k, e] = sum of partial[b, e] over the elements b with key(b) == k.
//   partial  [batch, size]
//   out      [keys, size]; for kKernelColumn [N_K, size, u1], where k = (j, r) and e = s
template <typename scalar_t>
SIMT_KERNEL void sum_by_key_kernel(Batch batch, Key key, int64_t keys, int64_t size,
                                   const scalar_t* partial, scalar_t* out) {
  SIMT_SHARED(int64_t, key_tile, kSumThreads);
  const int64_t e = simt::block_x() * kSumThreads + simt::thread_x();
  for (int64_t k = simt::block_y(); k < keys; k += simt::grid_size_y()) {
    scalar_t total = 0, lost = 0;
    for (int64_t b0 = 0; b0 < batch.count; b0 += kSumThreads) {
      const int64_t own = b0 + simt::thread_x();
      key_tile[simt::thread_x()] = own < batch.count ? key_of(batch, key, own) : -1;
      simt::barrier();
      const int64_t length = batch.count - b0 < kSumThreads ? batch.count - b0 : kSumThreads;
      for (int64_t n = 0; n < length; ++n) {
        if (key_tile[n] != k || e >= size) continue;
        const scalar_t term = partial[(b0 + n) * size + e] - lost;
        const scalar_t next = total + term;
        lost = (next - total) - term;
        total = next;
      }
      simt::barrier();  // before the keys are overwritten
    }
    if (e < size) {
      const int64_t columns = key == Key::kKernelColumn ? batch.samples : 1;
      out[(k / columns * size + e) * columns + k % columns] = total;
    }
  }
}

}  // namespace nsdbench::kernels
