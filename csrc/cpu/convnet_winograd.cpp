// The other layers of a ConvNet pass: convolutions as products of transforms (winograd.h), a strip
// of tiles at a time.

#include "convnet_runner.h"

namespace nsdbench::cpu {

// Calls body(range of the map with halo, range of the map without) for the chunk's strips.
template <typename T>
template <typename Body>
void Runner<T>::for_strips(int64_t l, int64_t halo_stride, int64_t plain_stride,
                           const Body& body) const {
  const int64_t tiles = count_ * layout_.map[l].tiles();
  for (int64_t first = 0; first < tiles; first += cut_.strip) {
    const int64_t count = std::min(cut_.strip, tiles - first);
    const TileRange with_halo{layout_.map[l], first, count, halo_stride, position_};
    const TileRange without{layout_.map[l], first, count, plain_stride, position_};
    body(with_halo, without);
  }
}

// Elements of the transforms of layer l's input, of all strips of a chunk.
template <typename T>
int64_t Runner<T>::transforms_size(int64_t l) const {
  const TileMap& map = layout_.map[l];
  const int64_t strips = (cut_.chunk * map.tiles() + cut_.strip - 1) / cut_.strip;
  return strips * positions_of(map.tile) * position_;
}

// The gradient of weights wants the transforms of the forward pass again. Where they are many, it is
// as fast to make them anew.
template <typename T>
bool Runner<T>::keeps_transforms() const {
  if (pass_.grad_theta == nullptr || pass_.has_activations) return false;
  int64_t size = 0;
  for (int64_t l = 1; l < net_.depth; ++l) size += transforms_size(l);
  return size * static_cast<int64_t>(sizeof(T)) <= kKeptBytes;
}

template <typename T>
T* Runner<T>::input_transforms(int64_t l, const TileRange& in) const {
  if (kept_v_[l] == nullptr) return v_;
  return kept_v_[l] + in.first / cut_.strip * positions_of(in.map.tile) * position_;
}

// A strip's transforms and their tangents, at every position one below the other: what multiplies
// both is read once.
template <typename T>
Pair<T> Runner<T>::halves(T* transforms, int64_t count, bool tangent_first) const {
  if (!has_tangent_) return {transforms, nullptr};
  T* second = transforms + count * layout_.channels;
  return tangent_first ? Pair<T>{second, transforms} : Pair<T>{transforms, second};
}

// C (+)= A W at one position, W [width, channels] in panels.
template <typename T>
void Runner<T>::multiply(bool accumulate, int64_t rows, const T* a, const T* w, T* c) const {
  for (int64_t panel = 0; panel < layout_.channels; panel += kPanel<T>) {
    const int64_t width = std::min(kPanel<T>, layout_.channels - panel);
    tile_product<T>(accumulate, rows, width, net_.width, a, layout_.channels, 1,
                    w + panel * net_.width, width, c + panel, layout_.channels);
  }
}

// dU (+)= V^T dM at one position.
template <typename T>
void Runner<T>::multiply_weights(bool accumulate, int64_t count, const T* v, const T* dm,
                                 T* du) const {
  for (int64_t panel = 0; panel < layout_.channels; panel += kPanel<T>) {
    const int64_t width = std::min(kPanel<T>, layout_.channels - panel);
    tile_product<T>(accumulate, net_.width, width, count, v, 1, layout_.channels, dm + panel,
                    layout_.channels, du + panel * net_.width, width);
  }
}

template <typename T>
void Runner<T>::forward_layer(int64_t l) const {
  const Pair<T> a = record(0).at(layout_.a[l - 1]), z = record(0).at(layout_.z[l]);
  for_strips(l, layout_.record, layout_.record, [&](const TileRange& in, const TileRange& out) {
    T* const transforms = input_transforms(l, in);
    const Pair<T> v = halves(transforms, in.count), m = halves(m_, in.count);
    const int64_t rows = has_tangent_ ? 2 * in.count : in.count;
    transform_input<T>(in, a.p, v.p);
    if (has_tangent_) transform_input<T>(in, a.t, v.t);
    for (int64_t p = 0; p < positions_of(in.map.tile); ++p) {
      const int64_t position = p * position_, matrix = p * layout_.weight[l].matrix();
      multiply(false, rows, transforms + position, weights_.u[l] + matrix, m_ + position);
      if (has_theta_t_) {
        multiply(true, in.count, v.p + position, weights_t_.u[l] + matrix, m.t + position);
      }
    }
    transform_output<T>(out, m.p, z.p);
    if (has_tangent_) transform_output<T>(out, m.t, z.t);
  });
  for (int64_t i = 0; i < count_; ++i) {
    for (int64_t block = 0; block < layout_.blocks; ++block) {
      norm_and_pool(l, i, block, record(i).at(layout_.z[l] + block * layout_.map[l].plane()));
    }
    clear_halo(l, i, 0, layout_.blocks);
  }
}

template <typename T>
void Runner<T>::backward_layer(int64_t l) const {
  const TileMap& map = layout_.map[l];
  // The output is not read again: its gradient takes its place where it may.
  const Pair<T> z = record(0).at(layout_.z[l]), dz = has_kept_records() ? dz_ : z;
  const int64_t dz_stride = has_kept_records() ? map.size() : layout_.record;
  for (int64_t i = 0; i < count_; ++i) {
    for (int64_t block = 0; block < layout_.blocks; ++block) {
      const int64_t plane = block * map.plane();
      norm_and_pool_backward(l, i, block, z.at(i * layout_.record + plane),
                             dz.at(i * dz_stride + plane));
    }
  }
  std::fill_n(da_.p, count_ * map.halo_size(), T(0));
  if (has_tangent_) std::fill_n(da_.t, count_ * map.halo_size(), T(0));
  const Pair<T> a = record(0).at(layout_.a[l - 1]);
  const bool needs_weights = pass_.grad_theta != nullptr;
  for_strips(l, layout_.record, dz_stride, [&](const TileRange& in, const TileRange& out) {
    // dU = V^T dM, so its tangent is the sum of V^T dM_t and V_t^T dM: with the halves in opposite
    // orders it is one product.
    T* const transforms = input_transforms(l, in);
    const Pair<T> v = halves(transforms, in.count), m = halves(m_, in.count, true);
    const Pair<T> dv = halves(v_, in.count, true);
    const int64_t rows = has_tangent_ ? 2 * in.count : in.count;
    transform_output_transposed<T>(out, dz.p, m.p);
    if (has_tangent_) transform_output_transposed<T>(out, dz.t, m.t);
    if (needs_weights && kept_v_[l] == nullptr) {
      transform_input<T>(in, a.p, v.p);
      if (has_tangent_) transform_input<T>(in, a.t, v.t);
    }
    const bool add = first_ > begin_ || in.first > 0;  // du_ is not zeroed before
    for (int64_t p = 0; p < positions_of(map.tile); ++p) {
      const int64_t position = p * position_, matrix = p * layout_.weight[l].matrix();
      if (needs_weights) {
        multiply_weights(add, rows, transforms + position, m_ + position, du_[l] + matrix);
      }
      multiply(false, rows, m_ + position, weights_.u_transposed[l] + matrix, v_ + position);
      if (has_theta_t_) {
        multiply(true, in.count, m.p + position, weights_t_.u_transposed[l] + matrix,
                 dv.t + position);
      }
    }
    TileRange gradient = in;
    gradient.image_stride = map.halo_size();
    transform_input_transposed<T>(gradient, dv.p, da_.p);
    if (has_tangent_) transform_input_transposed<T>(gradient, dv.t, da_.t);
  });
}

#define NSDBENCH_INSTANTIATE(T)                               \
  template int64_t Runner<T>::transforms_size(int64_t) const; \
  template bool Runner<T>::keeps_transforms() const;          \
  template void Runner<T>::forward_layer(int64_t) const;      \
  template void Runner<T>::backward_layer(int64_t) const;
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
