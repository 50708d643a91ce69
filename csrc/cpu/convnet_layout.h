// Where the pieces of a ConvNet pass lie: maps, stored activations, weights in the order the
// kernels read them, and sums of gradients. Channels come in blocks (tile_product.h), so do the
// flat features here: [block, pixel, kBlock].

#pragma once

#include <array>
#include <cstdint>

#include "convnet.h"
#include "first_conv.h"
#include "norm_block.h"
#include "winograd.h"
#include "workspace.h"

namespace nsdbench::cpu {

inline constexpr int64_t kMaxDepth = 8;
inline constexpr double kNormEps = 1e-5;  // the networks' group norm

template <typename T>
using PerLayer = std::array<T, kMaxDepth>;

// Rows and columns of the tiles of a convolution of so many maps: 4 where that pays, else 2.
int64_t tile_of(int64_t height, int64_t width, int64_t images);

template <typename T>
struct Layout {
  ConvNet net;
  int64_t channels, blocks;            // padded
  PerLayer<TileMap> map;               // of layer l's convolution output; with halo its input
  FirstConvSizes first;
  int64_t padded_taps;
  int64_t pixels, features;            // of the last pooled map; features with padded channels
  int64_t padded_classes;
  PerLayer<WeightSizes> weight;        // of all convolutions but the first

  // Offsets within one image's record: pooled outputs a[0 .. depth-2] with halo, convolution
  // outputs z[1 .. depth-1], and two moments of every norm [channels]. A tangent's record is laid
  // out alike.
  PerLayer<int64_t> a, z, mean, scale;
  int64_t record;

  Layout(const ConvNet& net, int64_t images) : net(net) {
    channels = round_up(net.width, kBlock<T>);
    blocks = channels / kBlock<T>;
    Pieces<T> pieces;
    const auto place = [&](int64_t count) {
      const int64_t offset = pieces.used();
      pieces.take(count);
      return offset;
    };
    for (int64_t l = 0; l < net.depth; ++l) {
      const int64_t tile = l == 0 ? 2 : tile_of(net.height(l), net.map_width(l), images);
      map[l] = {net.height(l), net.map_width(l), channels, kBlock<T>, tile};
      weight[l] = {net.width, net.width, channels, kPanel<T>, map[l].tile};
      if (l > 0) {
        a[l - 1] = place(map[l].halo_size());
        z[l] = place(map[l].size());
      }
      mean[l] = place(channels);
      scale[l] = place(channels);
    }
    record = pieces.used();
    first = {net.in_channels, map[0].height, map[0].width, channels,
             map[0].columns() * kBlock<T>, map[0].plane(),
             lines_of(map[0].width, net.in_channels)};
    padded_taps = round_up(first.taps(), kBlock<T>);
    pixels = net.height(net.depth) * net.map_width(net.depth);
    features = channels * pixels;
    padded_classes = round_up(net.classes, kBlock<T>);
  }

  NormSizes norm(int64_t l) const {
    const int64_t row = map[l].columns() * kBlock<T>;
    const int64_t pooled = l + 1 < net.depth ? map[l + 1].halo_columns() * kBlock<T>
                                             : net.map_width(net.depth) * kBlock<T>;
    return {map[l].height, map[l].width, map[l].rows(), row, pooled, kNormEps};
  }
  NormMoments<T> moments(T* record_of_image, int64_t l, int64_t block) const {
    T* base = record_of_image + block * kBlock<T>;
    return {base + mean[l], base + scale[l]};
  }
};

// Weights, or their tangent, as the kernels read them.
template <typename T>
struct PreparedWeights {
  FirstWeights<T> first;
  T* first_transposed;  // [channels, padded_taps]
  PerLayer<T*> u;             // transformed: input to output channels
  PerLayer<T*> u_transposed;  // transformed: output to input channels
  PerLayer<T*> gamma, beta;   // [channels]
  T* classifier;              // [classes, features]
  T* classifier_transposed;   // [features, padded_classes]
  T* classifier_bias;         // [padded_classes]

  void place(const Layout<T>& layout, Pieces<T>& pieces) {
    first.w = pieces.take(layout.first.taps() * layout.channels);
    first.u = pieces.take(layout.first.transformed_taps() * layout.channels);
    first_transposed = pieces.take(layout.channels * layout.padded_taps);
    for (int64_t l = 0; l < layout.net.depth; ++l) {
      gamma[l] = pieces.take(layout.channels);
      beta[l] = pieces.take(layout.channels);
      if (l == 0) continue;
      u[l] = pieces.take(layout.weight[l].transformed());
      u_transposed[l] = pieces.take(layout.weight[l].transformed());
    }
    classifier = pieces.take(layout.net.classes * layout.features);
    classifier_transposed = pieces.take(layout.features * layout.padded_classes);
    classifier_bias = pieces.take(layout.padded_classes);
  }
  NormWeights<T> norm(int64_t l, int64_t block) const {
    return {gamma[l] + block * kBlock<T>, beta[l] + block * kBlock<T>};
  }
};

// Rearranges theta; with theta null only scale and shift are set, to 0, and nothing else may be
// read.
template <typename T>
void prepare_weights(const Layout<T>& layout, const T* theta, bool with_transposed,
                     const PreparedWeights<T>& weights);

// Sums over some of the images of the gradient with respect to the weights, in the kernels' layout.
template <typename T>
struct WeightSums {
  T* first;                  // [taps, channels]
  PerLayer<T*> gamma, beta;  // [channels]
  T* classifier;             // [features, padded_classes]
  T* classifier_bias;        // [padded_classes]
  PerLayer<T*> taps;         // [in][block of out][9][kBlock], of all convolutions but the first
  int64_t before_taps;       // elements from `first` on that are not taps

  void place(const Layout<T>& layout, Pieces<T>& pieces) {
    const int64_t start = pieces.used();
    first = pieces.take(layout.first.taps() * layout.channels);
    for (int64_t l = 0; l < layout.net.depth; ++l) {
      gamma[l] = pieces.take(layout.channels);
      beta[l] = pieces.take(layout.channels);
    }
    classifier = pieces.take(layout.features * layout.padded_classes);
    classifier_bias = pieces.take(layout.padded_classes);
    before_taps = pieces.used() - start;
  }
  void place_taps(const Layout<T>& layout, Pieces<T>& pieces) {
    for (int64_t l = 1; l < layout.net.depth; ++l) {
      taps[l] = pieces.take(9 * layout.weight[l].matrix());
    }
  }
};

// Adds `part` to `total`, or starts it with `part`.
template <typename T>
void add_weight_sums(const Layout<T>& layout, const WeightSums<T>& part, bool is_first,
                     const WeightSums<T>& total);

// Writes the sums as grad_theta.
template <typename T>
void write_weight_sums(const Layout<T>& layout, const WeightSums<T>& sums, T* grad_theta);

}  // namespace nsdbench::cpu
