// Images are independent of each other up to the sums over the batch, so a group of images is taken
// through the whole pass, forward and backward, a few images at a time in memory that stays in cache.
// How a batch is cut depends on its size only, and sums over groups are made in order at the end: results
// do not depend on the number of threads. The forward part is the same code with and without tangents
// and derivatives, so a recomputation repeats the first pass bit by bit.

#include "convnet.h"

#include <algorithm>
#include <cmath>

#include "convnet_layout.h"
#include "parallel.h"

namespace nsdbench::cpu {
namespace {

constexpr int64_t kPositions = 16;
constexpr int64_t kFirstBlocks = 2;  // channel blocks of the first convolution done at a time

constexpr int64_t kPixels = 96;        // of the first layer's input gradient, done at a time
constexpr int64_t kMaxGroups = 16;     // each holds sums as large as the weights
constexpr int64_t kImagesInGroup = 8;  // at least, where there are enough images
constexpr int64_t kStrip = 64;         // tiles; more do not fit the second-level cache at 128 channels
constexpr int64_t kMaxChunk = 8;

// How a batch is cut.
struct Cut {
  int64_t groups;  // with sums of their own
  int64_t chunk;   // images taken through the network together
  int64_t strip;   // tiles transformed and multiplied together

  template <typename T>
  Cut(const Layout<T>& layout, int64_t images) {
    const ConvNet& net = layout.net;
    groups = std::clamp<int64_t>(images, 1, 2);
    while (groups < kMaxGroups && groups * 2 * kImagesInGroup < images + kImagesInGroup) {
      groups *= 2;  // a power of two, so that few threads get equal shares
    }
    // As many images as fill a strip with the smallest map, whose products would be slow without.
    const int64_t tiles = layout.map[net.depth - 1].tiles();
    chunk = std::clamp<int64_t>((kStrip + tiles - 1) / tiles, 1, kMaxChunk);
    strip = std::min(kStrip, chunk * layout.map[std::min<int64_t>(1, net.depth - 1)].tiles());
  }
  int64_t first(int64_t group, int64_t images) const { return group * images / groups; }
};

// A value and its tangent; `t` is null when no tangent is taken.
template <typename T>
struct Pair {
  T *p, *t;
  Pair at(int64_t offset) const { return {p + offset, t == nullptr ? nullptr : t + offset}; }
};

// Takes the images of one group through the pass.
template <typename T>
class Runner {
 public:
  Runner(const ConvNetPass<T>& pass, const Layout<T>& layout, const Cut& cut,
         const PreparedWeights<T>& weights, const PreparedWeights<T>& weights_t)
      : pass_(pass),
        layout_(layout),
        net_(layout.net),
        cut_(cut),
        weights_(weights),
        weights_t_(weights_t),
        has_tangent_(pass.theta_t != nullptr || pass.x_t != nullptr),
        has_theta_t_(pass.theta_t != nullptr),
        has_backward_(pass.grad_theta != nullptr || pass.grad_x != nullptr) {}

  // Places all working memory of this runner; call with memory before run().
  void place(Pieces<T>& pieces) {
    const auto pair = [&](int64_t count) -> Pair<T> {
      T* p = pieces.take(count);
      return {p, has_tangent_ ? pieces.take(count) : nullptr};
    };
    const int64_t n = cut_.chunk;
    int64_t halo = 0, plain = 0;
    for (int64_t l = 1; l < net_.depth; ++l) {
      halo = std::max(halo, layout_.map[l].halo_size());
      plain = std::max(plain, layout_.map[l].size());
    }
    if (pass_.activations == nullptr || has_tangent_) {
      record_ = pair(n * layout_.record);
    }
    features_ = pair(n * layout_.features);
    grad_features_ = pair(n * layout_.features);
    logits_ = pair(n * layout_.padded_classes);
    grad_logits_ = pair(n * layout_.padded_classes);
    position_ = cut_.strip * layout_.channels + kBlock<T>;  // odd in blocks: not all in one cache set
    if (net_.depth > 1) {
      v_ = pair(kPositions * position_);
      m_ = pair(kPositions * position_);
    }
    if (has_backward_) {
      da_ = pair(n * halo);
      dz_ = pair(n * plain);
    }
    z_first_ = pair(kFirstBlocks * layout_.map[0].plane());
    x_padded_ = pair(net_.in_channels * layout_.first.input_plane());
    if (pass_.grad_x != nullptr) {
      dx_padded_ = pieces.take(net_.in_channels * layout_.first.input_plane());
      columns_ = pieces.take(layout_.map[0].plane() / kBlock<T> * layout_.padded_taps);
    }
  }

