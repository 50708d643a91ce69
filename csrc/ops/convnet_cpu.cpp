// Binds the CPU's ConvNet passes: checks, then tensors to pointers.

#include <algorithm>
#include <tuple>

#include "cpu/convnet.h"
#include "cpu/workspace.h"
#include "tensors.h"

namespace nsdbench::ops::convnet {
namespace {

constexpr int64_t kMaxDepth = 8;
constexpr int64_t kMaxFirstChannels = 4;

constexpr Refusal refuse{"convnet"};

// The network and its arguments, contiguous, with their sizes checked.
struct Call {
  cpu::ConvNet net;
  int64_t images;
  Tensor theta, x;

  Shape features_shape() const { return {images, net.features()}; }
};

// Everything but theta, which is left empty; the network has no classifier.
Call check_images(const Tensor& x, int64_t depth, int64_t width, int64_t padding) {
  Call call{};
  call.x = check_leading(refuse, "x", x, 4);
  if (x.size(1) < 1 || x.size(1) > kMaxFirstChannels) {
    refuse("x: expected 1 to ", kMaxFirstChannels, " channels, got ", shape_of(x));
  }
  if (depth < 1 || depth > kMaxDepth || width < 1 || padding < 1) {
    refuse("expected depth 1 to ", kMaxDepth, ", width and padding at least 1, got ", depth, ", ",
           width, " and ", padding);
  }
  call.images = x.size(0);
  call.net = {depth, width, x.size(1), x.size(2), x.size(3), padding, 0};
  if (call.net.height(depth) < 1 || call.net.map_width(depth) < 1) {
    refuse("x: ", depth, " blocks halve ", shape_of(x), " to nothing");
  }
  return call;
}

Call check_call(const Tensor& theta, const Tensor& x, int64_t depth, int64_t width,
                int64_t padding) {
  Call call = check_images(x, depth, width, padding);
  call.theta = check(refuse, "theta", theta, {call.net.parameters()}, x);
  return call;
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
  return call.x.scalar_type() == ScalarType::Float
             ? cpu::activation_size<float>(call.net, call.images)
             : cpu::activation_size<double>(call.net, call.images);
}

std::tuple<Tensor, Tensor> features(const Tensor& theta, const Tensor& x, int64_t depth,
                                    int64_t width, int64_t padding, bool keep) {
  const Call call = check_call(theta, x, depth, width, padding);
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
  const Call call = check_call(theta, x, depth, width, padding);
  const Tensor cotangent = check(refuse, "grad", grad, call.features_shape(), call.x);
  const bool has_activations = activations.dim() == 2;
  const Tensor kept = has_activations ? check(refuse, "activations", activations,
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
  const Call call = check_call(theta, x, depth, width, padding);
  const MaybeTensor along_theta = check(refuse, "theta_t", theta_t, shape_of(call.theta), call.x);
  const MaybeTensor along_x = check(refuse, "x_t", x_t, shape_of(call.x), call.x);
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

std::tuple<Tensor, Tensor, Tensor> features_backward_jvp(const Tensor& grad, const Tensor& theta,
                                                         const Tensor& x, const MaybeTensor& grad_t,
                                                         const MaybeTensor& theta_t,
                                                         const MaybeTensor& x_t, int64_t depth,
                                                         int64_t width, int64_t padding,
                                                         bool needs_theta, bool needs_x) {
  const Call call = check_call(theta, x, depth, width, padding);
  const Tensor cotangent = check(refuse, "grad", grad, call.features_shape(), call.x);
  const MaybeTensor along_grad = check(refuse, "grad_t", grad_t, call.features_shape(), call.x);
  const MaybeTensor along_theta = check(refuse, "theta_t", theta_t, shape_of(call.theta), call.x);
  const MaybeTensor along_x = check(refuse, "x_t", x_t, shape_of(call.x), call.x);
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

// A call with a classifier and its labels: [N] int64, or probabilities [N, K] with the dtype of x.
struct LabelledCall : Call {
  Tensor labels;
  bool is_hard;
};

LabelledCall check_labelled_call(const Tensor& theta, const Tensor& x, const Tensor& y,
                                 int64_t depth, int64_t width, int64_t padding) {
  LabelledCall call{check_images(x, depth, width, padding), {}, y.dim() == 1};
  cpu::ConvNet& net = call.net;
  if (call.images < 1) refuse("x: expected at least one image, got none");
  const int64_t in_theta = (theta.numel() - net.parameters()) / (net.features() + 1);
  net.classes = std::max<int64_t>(1, y.dim() == 2 ? y.size(1) : in_theta);
  call.theta = check(refuse, "theta", theta, {net.parameters()}, x);
  call.labels = call.is_hard ? check(refuse, "y", y, {call.images}, x, ScalarType::Long)
                             : check(refuse, "y", y, {call.images, net.classes}, x);
  for (int64_t n = 0; call.is_hard && n < call.images; ++n) {
    const int64_t label = call.labels.const_data_ptr<int64_t>()[n];
    if (label < 0 || label >= net.classes) {
      refuse("y: expected classes in [0, ", net.classes, "), got ", label, " at position ", n);
    }
  }
  return call;
}

template <typename T>
cpu::ConvNetPass<T> labelled_pass_of(const LabelledCall& call) {
  cpu::ConvNetPass<T> pass = pass_of<T>(call);
  if (call.is_hard) {
    pass.classes = call.labels.const_data_ptr<int64_t>();
  } else {
    pass.probabilities = call.labels.const_data_ptr<T>();
  }
  return pass;
}

std::tuple<Tensor, Tensor, Tensor> step(const Tensor& theta, const Tensor& x, const Tensor& y,
                                        double lr, const MaybeTensor& velocity, double momentum,
                                        int64_t depth, int64_t width, int64_t padding) {
  const LabelledCall call = check_labelled_call(theta, x, y, depth, width, padding);
  const MaybeTensor before = check(refuse, "velocity", velocity, shape_of(call.theta), call.x);
  const Tensor theta_next = allocate(call.x, shape_of(call.theta));
  const Tensor velocity_next = allocate(call.x, shape_of(call.theta));
  const Tensor loss = allocate(call.x, {});
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = labelled_pass_of<T>(call);
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
  const LabelledCall call = check_labelled_call(theta, x, y, depth, width, padding);
  const Tensor along = check(refuse, "direction", direction, shape_of(call.theta), call.x);
  if (needs_y && call.is_hard) refuse("y: classes have no derivative; expected probabilities");
  const Tensor loss = allocate(call.x, {}), loss_t = allocate(call.x, {});
  const Tensor h_theta = allocate(call.x, shape_of(call.theta), needs_theta);
  const Tensor h_x = allocate(call.x, shape_of(call.x), needs_x);
  const Tensor h_y = allocate(call.x, shape_of(call.labels), needs_y);
  dispatch(call.x, [&]<typename T>(T) {
    cpu::ConvNetPass<T> pass = labelled_pass_of<T>(call);
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
