// The first layer of a ConvNet pass: convolution, norm, ReLU and pool of a block or two of channels
// at a time. Its output is never kept; the backward pass computes it again.

#include "convnet_runner.h"

namespace nsdbench::cpu {

template <typename T>
void Runner<T>::read_image(int64_t i, const T* images, const FirstInput<T>& input) const {
  const FirstConvSizes& sizes = layout_.first;
  std::fill_n(input.x, net_.in_channels * sizes.input_plane(), T(0));
  const T* source = images + (first_ + i) * net_.image_size();
  for (int64_t c = 0; c < net_.in_channels; ++c) {
    for (int64_t h = 0; h < net_.image_height; ++h, source += net_.image_width) {
      std::copy_n(source, net_.image_width,
                  input.x + c * sizes.input_plane() + (h + net_.padding) * sizes.input_row() +
                      net_.padding);
    }
  }
  first_conv_transform_input<T>(sizes, input);
}

template <typename T>
void Runner<T>::read_image(int64_t i) const {
  read_image(i, pass_.x, x_);
  if (pass_.x_t != nullptr) read_image(i, pass_.x_t, x_t_);
}

template <typename T>
void Runner<T>::convolve_first(int64_t block, int64_t blocks) const {
  const FirstConvSizes& sizes = layout_.first;
  first_conv<T>(sizes, false, x_, weights_.first, block, blocks, z_first_.p);
  if (!has_tangent_) return;
  if (has_theta_t_) {
    first_conv<T>(sizes, false, x_, weights_t_.first, block, blocks, z_first_.t);
  }
  if (pass_.x_t != nullptr) {
    first_conv<T>(sizes, has_theta_t_, x_t_, weights_.first, block, blocks, z_first_.t);
  }
}

template <typename T>
void Runner<T>::forward_first() const {
  for (int64_t i = 0; i < count_; ++i) {
    read_image(i);
    for (int64_t block = 0; block < layout_.blocks; block += kFirstBlocks) {
      const int64_t blocks = std::min(kFirstBlocks, layout_.blocks - block);
      convolve_first(block, blocks);
      for (int64_t b = 0; b < blocks; ++b) {
        norm_and_pool(0, i, block + b, z_first_.at(b * layout_.map[0].plane()));
      }
      clear_halo(0, i, block, blocks);
    }
  }
}

template <typename T>
void Runner<T>::backward_first() const {
  const FirstConvSizes& sizes = layout_.first;
  for (int64_t i = 0; i < count_; ++i) {
    read_image(i);
    for (int64_t block = 0; block < layout_.blocks; block += kFirstBlocks) {
      const int64_t blocks = std::min(kFirstBlocks, layout_.blocks - block);
      convolve_first(block, blocks);
      for (int64_t b = 0; b < blocks; ++b) {
        const Pair<T> z = z_first_.at(b * layout_.map[0].plane());
        norm_and_pool_backward(0, i, block + b, z, z);
      }
      const T* dz = has_tangent_ ? z_first_.t : z_first_.p;
      if (pass_.grad_theta != nullptr) {
        first_conv_weight_gradient<T>(sizes, x_, dz, block, blocks, sums_.first);
        if (pass_.x_t != nullptr) {
          first_conv_weight_gradient<T>(sizes, x_t_, z_first_.p, block, blocks, sums_.first);
        }
      }
      if (pass_.grad_x != nullptr) input_columns(block, blocks);
    }
    if (pass_.grad_x != nullptr) write_image_gradient(i);
  }
}

// columns_ (+)= dz w, or its tangent dz_t w + dz w_t; some pixels at a time, to stay in the cache.
template <typename T>
void Runner<T>::input_columns(int64_t block, int64_t blocks) const {
  const FirstConvSizes& sizes = layout_.first;
  const ColumnTerm<T> terms[] = {
      {has_tangent_ ? z_first_.t : z_first_.p, weights_.first_transposed},
      {z_first_.p, weights_t_.first_transposed},
  };
  const int64_t pixels = sizes.plane / kBlock<T>;
  for (int64_t pixel = 0; pixel < pixels; pixel += kPixels) {
    first_conv_input_columns<T>(sizes, block > 0, pixel, std::min(kPixels, pixels - pixel), terms,
                                has_theta_t_ ? 2 : 1, block, blocks, layout_.padded_taps,
                                columns_ + pixel * layout_.padded_taps);
  }
}

template <typename T>
void Runner<T>::write_image_gradient(int64_t i) const {
  const FirstConvSizes& sizes = layout_.first;
  std::fill_n(dx_padded_, net_.in_channels * sizes.input_plane(), T(0));
  first_conv_scatter<T>(sizes, columns_, layout_.padded_taps, dx_padded_);
  T* target = pass_.grad_x + (first_ + i) * net_.image_size();
  for (int64_t c = 0; c < net_.in_channels; ++c) {
    for (int64_t h = 0; h < net_.image_height; ++h, target += net_.image_width) {
      std::copy_n(dx_padded_ + c * sizes.input_plane() +
                      (h + net_.padding) * sizes.input_row() + net_.padding,
                  net_.image_width, target);
    }
  }
}

#define NSDBENCH_INSTANTIATE(T)                   \
  template void Runner<T>::forward_first() const; \
  template void Runner<T>::backward_first() const;
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