  // Images [begin, end); all sums but those of transformed weights were zeroed, loss and loss_t are
  // added to.
  void run(int64_t begin, int64_t end, const WeightSums<T>& sums, double& loss, double& loss_t) {
    sums_ = sums;
    begin_ = begin;
    for (first_ = begin; first_ < end; first_ += count_) {
      count_ = std::min(cut_.chunk, end - first_);
      if (!pass_.has_activations) {
        forward_first();
        for (int64_t l = 1; l < net_.depth; ++l) forward_layer(l);
        if (pass_.features != nullptr) write_features(features_.p, pass_.features);
        if (pass_.features_t != nullptr) write_features(features_.t, pass_.features_t);
      }
      if (pass_.grad_features != nullptr) {
        read_features(pass_.grad_features, grad_features_.p);
        if (has_tangent_) read_features(pass_.grad_features_t, grad_features_.t);
      } else if (net_.classes > 0) {
        classify(loss, loss_t);
      }
      if (!has_backward_) continue;
      for (int64_t l = net_.depth - 1; l > 0; --l) backward_layer(l);
      backward_first();
    }
  }

 private:
  // The record of image i of the chunk.
  Pair<T> record(int64_t i) const {
    if (pass_.activations != nullptr && !has_tangent_) {
      return {pass_.activations + (first_ + i) * layout_.record, nullptr};
    }
    return record_.at(i * layout_.record);
  }

  // Pooled output of layer l of image i, and the same place in the gradient.
  Pair<T> pooled(int64_t l, int64_t i) const {
    if (l + 1 == net_.depth) return features_.at(i * layout_.features);
    return record(i).at(layout_.a[l] + layout_.map[l + 1].halo_interior());
  }
  Pair<T> grad_pooled(int64_t l, int64_t i) const {
    if (l + 1 == net_.depth) return grad_features_.at(i * layout_.features);
    const TileMap& map = layout_.map[l + 1];
    return da_.at(i * map.halo_size() + map.halo_interior());
  }
  int64_t pooled_plane(int64_t l) const {
    return l + 1 == net_.depth ? layout_.pixels * kBlock<T> : layout_.map[l + 1].halo_plane();
  }

  // The frame of zeros around what norm_forward writes into a map with halo.
  void clear_halo(int64_t l, int64_t i, int64_t first_block, int64_t blocks) const {
    if (l + 1 == net_.depth) return;
    const TileMap& map = layout_.map[l + 1];
    const int64_t row = map.halo_columns() * kBlock<T>;
    const Pair<T> image = record(i).at(layout_.a[l]);
    for (T* half : {image.p, image.t}) {
      if (half == nullptr) continue;
      for (int64_t block = first_block; block < first_block + blocks; ++block) {
        T* plane = half + block * map.halo_plane();
        std::fill_n(plane, row, T(0));
        for (int64_t h = 1; h <= map.height; ++h) {
          std::fill_n(plane + h * row, kBlock<T>, T(0));
          std::fill_n(plane + h * row + (map.width + 1) * kBlock<T>,
                      row - (map.width + 1) * kBlock<T>, T(0));
        }
        std::fill(plane + (map.height + 1) * row, plane + map.halo_plane(), T(0));
      }
    }
  }

