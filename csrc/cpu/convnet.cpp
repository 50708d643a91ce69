// Images are independent of each other up to the sums over the batch, so a group of images is taken
// through the whole pass, forward and backward, a few images at a time in memory that stays in
// cache. How a batch is cut depends on its size only, and the sums of groups are added in order:
// results do not depend on the number of threads. The forward part is the same code with and without
// tangents and derivatives, so a recomputation repeats the first pass bit by bit.

#include "convnet.h"

#include <algorithm>
#include <atomic>

#include "convnet_layout.h"
#include "convnet_runner.h"
#include "parallel.h"

namespace nsdbench::cpu {

template <typename T>
void Runner<T>::place(Pieces<T>& pieces) {
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
  if (!has_kept_records()) record_ = pair(n * layout_.record);
  features_ = pair(n * layout_.features);
  grad_features_ = pair(n * layout_.features);
  logits_ = pair(n * layout_.padded_classes);
  grad_logits_ = pair(n * layout_.padded_classes);
  const int64_t rows = has_tangent_ ? 2 * cut_.strip : cut_.strip;
  position_ = rows * layout_.channels + kBlock<T>;  // odd in blocks: not all in one cache set
  int64_t positions = 0;
  for (int64_t l = 1; l < net_.depth; ++l) {
    positions = std::max(positions, positions_of(layout_.map[l].tile));
  }
  // The taps are made of du_ after all transforms have been used, so they lie in the same memory.
  const auto place_both = [&](T* memory) {
    Pieces<T> transforms(memory), taps(memory);
    v_ = transforms.take(positions * position_);
    m_ = transforms.take(positions * position_);
    if (pass_.grad_theta != nullptr) sums_.place_taps(layout_, taps);
    return std::max(transforms.used(), taps.used());
  };
  place_both(pieces.take(place_both(nullptr)));
  sums_.place(layout_, pieces);
  for (int64_t l = 1; l < net_.depth && keeps_transforms(); ++l) {
    kept_v_[l] = pieces.take(transforms_size(l));
  }
  for (int64_t l = 1; l < net_.depth && pass_.grad_theta != nullptr; ++l) {
    du_[l] = pieces.take(layout_.weight[l].transformed());
  }
  if (has_backward_) {
    da_ = pair(n * halo);
    if (has_kept_records()) dz_ = pair(n * plain);
  }
  z_first_ = pair(kFirstBlocks * layout_.map[0].plane());
  const Pair<T> x = pair(net_.in_channels * layout_.first.input_plane());
  const Pair<T> v = pair(net_.in_channels * layout_.first.transformed_plane());
  x_ = {x.p, v.p};
  x_t_ = {x.t, v.t};
  if (pass_.grad_x != nullptr) {
    dx_padded_ = pieces.take(net_.in_channels * layout_.first.input_plane());
    columns_ = pieces.take(layout_.map[0].plane() / kBlock<T> * layout_.padded_taps);
  }
}

template <typename T>
void Runner<T>::run(int64_t begin, int64_t end, double& loss, double& loss_t) {
  std::fill_n(sums_.first, sums_.before_taps, T(0));
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
  for (int64_t l = 1; l < net_.depth && pass_.grad_theta != nullptr; ++l) {
    transform_weight_transposed<T>(layout_.weight[l], du_[l], sums_.taps[l]);
  }
}

// The frame of zeros around what norm_forward writes into a map with halo.
template <typename T>
void Runner<T>::clear_halo(int64_t l, int64_t i, int64_t first_block, int64_t blocks) const {
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

template <typename T>
void Runner<T>::norm_and_pool(int64_t l, int64_t i, int64_t block, const Pair<T>& z) const {
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
template <typename T>
void Runner<T>::norm_and_pool_backward(int64_t l, int64_t i, int64_t block, const Pair<T>& z,
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

template <typename T>
int64_t activation_size(const ConvNet& net, int64_t images) {
  return Layout<T>(net, images).record;
}

template <typename T>
void run_convnet(const ConvNetPass<T>& pass) {
  thread_local Workspace shared_memory;
  const Layout<T> layout(pass.net, pass.images);
  const bool has_tangent = pass.theta_t != nullptr || pass.x_t != nullptr;
  const Cut cut(layout, pass.images, has_tangent);
  const bool has_backward = pass.grad_theta != nullptr || pass.grad_x != nullptr;

  PreparedWeights<T> weights{}, weights_t{};
  WeightSums<T> total{};
  double *loss = nullptr, *loss_t = nullptr;
  const auto place = [&](Pieces<T> pieces) {
    weights.place(layout, pieces);
    if (has_tangent) weights_t.place(layout, pieces);
    loss = reinterpret_cast<double*>(pieces.take(2 * cut.groups));
    loss_t = reinterpret_cast<double*>(pieces.take(2 * cut.groups));
    if (pass.grad_theta != nullptr) {
      total.place(layout, pieces);
      total.place_taps(layout, pieces);
    }
    return pieces.used();
  };
  const int64_t size = place(Pieces<T>());
  place(Pieces<T>(shared_memory.get<T>(size)));
  prepare_weights<T>(layout, pass.theta, has_backward, weights);
  if (has_tangent) prepare_weights<T>(layout, pass.theta_t, has_backward, weights_t);

  // Groups are begun in order, so the one whose turn it is to be added is never waited for in vain. A
  // thread takes the next one when it is free: cores need not be equally fast.
  const int64_t groups = pass.images == 0 ? 0 : cut.groups;
  std::atomic<int64_t> begun = 0, added = 0;
  parallel_for(0, groups, 1, [&](int64_t, int64_t) {
    thread_local Workspace own_memory;
    Runner<T> runner(pass, layout, cut, weights, weights_t);
    Pieces<T> counted;
    runner.place(counted);
    Pieces<T> pieces(own_memory.get<T>(counted.used()));
    runner.place(pieces);
    for (int64_t group = begun++; group < groups; group = begun++) {
      loss[group] = loss_t[group] = 0;
      runner.run(cut.first(group, pass.images), cut.first(group + 1, pass.images), loss[group],
                 loss_t[group]);
      if (pass.grad_theta == nullptr) continue;
      for (int64_t turn = added; turn != group; turn = added) added.wait(turn);
      add_weight_sums<T>(layout, runner.sums(), group == 0, total);
      ++added;
      added.notify_all();
    }
  });
  if (pass.loss != nullptr) *pass.loss = 0;
  if (pass.loss_t != nullptr) *pass.loss_t = 0;
  for (int64_t group = 0; group < groups; ++group) {
    if (pass.loss != nullptr) *pass.loss += loss[group];
    if (pass.loss_t != nullptr) *pass.loss_t += loss_t[group];
  }
  if (pass.grad_theta == nullptr) return;
  if (groups > 0) {
    write_weight_sums<T>(layout, total, pass.grad_theta);
  } else {
    std::fill_n(pass.grad_theta, pass.net.parameters(), T(0));
  }
}

#define NSDBENCH_INSTANTIATE(T)                                                                    \
  template void Runner<T>::clear_halo(int64_t, int64_t, int64_t, int64_t) const;                   \
  template void Runner<T>::norm_and_pool(int64_t, int64_t, int64_t, const Pair<T>&) const;         \
  template void Runner<T>::norm_and_pool_backward(int64_t, int64_t, int64_t, const Pair<T>&,       \
                                                  const Pair<T>&) const;                           \
  template int64_t activation_size<T>(const ConvNet&, int64_t);                                    \
  template void run_convnet<T>(const ConvNetPass<T>& pass);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
