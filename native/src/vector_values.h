// What the loops over a tile of vectors share: the values of a network at LANES pairs of inputs, and their angle.
#pragma once

#include "angle.h"
#include "lanes.h"
#include "vector_tile.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

constexpr int LANES = 64, REGISTERS = 16;

template <typename T>
struct Registers {
    alignas(64) T u[REGISTERS][LANES];
    alignas(64) T t[REGISTERS][LANES];
};

// A register's u holds 1 - c of a pair with cosine c >= 0, and -(1 + c) of one with c < 0: what is left to 1 or to -1 is
// carried, never subtracted, so that nearly equal and nearly opposite values keep the digits of their angle. Opposite
// ones have the least number below 0: zero has no sign that compilers would keep.
inline float least(float) { return 1e-36f; }
inline double least(double) { return 1e-300; }

template <typename T>
inline T below_zero(T v) {
    return -(v > least(v) ? v : least(v));
}

// From 1 - c.
template <typename T>
inline T folded(T u) {
    u = u < 0 ? T(0) : u;
    return u > 1 ? below_zero(2 - u) : u;
}

// From both, the one that has its digits.
template <typename T>
inline T folded(T u, T v) {
    u = u < 0 ? T(0) : u;
    return u > 1 ? below_zero(v) : u;
}

template <typename T>
inline T cosine_of(T x) {
    return (x < 0 ? T(-1) : T(1)) - x;
}

// 1 - c
template <typename T>
inline T unfolded(T x) {
    return x < 0 ? 2 + x : x;
}

template <typename T>
inline T size_of(T x) {
    return x < 0 ? -x : x;
}

// An odd function's result at the opposite value, from that at the value.
template <typename T>
inline T turned(T x) {
    return x < 0 ? -x : below_zero(x);
}

// t / pi of the angle t = arccos(1 - u)
template <typename T>
inline T over_pi(T u) {
    const T w = u > 1 ? 2 - u : u, p = root(w) * angle(w);
    return u > 1 ? 1 - p : p;
}

// Below this u is what rounding makes of equal values: a jump would take its root, the next jump the root of that.
inline float nothing(float) { return 1e-14f; }
inline double nothing(double) { return 1e-31; }

template <typename T>
inline T clipped(T u) {
    u = u < 0 ? T(0) : u;
    return u > 2 ? T(2) : u;
}

}  // namespace
}  // namespace GRAMIAN_ISA
}  // namespace gramian
