// Before a loop over lanes: its turns are independent, although results may overwrite operands lane by lane. And before
// a short loop inside it, which must be unrolled before the outer one is made of vectors.
#pragma once

#if defined(__clang__)
#define GRAMIAN_LANES _Pragma("clang loop vectorize(assume_safety)")
#define GRAMIAN_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define GRAMIAN_LANES _Pragma("GCC ivdep")
#define GRAMIAN_UNROLL _Pragma("GCC unroll 32")
#elif defined(_MSC_VER)
#define GRAMIAN_LANES __pragma(loop(ivdep))
#define GRAMIAN_UNROLL
#else
#define GRAMIAN_LANES
#define GRAMIAN_UNROLL
#endif
