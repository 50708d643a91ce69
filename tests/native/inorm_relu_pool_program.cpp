// The kernels of inorm_relu_pool against the CPU code in one thread order ("natural", "reversed" or
// "shuffled"): exit status 1 and a line on standard error where they disagree. For tests that change the
// kernels before they are compiled.

#include <cstdio>
#include <exception>
#include <string>

#include "sanitize_inorm_relu_pool.h"
#include "kernels/simt.h"

int main(int argc, char** argv) {
  using simt::host::Order;
  const std::string order = argc > 1 ? argv[1] : "";
  simt::host::settings() = {order == "natural"    ? Order::kNatural
                            : order == "reversed" ? Order::kReversed
                                                  : Order::kShuffled,
                            3};
  try {
    nsdbench::tests::sanitize_inorm_relu_pool();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
