// What takes some of a batch's images through a ConvNet pass: the working memory of one thread and
// the steps of the pass. The steps are defined by layer: convnet_first.cpp, convnet_winograd.cpp,
// convnet_classifier.cpp; their order is in convnet.cpp.

#pragma once

#include <algorithm>
#include <cstdint>

#include "convnet.h"
#include "convnet_layout.h"

namespace nsdbench::cpu {

constexpr int64_t kFirstBlocks = 2;  // channel blocks of the first convolution done at a time

constexpr int64_t kPixels = 96;        // of the first layer's input gradient, done at a time
constexpr int64_t kMaxGroups = 16;     // each adds sums as large as the weights
constexpr int64_t kImagesInGroup = 8;  // at least, where there are enough images
constexpr int64_t kStrip = 64;         // tiles; half as many with tangents: the same memory
constexpr int64_t kChunkPixels = 256;  // of the smallest map, at least
constexpr int64_t kMaxChunk = 8;
constexpr int64_t kKeptBytes = 1 << 20;  // of transforms of all inputs, at most: they stay in cache

// How a batch is cut.
struct Cut {
  int64_t groups;  // with sums of their own
  int64_t chunk;   // images taken through the network together
  int64_t strip;   // tiles transformed and multiplied together

  template <typename T>
  Cut(const Layout<T>& layout, int64_t images, bool has_tangent) {
    const ConvNet& net = layout.net;
    groups = std::clamp<int64_t>(images, 1, 2);
    while (groups < kMaxGroups && groups * 2 * kImagesInGroup < images + kImagesInGroup) {
      groups *= 2;  // a power of two, so that few threads get equal shares
    }
    // As many images as it takes for the smallest map's products not to be slow.
    const TileMap& smallest = layout.map[net.depth - 1];
    const int64_t pixels = smallest.height * smallest.width;
    chunk = std::clamp<int64_t>((kChunkPixels + pixels - 1) / pixels, 1, kMaxChunk);
    strip = std::min(has_tangent ? kStrip / 2 : kStrip,
                     chunk * layout.map[std::min<int64_t>(1, net.depth - 1)].tiles());
  }
  int64_t first(int64_t group, int64_t images) const { return group * images / groups; }
};

// A value and its tangent; `t` is null when no tangent is taken.
template <typename T>
struct Pair {
  T *p, *t;
  Pair at(int64_t offset) const { return {p + offset, t == nullptr ? nullptr : t + offset}; }
};

// Takes the images of one group through the pass, a chunk at a time.
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
  void place(Pieces<T>& pieces);

  // Images [begin, end), at least one; loss and loss_t are added to.
  void run(int64_t begin, int64_t end, double& loss, double& loss_t);

  // Of the images of the last run.
  const WeightSums<T>& sums() const { return sums_; }

 private:
  // Whether records are the caller's, and must stay as the forward pass left them.
  bool has_kept_records() const { return pass_.activations != nullptr && !has_tangent_; }

  // The record of image i of the chunk.
  Pair<T> record(int64_t i) const {
    if (has_kept_records()) {
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

  // In convnet.cpp: what all layers do after their convolution.
  void clear_halo(int64_t l, int64_t i, int64_t first_block, int64_t blocks) const;
  void norm_and_pool(int64_t l, int64_t i, int64_t block, const Pair<T>& z) const;
  void norm_and_pool_backward(int64_t l, int64_t i, int64_t block, const Pair<T>& z,
                              const Pair<T>& dz) const;

  // In convnet_first.cpp.
  void read_image(int64_t i, const T* images, const FirstInput<T>& input) const;
  void read_image(int64_t i) const;
  void convolve_first(int64_t block, int64_t blocks) const;
  void forward_first() const;
  void backward_first() const;
  void input_columns(int64_t block, int64_t blocks) const;
  void write_image_gradient(int64_t i) const;

  // In convnet_winograd.cpp.
  template <typename Body>
  void for_strips(int64_t l, int64_t halo_stride, int64_t plain_stride, const Body& body) const;
  int64_t transforms_size(int64_t l) const;
  bool keeps_transforms() const;
  T* input_transforms(int64_t l, const TileRange& in) const;
  Pair<T> halves(T* transforms, int64_t count, bool tangent_first = false) const;
  void multiply(bool accumulate, int64_t rows, const T* a, const T* w, T* c) const;
  void multiply_weights(bool accumulate, int64_t count, const T* v, const T* dm, T* du) const;
  void forward_layer(int64_t l) const;
  void backward_layer(int64_t l) const;

  // In convnet_classifier.cpp.
  void write_features(const T* blocked, T* features) const;
  void read_features(const T* features, T* blocked) const;
  void classify(double& loss, double& loss_t) const;
  void add_bias(const T* bias, T* logits) const;
  void cross_entropy(int64_t i, double& loss, double& loss_t) const;

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
  Pair<T> da_{}, dz_{}, z_first_{};
  FirstInput<T> x_{}, x_t_{};
  T *v_ = nullptr, *m_ = nullptr;  // transforms of a strip, and of its tangent
  PerLayer<T*> kept_v_{};          // transforms of a layer's input, if they are kept
  PerLayer<T*> du_{};  // gradients of the transformed weights, summed over the group
  T *dx_padded_ = nullptr, *columns_ = nullptr;
};

}  // namespace nsdbench::cpu
