// A warp as registers of 32 numbers: the words that all device code is written in.
//
// Here a register is a plain number, of which each thread has its own. native/cuda/lanes_cpu.h says the same words with
// arrays of 32, so that a C++ compiler makes of the same device code a program that tests can run without a GPU. What is
// no register (int, REAL, pointers, conditions of `if`) is equal in all lanes.
//
// REAL is float or double; NTK 0 or 1.

typedef long long Int;
typedef REAL Lanes;
typedef double Wide;
typedef int Index;
typedef bool Mask;

#define DEVICE static __device__ __forceinline__
#ifndef BLOCKS
#define BLOCKS 1
#endif
// Registers so few that BLOCKS blocks of 4 warps run on a processor together.
#define KERNEL extern "C" __global__ void __launch_bounds__(128, BLOCKS)
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

DEVICE Index lane_number() { return int(threadIdx.x) & 31; }
DEVICE Int warp_number() { return Int(blockIdx.x) * (blockDim.x >> 5) + (threadIdx.x >> 5); }
DEVICE Int warp_count() { return Int(gridDim.x) * (blockDim.x >> 5); }
DEVICE void sync() { __syncwarp(); }

DEVICE Lanes select(Mask m, Lanes a, Lanes b) { return m ? a : b; }
DEVICE Index select_index(Mask m, Index a, Index b) { return m ? a : b; }
DEVICE Lanes absolute(Lanes a) { return a < 0 ? -a : a; }
DEVICE Lanes maximum(Lanes a, Lanes b) { return a > b ? a : b; }
DEVICE Lanes with_sign(Lanes a, Lanes s) { return s < 0 ? -a : a; }
DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
// In float within 2 units of the last place; exactly rounded ones cost eight instructions more.
DEVICE float divide(float a, float b) {
    float r;
    asm("div.approx.ftz.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}
DEVICE double divide(double a, double b) { return a / b; }
DEVICE float root(float a) {
    float r;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a));
    return r;
}
DEVICE double root(double a) { return sqrt(a); }

template <class T>
DEVICE T load(const T *p, Index at, Mask m) { return m ? p[at] : T(0); }
template <class T>
DEVICE void store(T *p, Index at, T a, Mask m) { if (m) p[at] = a; }
DEVICE Lanes shuffle(Lanes a, Index from) { return __shfl_sync(0xffffffffu, a, from); }
DEVICE unsigned votes(Mask m) { return __ballot_sync(0xffffffffu, m); }
DEVICE Wide widen(Lanes a) { return a; }
// The sum over all lanes, in one order.
DEVICE double total(Wide a) {
    for (int step = 16; step > 0; step >>= 1) a += __shfl_xor_sync(0xffffffffu, a, step);
    return a;
}
