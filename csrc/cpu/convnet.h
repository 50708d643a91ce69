// The ConvNet of dataset distillation, its gradient, and the tangent of that gradient, without a
// graph.
//
// depth x [conv 3x3 -> instance norm -> ReLU -> 2x2 mean pool] -> flatten -> linear classifier.
// Biases of the convolutions are skipped: the norm removes them, and their gradients are exactly 0.
//
// With f(theta, x) the flat features, the network is run in one of two ways:
//   features   the caller brings dJ/df (one row an image) and differentiates what it likes above f
//   classifier J = mean cross-entropy of the linear classifier on f, with hard or soft labels
// One pass gives J and f, and if asked for grad_theta J and grad_x J. Given a direction (theta_t,
// x_t) it gives the tangents of all of these along it instead: with J twice differentiable almost
// everywhere, that is the product of its Hessian with the direction, in one tangent pass through
// forward and backward.

#pragma once

#include <cstdint>

namespace nsdbench::cpu {

struct ConvNet {
  int64_t depth, width;
  int64_t in_channels, image_height, image_width;
  int64_t padding;  // of the first convolution
  int64_t classes;  // 0: no classifier

  int64_t height(int64_t layer) const { return (image_height + 2 * padding - 2) >> layer; }
  int64_t map_width(int64_t layer) const { return (image_width + 2 * padding - 2) >> layer; }
  int64_t features() const { return width * height(depth) * map_width(depth); }
  int64_t image_size() const { return in_channels * image_height * image_width; }

  // theta: per layer conv weight [width, in, 3, 3], conv bias, norm weight, norm bias [width] each;
  // then classifier weight [classes, features] and bias [classes].
  int64_t layer_in(int64_t layer) const { return layer == 0 ? in_channels : width; }
  int64_t conv_weight(int64_t layer) const {
    const int64_t first = width * (9 * in_channels + 3);
    return layer == 0 ? 0 : first + (layer - 1) * width * (9 * width + 3);
  }
  int64_t conv_bias(int64_t layer) const {
    return conv_weight(layer) + 9 * width * layer_in(layer);
  }
  int64_t norm_weight(int64_t layer) const { return conv_bias(layer) + width; }
  int64_t norm_bias(int64_t layer) const { return norm_weight(layer) + width; }
  int64_t classifier_weight() const { return conv_weight(depth); }
  int64_t classifier_bias() const { return classifier_weight() + classes * features(); }
  int64_t parameters() const { return classifier_bias() + classes; }
};

// Everything a pass reads and writes. Null means: absent, zero, or not wanted.
template <typename T>
struct ConvNetPass {
  ConvNet net;
  int64_t images;

  const T* theta;          // [parameters]
  const T* x;              // [images, C, H, W]
  const T *theta_t, *x_t;  // direction; if either is there, every derivative below is a tangent

  const int64_t* classes;     // [images] hard labels, or
  const T* probabilities;     // [images, classes] soft labels: the classifier's loss
  const T *grad_features, *grad_features_t;  // [images, features]: given from outside

  T *features, *features_t;    // [images, features]
  T* grad_theta;               // [parameters]
  T* grad_x;                   // [images, C, H, W]
  T* grad_probabilities;       // [images, classes]
  double *loss, *loss_t;       // scalars; loss_t = <grad, direction>

  // [images, activation_size]: written, or if they are there read instead of recomputed.
  T* activations;
  bool has_activations;
};

// Elements an image needs in `activations` in a pass of so many images.
template <typename T>
int64_t activation_size(const ConvNet& net, int64_t images);

template <typename T>
void run_convnet(const ConvNetPass<T>& pass);

}  // namespace nsdbench::cpu
