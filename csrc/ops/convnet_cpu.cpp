// Binds the CPU's ConvNet passes: checks, then tensors to pointers.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>

#include "cpu/convnet.h"
#include "cpu/workspace.h"
#include "text.h"

namespace nsdbench::ops::convnet {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

constexpr int64_t kMaxDepth = 8;
constexpr int64_t kMaxFirstChannels = 4;

constexpr Refusal refuse{"convnet"};

// A tensor of the given shape with the dtype and device of x; returned contiguous.
Tensor check(const char* name, const Tensor& tensor, const Shape& expected, const Tensor& x) {
  if (shape_of(tensor) != expected) {
    refuse(name, ": expected shape ", expected, ", got ", shape_of(tensor));
  }
  if (tensor.scalar_type() != x.scalar_type()) {
    refuse(name, ": expected the dtype of x, got another");
  }
  if (!(tensor.device() == x.device())) refuse(name, ": expected the device of x, got another");
  return torch::stable::contiguous(tensor);
}

MaybeTensor check(const char* name, const MaybeTensor& tensor, const Shape& expected,
                  const Tensor& x) {
  return tensor ? MaybeTensor(check(name, *tensor, expected, x)) : std::nullopt;
}

// The network and its arguments, contiguous, with their sizes checked.
struct Call {
  cpu::ConvNet net;
  int64_t images;
  Tensor theta, x;

  Shape features_shape() const { return {images, net.features()}; }
};

Call check_call(const Tensor& theta, const Tensor& x, int64_t depth, int64_t width,
                int64_t padding, int64_t classes) {
  if (x.dim() != 4) refuse("x: expected 4 dimensions [N, C, H, W], got ", shape_of(x));
  if (x.scalar_type() != ScalarType::Float && x.scalar_type() != ScalarType::Double) {
    refuse("x: expected dtype float32 or float64, got another");
  }
  if (x.size(1) < 1 || x.size(1) > kMaxFirstChannels) {
    refuse("x: expected 1 to ", kMaxFirstChannels, " channels, got ", shape_of(x));
  }
  if (depth < 1 || depth > kMaxDepth) refuse("depth: expected 1 to ", kMaxDepth, ", got ", depth);
  if (width < 1) refuse("width: expected at least 1, got ", width);
  if (padding < 1) refuse("padding: expected at least 1, got ", padding);
  Call call{{depth, width, x.size(1), x.size(2), x.size(3), padding, classes}, x.size(0), {}, {}};
  if (call.net.height(depth) < 1 || call.net.map_width(depth) < 1) {
    refuse("x: ", depth, " blocks halve ", shape_of(x), " to nothing");
  }
  call.x = torch::stable::contiguous(x);
  call.theta = check("theta", theta, {call.net.parameters()}, x);
  return call;
}

template <typename T>
const T* pointer(const MaybeTensor& tensor) {
  return tensor ? tensor->const_data_ptr<T>() : nullptr;
}

// An uninitialised tensor like `like` that the pass is to fill, or [0] if it is not wanted.
Tensor allocate(const Tensor& like, const Shape& shape, bool is_wanted = true) {
  return torch::stable::new_empty(like, is_wanted ? shape : Shape{0});
}

template <typename T>
T* target(const Tensor& tensor, bool is_wanted = true) {
  return is_wanted ? tensor.mutable_data_ptr<T>() : nullptr;
}

template <typename Body>
void dispatch(const Tensor& x, const Body& body) {
  x.scalar_type() == ScalarType::Float ? body(float{}) : body(double{});
}

template <typename T>
cpu::ConvNetPass<T> pass_of(const Call& call) {
  cpu::ConvNetPass<T> pass{};
  pass.net = call.net;
  pass.images = call.images;
  pass.theta = call.theta.const_data_ptr<T>();
  pass.x = call.x.const_data_ptr<T>();
  return pass;
}

int64_t activation_size(const Call& call) {
  return call.x.scalar_type() == ScalarType::Float ? cpu::activation_size<float>(call.net)
                                                   : cpu::activation_size<double>(call.net);
}

std::tuple<Tensor, Tensor> features(const Tensor& theta, const Tensor& x, int64_t depth,
                                    int64_t width, int64_t padding, bool keep) {
  const Call call = check_call(theta, x, depth, width, padding, 0);
  const Tensor out = allocate(call.x, call.features_shape());
  const Tensor kept = allocate(call.x, {call.images, keep ? activation_size(call) : 0}, keep);
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = pass_of<T>(call);
    pass.features = target<T>(out);
    pass.activations = target<T>(kept, keep);
    if (keep) cpu::prefer_huge_pages(pass.activations, kept.numel() * sizeof(T));
    cpu::run_convnet(pass);
  });
  return {out, kept};
}

