// Compares DSA on the CPU with its CUDA source on the host; exits with 1 where they disagree.

#include <cstdio>
#include <exception>

#include "sanitize_dsa.h"
#include "kernels/simt.h"

int main() {
  simt::host::settings() = {simt::host::Order::kShuffled, 3};
  try {
    nsdbench::tests::sanitize_dsa();
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
  return 0;
}
