// The end of a ConvNet pass: features in and out, the linear classifier and its cross-entropy.

#include <cmath>

#include "convnet_runner.h"

namespace nsdbench::cpu {

template <typename T>
void Runner<T>::write_features(const T* blocked, T* features) const {
  for (int64_t i = 0; i < count_; ++i) {
    T* target = features + (first_ + i) * net_.features();
    for (int64_t c = 0; c < net_.width; ++c) {
      const T* source = blocked + i * layout_.features +
                        c / kBlock<T> * layout_.pixels * kBlock<T> + c % kBlock<T>;
      for (int64_t p = 0; p < layout_.pixels; ++p) *target++ = source[p * kBlock<T>];
    }
  }
}

template <typename T>
void Runner<T>::read_features(const T* features, T* blocked) const {
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
template <typename T>
void Runner<T>::classify(double& loss, double& loss_t) const {
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

template <typename T>
void Runner<T>::add_bias(const T* bias, T* logits) const {
  for (int64_t i = 0; i < count_; ++i) {
    for (int64_t k = 0; k < net_.classes; ++k) logits[i * layout_.padded_classes + k] += bias[k];
  }
}

// J_i = -1/images sum_k y_k log s_k with s = softmax(logits); in double, it is only a few numbers.
template <typename T>
void Runner<T>::cross_entropy(int64_t i, double& loss, double& loss_t) const {
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

#define NSDBENCH_INSTANTIATE(T)                                \
  template void Runner<T>::write_features(const T*, T*) const; \
  template void Runner<T>::read_features(const T*, T*) const;  \
  template void Runner<T>::classify(double&, double&) const;
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