std::tuple<Tensor, Tensor> features_backward(const Tensor& grad, const Tensor& theta,
                                             const Tensor& x, const Tensor& activations,
                                             int64_t depth, int64_t width, int64_t padding,
                                             bool needs_theta, bool needs_x) {
  const Call call = check_call(theta, x, depth, width, padding, 0);
  const Tensor cotangent = check("grad", grad, call.features_shape(), call.x);
  const bool has_activations = activations.dim() == 2;
  const Tensor kept = has_activations ? check("activations", activations,
                                              {call.images, activation_size(call)}, call.x)
                                      : activations;
  const Tensor grad_theta = allocate(call.x, {call.net.parameters()}, needs_theta);
  const Tensor grad_x = allocate(call.x, shape_of(call.x), needs_x);
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = pass_of<T>(call);
    pass.grad_features = cotangent.const_data_ptr<T>();
    pass.grad_theta = target<T>(grad_theta, needs_theta);
    pass.grad_x = target<T>(grad_x, needs_x);
    pass.has_activations = has_activations;
    if (has_activations) pass.activations = const_cast<T*>(kept.const_data_ptr<T>());
    cpu::run_convnet(pass);
  });
  return {grad_theta, grad_x};
}

Tensor features_jvp(const Tensor& theta, const Tensor& x, const MaybeTensor& theta_t,
                    const MaybeTensor& x_t, int64_t depth, int64_t width, int64_t padding) {
  const Call call = check_call(theta, x, depth, width, padding, 0);
  const MaybeTensor along_theta = check("theta_t", theta_t, shape_of(call.theta), call.x);
  const MaybeTensor along_x = check("x_t", x_t, shape_of(call.x), call.x);
  if (!along_theta && !along_x) refuse("theta_t and x_t: expected at least one tangent");
  const Tensor out_t = allocate(call.x, call.features_shape());
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = pass_of<T>(call);
    pass.theta_t = pointer<T>(along_theta);
    pass.x_t = pointer<T>(along_x);
    pass.features_t = target<T>(out_t);
    cpu::run_convnet(pass);
  });
  return out_t;
}

std::tuple<Tensor, Tensor, Tensor> features_backward_jvp(
    const Tensor& grad, const Tensor& theta, const Tensor& x, const MaybeTensor& grad_t,
    const MaybeTensor& theta_t, const MaybeTensor& x_t, int64_t depth, int64_t width,
    int64_t padding, bool needs_theta, bool needs_x) {
  const Call call = check_call(theta, x, depth, width, padding, 0);
  const Tensor cotangent = check("grad", grad, call.features_shape(), call.x);
  const MaybeTensor along_grad = check("grad_t", grad_t, call.features_shape(), call.x);
  const MaybeTensor along_theta = check("theta_t", theta_t, shape_of(call.theta), call.x);
  const MaybeTensor along_x = check("x_t", x_t, shape_of(call.x), call.x);
  if (!along_theta && !along_x) refuse("theta_t and x_t: expected at least one tangent");
  const Tensor out_t = allocate(call.x, call.features_shape());
  const Tensor grad_theta_t = allocate(call.x, {call.net.parameters()}, needs_theta);
  const Tensor grad_x_t = allocate(call.x, shape_of(call.x), needs_x);
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = pass_of<T>(call);
    pass.theta_t = pointer<T>(along_theta);
    pass.x_t = pointer<T>(along_x);
    pass.grad_features = cotangent.const_data_ptr<T>();
    pass.grad_features_t = pointer<T>(along_grad);
    pass.features_t = target<T>(out_t);
    pass.grad_theta = target<T>(grad_theta_t, needs_theta);
    pass.grad_x = target<T>(grad_x_t, needs_x);
    cpu::run_convnet(pass);
  });
  return {out_t, grad_theta_t, grad_x_t};
}

// Labels [N] int64, or probabilities [N, K] with the dtype of x.
struct Labels {
  Tensor tensor;
  bool is_hard;
  int64_t classes;  // 0 if only theta can tell
};

Labels check_labels(const Tensor& y, const Tensor& x) {
  const bool is_hard = y.dim() == 1 && y.scalar_type() == ScalarType::Long;
  const bool is_soft = y.dim() == 2 && y.scalar_type() == x.scalar_type();
  if (!is_hard && !is_soft) {
    refuse("y: expected classes [N] int64 or probabilities [N, K] with the dtype of x, got ",
           shape_of(y));
  }
  if (y.size(0) != x.size(0)) {
    refuse("y: expected ", x.size(0), " rows, one an image, got ", y.size(0));
  }
  if (x.size(0) < 1) refuse("x: expected at least one image, got none");
  return {torch::stable::contiguous(y), is_hard, is_hard ? 0 : y.size(1)};
}