  void norm_and_pool(int64_t l, int64_t i, int64_t block, const Pair<T>& z) const {
    const Pair<T> target = pooled(l, i).at(block * pooled_plane(l));
    const Pair<T> moments = record(i);
    if (has_tangent_) {
      norm_forward_jvp<T>(layout_.norm(l), weights_.norm(l, block), weights_t_.norm(l, block), z.p,
                          z.t, layout_.moments(moments.p, l, block),
                          layout_.moments(moments.t, l, block), target.p, target.t);
    } else {
      norm_forward<T>(layout_.norm(l), weights_.norm(l, block), z.p,
                      layout_.moments(moments.p, l, block), target.p);
    }
  }

  // dz from the gradient of the pooled output; z and dz may be the same memory.
  void norm_and_pool_backward(int64_t l, int64_t i, int64_t block, const Pair<T>& z,
                              const Pair<T>& dz) const {
    const Pair<T> grad = grad_pooled(l, i).at(block * pooled_plane(l));
    const Pair<T> moments = record(i);
    T* gamma = sums_.gamma[l] + block * kBlock<T>;
    T* beta = sums_.beta[l] + block * kBlock<T>;
    if (has_tangent_) {
      norm_backward_jvp<T>(layout_.norm(l), weights_.norm(l, block), weights_t_.norm(l, block),
                           z.p, z.t, layout_.moments(moments.p, l, block),
                           layout_.moments(moments.t, l, block), grad.p, grad.t, dz.p, dz.t, gamma,
                           beta);
    } else {
      norm_backward<T>(layout_.norm(l), weights_.norm(l, block), z.p,
                       layout_.moments(moments.p, l, block), grad.p, dz.p, gamma, beta);
    }
  }

  // ---- first layer

  void read_image(int64_t i, const T* images, T* padded) const {
    const FirstConvSizes& sizes = layout_.first;
    std::fill_n(padded, net_.in_channels * sizes.input_plane(), T(0));
    const T* source = images + (first_ + i) * net_.image_size();
    for (int64_t c = 0; c < net_.in_channels; ++c) {
      for (int64_t h = 0; h < net_.image_height; ++h, source += net_.image_width) {
        std::copy_n(source, net_.image_width,
                    padded + c * sizes.input_plane() + (h + net_.padding) * sizes.input_row() +
                        net_.padding);
      }
    }
  }

  void read_image(int64_t i) const {
    read_image(i, pass_.x, x_padded_.p);
    if (pass_.x_t != nullptr) read_image(i, pass_.x_t, x_padded_.t);
  }

  void convolve_first(int64_t block, int64_t blocks) const {
    const FirstConvSizes& sizes = layout_.first;
    first_conv<T>(sizes, false, x_padded_.p, weights_.first, block, blocks, z_first_.p);
    if (!has_tangent_) return;
    if (has_theta_t_) {
      first_conv<T>(sizes, false, x_padded_.p, weights_t_.first, block, blocks, z_first_.t);
    }
    if (pass_.x_t != nullptr) {
      first_conv<T>(sizes, has_theta_t_, x_padded_.t, weights_.first, block, blocks, z_first_.t);
    }
  }

  void forward_first() const {
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

  void backward_first() const {
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
          first_conv_weight_gradient<T>(sizes, x_padded_.p, dz, block, blocks, sums_.first);
          if (pass_.x_t != nullptr) {
            first_conv_weight_gradient<T>(sizes, x_padded_.t, z_first_.p, block, blocks,
                                          sums_.first);
          }
        }
        if (pass_.grad_x != nullptr) {
          input_columns(block, blocks);
        }
      }
      if (pass_.grad_x != nullptr) write_image_gradient(i);
    }
  }

