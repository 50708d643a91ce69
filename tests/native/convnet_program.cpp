// The ConvNet pass without torch, for tests that build it differently: reads a problem from
// standard input and writes every derivative to standard output, as raw doubles.
//
// In:  depth, width, channels, height, width of the images, padding, classes, images (int64), then
// theta,
//      direction in theta, x, direction in x, probabilities.
// Out: for the plain pass and then for tangents along (theta), (x) and both: loss, loss_t,
// grad_theta,
//      grad_x, grad_probabilities.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cpu/convnet.h"

namespace {

template <typename T>
std::vector<T> read(int64_t count) {
  std::vector<double> values(count);
  if (std::fread(values.data(), sizeof(double), count, stdin) != static_cast<size_t>(count)) {
    std::exit(2);
  }
  return std::vector<T>(values.begin(), values.end());
}

template <typename T>
void write(const std::vector<T>& values) {
  const std::vector<double> wide(values.begin(), values.end());
  std::fwrite(wide.data(), sizeof(double), wide.size(), stdout);
}

template <typename T>
int run() {
  int64_t sizes[8];
  if (std::fread(sizes, sizeof(int64_t), 8, stdin) != 8) return 2;
  const nsdbench::cpu::ConvNet net{sizes[0], sizes[1], sizes[2], sizes[3],
                                   sizes[4], sizes[5], sizes[6]};
  const int64_t images = sizes[7], pixels = images * net.image_size();
  const auto theta = read<T>(net.parameters()), theta_t = read<T>(net.parameters());
  const auto x = read<T>(pixels), x_t = read<T>(pixels);
  const auto probabilities = read<T>(images * net.classes);
  for (int along = 0; along < 4; ++along) {
    std::vector<T> grad_theta(theta.size()), grad_x(x.size()), grad_y(probabilities.size());
    double loss = 0, loss_t = 0;
    nsdbench::cpu::ConvNetPass<T> pass{};
    pass.net = net;
    pass.images = images;
    pass.theta = theta.data();
    pass.x = x.data();
    pass.theta_t = (along & 1) != 0 ? theta_t.data() : nullptr;
    pass.x_t = (along & 2) != 0 ? x_t.data() : nullptr;
    pass.probabilities = probabilities.data();
    pass.grad_theta = grad_theta.data();
    pass.grad_x = grad_x.data();
    pass.grad_probabilities = grad_y.data();
    pass.loss = &loss;
    pass.loss_t = &loss_t;
    nsdbench::cpu::run_convnet(pass);
    write(std::vector<double>{loss, loss_t});
    write(grad_theta);
    write(grad_x);
    write(grad_y);
  }
  return 0;
}

}  // namespace

int main(int count, char**) { return count > 1 ? run<float>() : run<double>(); }
