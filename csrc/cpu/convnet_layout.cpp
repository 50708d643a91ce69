#include "convnet_layout.h"

#include <algorithm>

#include "parallel.h"

namespace nsdbench::cpu {
namespace {

// Feature f of theta's classifier is channel f / pixels, pixel f % pixels.
template <typename T>
int64_t blocked_feature(const Layout<T>& layout, int64_t channel, int64_t pixel) {
  return (channel / kBlock<T> * layout.pixels + pixel) * kBlock<T> + channel % kBlock<T>;
}

template <typename T>
void prepare_first(const Layout<T>& layout, const T* theta, const PreparedWeights<T>& weights) {
  const int64_t taps = layout.first.taps();
  std::fill_n(weights.first.w, taps * layout.channels, T(0));
  std::fill_n(weights.first_transposed, layout.channels * layout.padded_taps, T(0));
  for (int64_t co = 0; co < layout.net.width; ++co) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      const T value = theta[co * taps + tap];
      weights.first.w[tap * layout.channels + co] = value;
      weights.first_transposed[co * layout.padded_taps + tap] = value;
    }
  }
  first_conv_transform_weights<T>(layout.first, weights.first);
}

template <typename T>
void prepare_classifier(const Layout<T>& layout, const T* theta,
                        const PreparedWeights<T>& weights) {
  const ConvNet& net = layout.net;
  std::fill_n(weights.classifier, net.classes * layout.features, T(0));
  std::fill_n(weights.classifier_transposed, layout.features * layout.padded_classes, T(0));
  std::fill_n(weights.classifier_bias, layout.padded_classes, T(0));
  std::copy_n(theta + net.classifier_bias(), net.classes, weights.classifier_bias);
  const T* source = theta + net.classifier_weight();
  for (int64_t k = 0; k < net.classes; ++k) {
    for (int64_t c = 0; c < net.width; ++c) {
      for (int64_t p = 0; p < layout.pixels; ++p) {
        const int64_t f = blocked_feature(layout, c, p);
        weights.classifier[k * layout.features + f] = *source;
        weights.classifier_transposed[f * layout.padded_classes + k] = *source++;
      }
    }
  }
}

constexpr int64_t kChannelsInTask = 16;

}  // namespace

// In products of one tile at one position. Measured with 16 to 128 channels and 1 to 100 images, on
// maps of 2x2 to 16x16: F(4x4) is faster if its products, and a quarter as many again for its
// transforms, are fewer than those of F(2x2) by 20 for each of the 20 positions that it has more.
// Those stand for the transforms and the traffic of weights, which do not depend on the images.
int64_t tile_of(int64_t height, int64_t width, int64_t images) {
  const TileMap two{height, width, 0, 0, 2}, four{height, width, 0, 0, 4};
  const int64_t saved = 16 * two.tiles() - 45 * four.tiles();
  return images * saved >= 400 ? 4 : 2;
}

template <typename T>
void prepare_weights(const Layout<T>& layout, const T* theta, bool with_transposed,
                     const PreparedWeights<T>& weights) {
  const ConvNet& net = layout.net;
  for (int64_t l = 0; l < net.depth; ++l) {
    std::fill_n(weights.gamma[l], layout.channels, T(0));
    std::fill_n(weights.beta[l], layout.channels, T(0));
    if (theta == nullptr) continue;
    std::copy_n(theta + net.norm_weight(l), net.width, weights.gamma[l]);
    std::copy_n(theta + net.norm_bias(l), net.width, weights.beta[l]);
  }
  if (theta == nullptr) return;
  const int64_t directions = with_transposed ? 2 : 1;
  const int64_t pieces = (net.width + kChannelsInTask - 1) / kChannelsInTask;
  const int64_t convolutions = (net.depth - 1) * directions * pieces;
  parallel_for(0, convolutions + 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      if (task == convolutions) {
        prepare_first(layout, theta, weights);
      } else if (task == convolutions + 1) {
        if (net.classes > 0) prepare_classifier(layout, theta, weights);
      } else {
        const int64_t l = 1 + task / (directions * pieces);
        const bool transposed = task / pieces % directions == 1;
        const int64_t first = task % pieces * kChannelsInTask;
        transform_weight<T>(layout.weight[l], transposed, theta + net.conv_weight(l), first,
                            std::min(first + kChannelsInTask, net.width),
                            transposed ? weights.u_transposed[l] : weights.u[l]);
      }
    }
  });
}

template <typename T>
void add_weight_sums(const Layout<T>& layout, const WeightSums<T>& part, bool is_first,
                     const WeightSums<T>& total) {
  const auto add = [=](int64_t count, const T* source, T* target) {
    if (is_first) {
      std::copy_n(source, count, target);
    } else {
      for (int64_t n = 0; n < count; ++n) target[n] += source[n];
    }
  };
  add(part.before_taps, part.first, total.first);
  for (int64_t l = 1; l < layout.net.depth; ++l) {
    add(9 * layout.weight[l].matrix(), part.taps[l], total.taps[l]);
  }
}

template <typename T>
void write_weight_sums(const Layout<T>& layout, const WeightSums<T>& sums, T* grad_theta) {
  const ConvNet& net = layout.net;
  const auto add_vectors = [&] {
    const int64_t taps = layout.first.taps();
    for (int64_t c = 0; c < net.width; ++c) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        grad_theta[c * taps + tap] = sums.first[tap * layout.channels + c];
      }
    }
    for (int64_t l = 0; l < net.depth; ++l) {
      std::fill_n(grad_theta + net.conv_bias(l), net.width, T(0));
      for (int64_t c = 0; c < net.width; ++c) {
        grad_theta[net.norm_weight(l) + c] = sums.gamma[l][c];
        grad_theta[net.norm_bias(l) + c] = sums.beta[l][c];
      }
    }
  };
  const auto add_classifier = [&](int64_t k) {
    T* target = grad_theta + net.classifier_weight() + k * net.features();
    for (int64_t c = 0; c < net.width; ++c) {
      for (int64_t p = 0; p < layout.pixels; ++p) {
        *target++ = sums.classifier[blocked_feature(layout, c, p) * layout.padded_classes + k];
      }
    }
    grad_theta[net.classifier_bias() + k] = sums.classifier_bias[k];
  };
  const int64_t pieces = (net.width + kChannelsInTask - 1) / kChannelsInTask;
  const int64_t convolutions = (net.depth - 1) * pieces;
  parallel_for(0, convolutions + 1 + net.classes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      if (task < convolutions) {
        const int64_t l = 1 + task / pieces, first = task % pieces * kChannelsInTask;
        write_weight_gradient<T>(layout.weight[l], sums.taps[l], first,
                                 std::min(first + kChannelsInTask, net.width),
                                 grad_theta + net.conv_weight(l));
      } else if (task == convolutions) {
        add_vectors();
      } else {
        add_classifier(task - convolutions - 1);
      }
    }
  });
}

#define NSDBENCH_INSTANTIATE(T)                                                                \
  template void prepare_weights<T>(const Layout<T>&, const T*, bool, const PreparedWeights<T>&); \
  template void add_weight_sums<T>(const Layout<T>&, const WeightSums<T>&, bool,                 \
                                   const WeightSums<T>&);                                        \
  template void write_weight_sums<T>(const Layout<T>&, const WeightSums<T>&, T*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