  // columns_ (+)= dz w, or its tangent dz_t w + dz w_t; some pixels at a time, to stay in the cache.
  void input_columns(int64_t block, int64_t blocks) const {
    const FirstConvSizes& sizes = layout_.first;
    const int64_t pixels = sizes.plane / kBlock<T>;
    for (int64_t pixel = 0; pixel < pixels; pixel += kPixels) {
      const int64_t count = std::min(kPixels, pixels - pixel);
      T* target = columns_ + pixel * layout_.padded_taps;
      first_conv_input_columns<T>(sizes, block > 0, pixel, count,
                                  has_tangent_ ? z_first_.t : z_first_.p, block, blocks,
                                  weights_.first_transposed, layout_.padded_taps, target);
      if (!has_theta_t_) continue;
      first_conv_input_columns<T>(sizes, true, pixel, count, z_first_.p, block, blocks,
                                  weights_t_.first_transposed, layout_.padded_taps, target);
    }
  }

  void write_image_gradient(int64_t i) const {
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

  // ---- the other layers

  // Calls body(range of the map with halo, range of the map without) for the chunk's strips.
  template <typename Body>
  void for_strips(int64_t l, int64_t halo_stride, int64_t plain_stride, const Body& body) const {
    const int64_t tiles = count_ * layout_.map[l].tiles();
    for (int64_t first = 0; first < tiles; first += cut_.strip) {
      const int64_t count = std::min(cut_.strip, tiles - first);
      const TileRange with_halo{layout_.map[l], first, count, halo_stride, position_};
      const TileRange without{layout_.map[l], first, count, plain_stride, position_};
      body(with_halo, without);
    }
  }

  // C (+)= A W at every position, W [width, channels] in panels.
  void multiply(bool accumulate, int64_t rows, const T* a, const T* w, T* c) const {
    for (int64_t p = 0; p < kPositions; ++p) {
      multiply_position(accumulate, rows, a + p * position_, w + p * layout_.weight.matrix(),
                        c + p * position_);
    }
  }

  void multiply_position(bool accumulate, int64_t rows, const T* a, const T* w, T* c) const {
    for (int64_t panel = 0; panel < layout_.channels; panel += kPanel<T>) {
      const int64_t width = layout_.weight.panel_width(panel);
      tile_product<T>(accumulate, rows, width, net_.width, a, layout_.channels, 1,
                      w + panel * net_.width, width, c + panel, layout_.channels);
    }
  }

  // dU (+)= V^T dM at every position.
  void multiply_weights(bool accumulate, int64_t count, const T* v, const T* dm, T* du) const {
    for (int64_t p = 0; p < kPositions; ++p) {
      for (int64_t panel = 0; panel < layout_.channels; panel += kPanel<T>) {
        const int64_t width = layout_.weight.panel_width(panel);
        tile_product<T>(accumulate, net_.width, width, count, v + p * position_, 1,
                        layout_.channels, dm + p * position_ + panel, layout_.channels,
                        du + p * layout_.weight.matrix() + panel * net_.width, width);
      }
    }
  }

  void forward_layer(int64_t l) const {
    const Pair<T> a = record(0).at(layout_.a[l - 1]), z = record(0).at(layout_.z[l]);
    for_strips(l, layout_.record, layout_.record, [&](const TileRange& in, const TileRange& out) {
      transform_input<T>(in, a.p, v_.p);
      if (has_tangent_) transform_input<T>(in, a.t, v_.t);
      multiply(false, in.count, v_.p, weights_.u[l], m_.p);
      transform_output<T>(out, m_.p, z.p);
      if (!has_tangent_) return;
      multiply(false, in.count, v_.t, weights_.u[l], m_.t);
      if (has_theta_t_) multiply(true, in.count, v_.p, weights_t_.u[l], m_.t);
      transform_output<T>(out, m_.t, z.t);
    });
    for (int64_t i = 0; i < count_; ++i) {
      for (int64_t block = 0; block < layout_.blocks; ++block) {
        norm_and_pool(l, i, block, record(i).at(layout_.z[l] + block * layout_.map[l].plane()));
      }
      clear_halo(l, i, 0, layout_.blocks);
    }
  }

  void backward_layer(int64_t l) const {
    const TileMap& map = layout_.map[l];
    for (int64_t i = 0; i < count_; ++i) {
      for (int64_t block = 0; block < layout_.blocks; ++block) {
        norm_and_pool_backward(l, i, block, record(i).at(layout_.z[l] + block * map.plane()),
                               dz_.at(i * map.size() + block * map.plane()));
      }
    }
    std::fill_n(da_.p, count_ * map.halo_size(), T(0));
    if (has_tangent_) std::fill_n(da_.t, count_ * map.halo_size(), T(0));
    const Pair<T> a = record(0).at(layout_.a[l - 1]);
    for_strips(l, layout_.record, map.size(), [&](const TileRange& in, const TileRange& out) {
      transform_output_transposed<T>(out, dz_.p, m_.p);
      if (has_tangent_) transform_output_transposed<T>(out, dz_.t, m_.t);
      if (pass_.grad_theta != nullptr) {
        const bool add = first_ > begin_ || in.first > 0;  // sums_.u is not zeroed before
        transform_input<T>(in, a.p, v_.p);
        if (has_tangent_) {
          transform_input<T>(in, a.t, v_.t);
          multiply_weights(add, in.count, v_.p, m_.t, sums_.u[l]);
          multiply_weights(true, in.count, v_.t, m_.p, sums_.u[l]);
        } else {
          multiply_weights(add, in.count, v_.p, m_.p, sums_.u[l]);
        }
      }
      TileRange gradient = in;
      gradient.image_stride = map.halo_size();
      multiply(false, in.count, m_.p, weights_.u_transposed[l], v_.p);
      transform_input_transposed<T>(gradient, v_.p, da_.p);
      if (!has_tangent_) return;
      multiply(false, in.count, m_.t, weights_.u_transposed[l], v_.t);
      if (has_theta_t_) multiply(true, in.count, m_.p, weights_t_.u_transposed[l], v_.t);
      transform_input_transposed<T>(gradient, v_.t, da_.t);
    });
  }

  // ---- features and classifier

  void write_features(const T* blocked, T* features) const {
    for (int64_t i = 0; i < count_; ++i) {
      T* target = features + (first_ + i) * net_.features();
      for (int64_t c = 0; c < net_.width; ++c) {
        const T* source = blocked + i * layout_.features +
                          c / kBlock<T> * layout_.pixels * kBlock<T> + c % kBlock<T>;
        for (int64_t p = 0; p < layout_.pixels; ++p) *target++ = source[p * kBlock<T>];
      }
    }
  }

  void read_features(const T* features, T* blocked) const {
    std::fill_n(blocked, count_ * layout_.features, T(0));
    if (features == nullptr) return;
    for (int64_t i = 0; i < count_; ++i) {
      const T* source = features + (first_ + i) * net_.features();
      for (int64_t c = 0; c < net_.width; ++c) {
        T* target = blocked + i * layout_.features +
                    c / kBlock<T> * layout_.pixels * kBlock<T> + c % kBlock<T>;
        for (int64_t p = 0; p < layout_.pixels; ++p) target[p * kBlock<T>] = *source++;
      }
    }
  }

  // Loss and gradients down to the features.
  void classify(double& loss, double& loss_t) const {
    const int64_t rows = count_, wide = layout_.padded_classes, f = layout_.features;
    tile_product<T>(false, rows, wide, f, features_.p, f, 1, weights_.classifier_transposed, wide,
                    logits_.p, wide);
    add_bias(weights_.classifier_bias, logits_.p);
    if (has_tangent_) {
      tile_product<T>(false, rows, wide, f, features_.t, f, 1, weights_.classifier_transposed,
                      wide, logits_.t, wide);
      if (has_theta_t_) {
        tile_product<T>(true, rows, wide, f, features_.p, f, 1, weights_t_.classifier_transposed,
                        wide, logits_.t, wide);
        add_bias(weights_t_.classifier_bias, logits_.t);
      }
    }
    for (int64_t i = 0; i < rows; ++i) cross_entropy(i, loss, loss_t);
    if (!has_backward_) return;

    const int64_t k = net_.classes;
    if (pass_.grad_theta != nullptr) {
      const T* grad = has_tangent_ ? grad_logits_.t : grad_logits_.p;
      tile_product<T>(true, f, wide, rows, features_.p, 1, f, grad, wide, sums_.classifier, wide);
      if (has_tangent_) {
        tile_product<T>(true, f, wide, rows, features_.t, 1, f, grad_logits_.p, wide,
                        sums_.classifier, wide);
      }
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t n = 0; n < wide; ++n) sums_.classifier_bias[n] += grad[i * wide + n];
      }
    }
    tile_product<T>(false, rows, f, k, grad_logits_.p, wide, 1, weights_.classifier, f,
                    grad_features_.p, f);
    if (!has_tangent_) return;
    tile_product<T>(false, rows, f, k, grad_logits_.t, wide, 1, weights_.classifier, f,
                    grad_features_.t, f);
    if (has_theta_t_) {
      tile_product<T>(true, rows, f, k, grad_logits_.p, wide, 1, weights_t_.classifier, f,
                      grad_features_.t, f);
    }
  }

  void add_bias(const T* bias, T* logits) const {
    for (int64_t i = 0; i < count_; ++i) {
      for (int64_t k = 0; k < net_.classes; ++k) logits[i * layout_.padded_classes + k] += bias[k];
    }
  }

  // J_i = -1/images sum_k y_k log s_k with s = softmax(logits); in double, it is only a few numbers.
  void cross_entropy(int64_t i, double& loss, double& loss_t) const {
    const int64_t k = net_.classes, row = i * layout_.padded_classes, n = first_ + i;
    const Pair<T> logits = logits_.at(row), grad = grad_logits_.at(row);
    std::fill_n(grad.p, layout_.padded_classes, T(0));
    if (has_tangent_) std::fill_n(grad.t, layout_.padded_classes, T(0));
    const auto label = [&](int64_t c) -> double {
      if (pass_.classes != nullptr) return pass_.classes[n] == c ? 1 : 0;
      return static_cast<double>(pass_.probabilities[n * k + c]);
    };
    double largest = logits.p[0], total = 0, mass = 0, mean_t = 0;
    for (int64_t c = 1; c < k; ++c) largest = std::max(largest, static_cast<double>(logits.p[c]));
    for (int64_t c = 0; c < k; ++c) {
      total += std::exp(logits.p[c] - largest);
      mass += label(c);
    }
    const double log_total = std::log(total), size = static_cast<double>(pass_.images);
    if (has_tangent_) {
      for (int64_t c = 0; c < k; ++c) {
        mean_t += std::exp(logits.p[c] - largest - log_total) * logits.t[c];
      }
    }
    for (int64_t c = 0; c < k; ++c) {
      const double log_s = logits.p[c] - largest - log_total, s = std::exp(log_s), y = label(c);
      const double gradient = (s * mass - y) / size;
      // Not y * log_s for a hard label: 0 * -inf is no number.
      if (y != 0) loss -= y * log_s / size;
      grad.p[c] = static_cast<T>(gradient);
      double log_s_t = 0;
      if (has_tangent_) {
        log_s_t = logits.t[c] - mean_t;
        loss_t += gradient * logits.t[c];
        grad.t[c] = static_cast<T>(s * log_s_t * mass / size);
      }
      if (pass_.grad_probabilities != nullptr) {
        pass_.grad_probabilities[n * k + c] =
            static_cast<T>(-(has_tangent_ ? log_s_t : log_s) / size);
      }
    }
  }

  const ConvNetPass<T>& pass_;
  const Layout<T>& layout_;
  const ConvNet& net_;
  const Cut& cut_;
  const PreparedWeights<T>&weights_, &weights_t_;
  const bool has_tangent_, has_theta_t_, has_backward_;
  int64_t position_ = 0;           // elements between positions of a transform
  int64_t begin_ = 0;              // first image of the group
  int64_t first_ = 0, count_ = 0;  // images of the chunk
  WeightSums<T> sums_{};
  Pair<T> record_{}, features_{}, grad_features_{}, logits_{}, grad_logits_{};
  Pair<T> v_{}, m_{}, da_{}, dz_{}, z_first_{}, x_padded_{};
  T *dx_padded_ = nullptr, *columns_ = nullptr;
};

}  // namespace

