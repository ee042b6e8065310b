// The angle between two vectors, from w = 1 - |cosine|: no arccos, whose digits are lost near equal inputs.
//
// On w in [0, 1], with t = arccos(1 - w): t / pi = sqrt(w) A(w) and (sin t - t cos t) / pi = sqrt(w) w B(w), the polynomials of
// arccos.h over pi. In float one degree more, relative errors 1.8e-8 and 1.8e-8: here a kernel of many layers is carried in it.
#pragma once

#include <math.h>

#include "arccos.h"
#include "lanes.h"

namespace gramian {
namespace GRAMIAN_ISA {
namespace {

static const float angle_f[8] = {
    0.450158152997f, 0.0375138280788f, 0.00842708951153f, 0.00261546669752f, 0.000470735702002f, 0.00106265113882f,
    -0.000633641334106f, 0.000385708111593f};
static const double angle_d[19] = {ARCCOS_DOUBLE(OVER_PI)};
static const float area_f[7] = {
    0.300105442167f, 0.0150049353628f, 0.00241683696676f, 0.000527848415881f, 0.000236269324861f, -5.60863149535e-5f,
    7.46345539967e-5f};
static const double area_d[18] = {AREA_DOUBLE(OVER_PI)};

inline float root(float x) { return sqrtf(x); }
inline double root(double x) { return sqrt(x); }

inline float angle(float w) {
    float p = angle_f[7];
    GRAMIAN_UNROLL
    for (int k = 6; k >= 0; k--) p = p * w + angle_f[k];
    return p;
}

inline double angle(double w) {
    double p = angle_d[18];
    GRAMIAN_UNROLL
    for (int k = 17; k >= 0; k--) p = p * w + angle_d[k];
    return p;
}

inline float area(float w) {
    float p = area_f[6];
    GRAMIAN_UNROLL
    for (int k = 5; k >= 0; k--) p = p * w + area_f[k];
    return p;
}

inline double area(double w) {
    double p = area_d[17];
    GRAMIAN_UNROLL
    for (int k = 16; k >= 0; k--) p = p * w + area_d[k];
    return p;
}

}  // namespace
}  // namespace GRAMIAN_ISA
}  // namespace gramian