Call check_classifier_call(const Tensor& theta, const Tensor& x, const Labels& labels,
                           int64_t depth, int64_t width, int64_t padding) {
  int64_t classes = labels.classes;
  if (labels.is_hard) {
    cpu::ConvNet net{depth, width, x.dim() == 4 ? x.size(1) : 1, x.dim() == 4 ? x.size(2) : 1,
                     x.dim() == 4 ? x.size(3) : 1, padding, 0};
    const bool has_sizes = depth >= 1 && depth <= kMaxDepth && width >= 1;
    const int64_t each = has_sizes ? net.features() + 1 : 1;
    classes = has_sizes && theta.dim() == 1 ? (theta.size(0) - net.parameters()) / each : 1;
    if (classes < 1) classes = 1;
  }
  Call call = check_call(theta, x, depth, width, padding, classes);
  if (labels.is_hard) {
    const int64_t* y = labels.tensor.const_data_ptr<int64_t>();
    for (int64_t n = 0; n < call.images; ++n) {
      if (y[n] < 0 || y[n] >= classes) {
        refuse("y: expected classes in [0, ", classes, "), got ", y[n], " at position ", n);
      }
    }
  }
  return call;
}

template <typename T>
void set_labels(const Labels& labels, cpu::ConvNetPass<T>& pass) {
  if (labels.is_hard) {
    pass.classes = labels.tensor.const_data_ptr<int64_t>();
  } else {
    pass.probabilities = labels.tensor.const_data_ptr<T>();
  }
}

std::tuple<Tensor, Tensor, Tensor> step(const Tensor& theta, const Tensor& x, const Tensor& y,
                                        double lr, const MaybeTensor& velocity, double momentum,
                                        int64_t depth, int64_t width, int64_t padding) {
  const Labels labels = check_labels(y, x);
  const Call call = check_classifier_call(theta, x, labels, depth, width, padding);
  const MaybeTensor before = check("velocity", velocity, shape_of(call.theta), call.x);
  const Tensor theta_next = allocate(call.x, shape_of(call.theta));
  const Tensor velocity_next = allocate(call.x, shape_of(call.theta));
  const Tensor loss = allocate(call.x, {});
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = pass_of<T>(call);
    set_labels(labels, pass);
    double value = 0;
    pass.loss = &value;
    T* v = pass.grad_theta = target<T>(velocity_next);
    cpu::run_convnet(pass);
    *target<T>(loss) = static_cast<T>(value);
    const T* v_before = pointer<T>(before);
    T* next = target<T>(theta_next);
    const T rate = static_cast<T>(lr), mu = static_cast<T>(momentum);
    const int64_t count = call.net.parameters();
    if (v_before != nullptr) {
      for (int64_t n = 0; n < count; ++n) v[n] += mu * v_before[n];
    }
    for (int64_t n = 0; n < count; ++n) next[n] = pass.theta[n] - rate * v[n];
  });
  return {theta_next, velocity_next, loss};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> step_adjoint(
    const Tensor& theta, const Tensor& x, const Tensor& y, const Tensor& direction, int64_t depth,
    int64_t width, int64_t padding, bool needs_theta, bool needs_x, bool needs_y) {
  const Labels labels = check_labels(y, x);
  const Call call = check_classifier_call(theta, x, labels, depth, width, padding);
  const Tensor along = check("direction", direction, shape_of(call.theta), call.x);
  if (needs_y && labels.is_hard) refuse("y: classes have no derivative; expected probabilities");
  const Tensor loss = allocate(call.x, {}), loss_t = allocate(call.x, {});
  const Tensor h_theta = allocate(call.x, shape_of(call.theta), needs_theta);
  const Tensor h_x = allocate(call.x, shape_of(call.x), needs_x);
  const Tensor h_y = allocate(call.x, shape_of(labels.tensor), needs_y);
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = pass_of<T>(call);
    set_labels(labels, pass);
    double value = 0, value_t = 0;
    pass.loss = &value;
    pass.loss_t = &value_t;
    pass.theta_t = along.const_data_ptr<T>();
    pass.grad_theta = target<T>(h_theta, needs_theta);
    pass.grad_x = target<T>(h_x, needs_x);
    pass.grad_probabilities = target<T>(h_y, needs_y);
    cpu::run_convnet(pass);
    *target<T>(loss) = static_cast<T>(value);
    *target<T>(loss_t) = static_cast<T>(value_t);
  });
  return {loss, loss_t, h_theta, h_x, h_y};
}

}  // namespace
}  // namespace nsdbench::ops::convnet

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  namespace op = nsdbench::ops::convnet;
  m.impl("convnet_features", TORCH_BOX(&op::features));
  m.impl("convnet_features_backward", TORCH_BOX(&op::features_backward));
  m.impl("convnet_features_jvp", TORCH_BOX(&op::features_jvp));
  m.impl("convnet_features_backward_jvp", TORCH_BOX(&op::features_backward_jvp));
  m.impl("convnet_step", TORCH_BOX(&op::step));
  m.impl("convnet_step_adjoint", TORCH_BOX(&op::step_adjoint));
}
