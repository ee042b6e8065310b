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
