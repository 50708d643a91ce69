// Winograd's maps of one dimension, applied to scalars or vectors; winograd.h has the matrices.

#pragma once

#include "simd.h"

namespace nsdbench::cpu {

struct TwoByTwo {
  static constexpr int kOut = 2, kIn = 4;

  template <typename T, typename V>
  NSDBENCH_INLINE static void input(const V* x, V* y) {
    y[0] = x[0] - x[2];
    y[1] = x[1] + x[2];
    y[2] = x[2] - x[1];
    y[3] = x[1] - x[3];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void input_transposed(const V* y, V* x) {
    x[0] = y[0];
    x[1] = y[1] - y[2] + y[3];
    x[2] = y[1] + y[2] - y[0];
    x[3] = -y[3];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void output(const V* m, V* z) {
    z[0] = m[0] + (m[1] + m[2]);
    z[1] = (m[1] - m[2]) - m[3];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void output_transposed(const V* z, V* m) {
    m[0] = z[0];
    m[1] = z[0] + z[1];
    m[2] = z[0] - z[1];
    m[3] = -z[1];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void weight(const V* g, V* u) {
    u[0] = g[0];
    u[1] = T(0.5) * (g[0] + g[1] + g[2]);
    u[2] = T(0.5) * (g[0] - g[1] + g[2]);
    u[3] = g[2];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void weight_transposed(const V* u, V* g) {
    const V both = T(0.5) * (u[1] + u[2]);
    g[0] = u[0] + both;
    g[1] = T(0.5) * (u[1] - u[2]);
    g[2] = both + u[3];
  }
};

// Points come in pairs, +-a and +-b: what is even in a point is computed once for both.
struct FourByFour {
  static constexpr int kOut = 4, kIn = 6;
  static constexpr double a = 0.625, b = 1.5, aa = a * a, bb = b * b;
  static constexpr double g0 = 1 / (aa * bb);
  static constexpr double ga = 1 / (2 * aa * (aa - bb)), gb = 1 / (2 * bb * (bb - aa));

  template <typename T, typename V>
  NSDBENCH_INLINE static void input(const V* x, V* y) {
    y[0] = T(aa * bb) * x[0] + (x[4] - T(aa + bb) * x[2]);
    y[5] = T(aa * bb) * x[1] + (x[5] - T(aa + bb) * x[3]);
    const V even_a = x[4] - T(bb) * x[2], odd_a = x[3] - T(bb) * x[1];
    const V even_b = x[4] - T(aa) * x[2], odd_b = x[3] - T(aa) * x[1];
    y[1] = even_a + T(a) * odd_a;
    y[2] = even_a - T(a) * odd_a;
    y[3] = even_b + T(b) * odd_b;
    y[4] = even_b - T(b) * odd_b;
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void input_transposed(const V* y, V* x) {
    const V even_a = y[1] + y[2], odd_a = T(a) * (y[1] - y[2]);
    const V even_b = y[3] + y[4], odd_b = T(b) * (y[3] - y[4]);
    x[0] = T(aa * bb) * y[0];
    x[1] = T(aa * bb) * y[5] - T(bb) * odd_a - T(aa) * odd_b;
    x[2] = -(T(aa + bb) * y[0]) - T(bb) * even_a - T(aa) * even_b;
    x[3] = (odd_a + odd_b) - T(aa + bb) * y[5];
    x[4] = y[0] + (even_a + even_b);
    x[5] = y[5];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void output(const V* m, V* z) {
    const V even_a = m[1] + m[2], odd_a = T(a) * (m[1] - m[2]);
    const V even_b = m[3] + m[4], odd_b = T(b) * (m[3] - m[4]);
    z[0] = m[0] + (even_a + even_b);
    z[1] = odd_a + odd_b;
    z[2] = T(aa) * even_a + T(bb) * even_b;
    z[3] = T(aa) * odd_a + (T(bb) * odd_b + m[5]);
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void output_transposed(const V* z, V* m) {
    const V even_a = z[0] + T(aa) * z[2], odd_a = z[1] + T(aa) * z[3];
    const V even_b = z[0] + T(bb) * z[2], odd_b = z[1] + T(bb) * z[3];
    m[0] = z[0];
    m[1] = even_a + T(a) * odd_a;
    m[2] = even_a - T(a) * odd_a;
    m[3] = even_b + T(b) * odd_b;
    m[4] = even_b - T(b) * odd_b;
    m[5] = z[3];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void weight(const V* g, V* u) {
    const V even_a = T(ga) * (g[0] + T(aa) * g[2]), odd_a = T(ga * a) * g[1];
    const V even_b = T(gb) * (g[0] + T(bb) * g[2]), odd_b = T(gb * b) * g[1];
    u[0] = T(g0) * g[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2];
  }
  template <typename T, typename V>
  NSDBENCH_INLINE static void weight_transposed(const V* u, V* g) {
    const V even_a = T(ga) * (u[1] + u[2]), even_b = T(gb) * (u[3] + u[4]);
    g[0] = T(g0) * u[0] + (even_a + even_b);
    g[1] = T(ga * a) * (u[1] - u[2]) + T(gb * b) * (u[3] - u[4]);
    g[2] = T(aa) * even_a + (T(bb) * even_b + u[5]);
  }
};

}  // namespace nsdbench::cpu
