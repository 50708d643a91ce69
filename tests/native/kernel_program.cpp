// Kernels against code that does not share theirs, in one thread order ("natural", "reversed" or "shuffled"):
// exit status 1 and a line on standard error where they disagree. SANITIZE is the function that compares
// them. For tests that change the kernels before they are compiled.

#include <cstdio>
#include <exception>
#include <string>

#include "kernels/simt.h"

namespace nsdbench::tests {
void SANITIZE();
}

int main(int argc, char** argv) {
  using simt::host::Order;
  const std::string order = argc > 1 ? argv[1] : "";
  simt::host::settings() = {order == "natural"    ? Order::kNatural
                            : order == "reversed" ? Order::kReversed
                                                  : Order::kShuffled,
                            3};
  try {
    nsdbench::tests::SANITIZE();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
