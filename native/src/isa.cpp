// What the processor says of itself.
#include "isa.h"

#include <cstdlib>
#include <cstring>

#if defined(_MSC_VER) && defined(GRAMIAN_HAS_AVX2)
#include <intrin.h>
#endif

namespace gramian {
namespace {

#ifndef GRAMIAN_HAS_AVX2
Isa found() { return Isa::base; }
#elif defined(_MSC_VER)
bool bit(int word, int at) { return (word >> at) & 1; }

// Registers are usable only where the operating system saves them: XCR0 has bits 1, 2 for AVX and 5, 6, 7 for AVX-512.
Isa found() {
    int one[4], seven[4];
    __cpuid(one, 1);
    if (!bit(one[2], 27) || !bit(one[2], 12)) return Isa::base;  // OSXSAVE, FMA
    const unsigned long long saved = _xgetbv(0);
    __cpuidex(seven, 7, 0);
    if ((saved & 0x6) != 0x6 || !bit(seven[1], 5)) return Isa::base;
    const bool all = bit(seven[1], 16) && bit(seven[1], 17) && bit(seven[1], 30) && bit(seven[1], 31);
    return all && (saved & 0xe6) == 0xe6 ? Isa::avx512 : Isa::avx2;
}
#else
Isa found() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::base;
    const bool all = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return all ? Isa::avx512 : Isa::avx2;
}
#endif

Isa chosen() {
    const Isa has = found();
    const char *asked = std::getenv("GRAMIAN_ISA");
    if (asked == nullptr) return has;
    const Isa want = std::strcmp(asked, "base") == 0   ? Isa::base
                     : std::strcmp(asked, "avx2") == 0 ? Isa::avx2
                                                       : Isa::avx512;
    return want < has ? want : has;
}

}  // namespace

Isa isa() {
    static const Isa once = chosen();
    return once;
}

const char *isa_name() {
    switch (isa()) {
        case Isa::avx512: return "AVX-512";
        case Isa::avx2: return "AVX2";
        default: break;
    }
#if defined(__aarch64__) || defined(_M_ARM64)
    return "NEON";
#else
    return "SSE2";
#endif
}

}  // namespace gramian