template <typename T>
int64_t activation_size(const ConvNet& net) {
  return Layout<T>(net).record;
}

template <typename T>
void run_convnet(const ConvNetPass<T>& pass) {
  thread_local Workspace shared_memory;
  const Layout<T> layout(pass.net);
  const Cut cut(layout, pass.images);
  const bool has_tangent = pass.theta_t != nullptr || pass.x_t != nullptr;
  const bool has_backward = pass.grad_theta != nullptr || pass.grad_x != nullptr;

  PreparedWeights<T> weights{}, weights_t{};
  WeightSums<T> sums{};
  double *loss = nullptr, *loss_t = nullptr;
  int64_t group_stride = 0;
  const auto place = [&](Pieces<T> pieces) {
    weights.place(layout, pieces);
    if (has_tangent) weights_t.place(layout, pieces);
    loss = reinterpret_cast<double*>(pieces.take(2 * cut.groups));
    loss_t = reinterpret_cast<double*>(pieces.take(2 * cut.groups));
    Pieces<T> one;
    WeightSums<T>{}.place(layout, one);
    group_stride = one.used();
    T* all = pieces.take(group_stride * cut.groups);
    if (all != nullptr) {
      Pieces<T> first(all);
      sums.place(layout, first);
    }
    return pieces.used();
  };
  const int64_t size = place(Pieces<T>());
  place(Pieces<T>(shared_memory.get<T>(size)));
  prepare_weights<T>(layout, pass.theta, has_backward, weights);
  if (has_tangent) prepare_weights<T>(layout, pass.theta_t, has_backward, weights_t);

  parallel_for(0, cut.groups, 1, [&](int64_t begin, int64_t end) {
    thread_local Workspace own_memory;
    Runner<T> runner(pass, layout, cut, weights, weights_t);
    Pieces<T> counted;
    runner.place(counted);
    Pieces<T> pieces(own_memory.get<T>(counted.used()));
    runner.place(pieces);
    for (int64_t group = begin; group < end; ++group) {
      WeightSums<T> own{};
      Pieces<T> place_of_group(sums.first + group * group_stride);
      own.place(layout, place_of_group);
      std::fill_n(own.first, pass.images == 0 ? group_stride : own.before_u, T(0));
      loss[group] = loss_t[group] = 0;
      runner.run(cut.first(group, pass.images), cut.first(group + 1, pass.images), own,
                 loss[group], loss_t[group]);
    }
  });
  if (pass.loss != nullptr) *pass.loss = 0;
  if (pass.loss_t != nullptr) *pass.loss_t = 0;
  for (int64_t group = 0; group < cut.groups; ++group) {
    if (pass.loss != nullptr) *pass.loss += loss[group];
    if (pass.loss_t != nullptr) *pass.loss_t += loss_t[group];
  }
  if (pass.grad_theta != nullptr) {
    finish_weight_sums<T>(layout, sums, cut.groups, group_stride, pass.grad_theta);
  }
}

#define NSDBENCH_INSTANTIATE(T)                             \
  template int64_t activation_size<T>(const ConvNet&);      \
  template void run_convnet<T>(const ConvNetPass<T>& pass);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
