// Which instructions this machine has, and how a function that was compiled for each of them is chosen.
//
// A file of HOT (native/CMakeLists.txt) puts all that it defines into `namespace gramian::GRAMIAN_ISA`. It includes no
// header with inline functions of its own or of the standard library beyond plain declarations: the linker keeps one
// copy of an inline function, and that copy may use instructions that an older machine lacks.
//
// In a plain file:
//
//     GRAMIAN_DECLARE(void tile(float *k, long n);)        // declares it for every instruction set
//     const auto run = GRAMIAN_CHOOSE(tile);               // the one for this machine, as a function pointer
//     const auto run = GRAMIAN_CHOOSE_OVERLOAD(tile, void (*)(float *, long));    // the same of an overloaded name
#pragma once

namespace gramian {

enum class Isa { base = 0, avx2 = 1, avx512 = 2 };

// The best that this machine has and this build knows; the environment variable GRAMIAN_ISA (base, avx2, avx512) asks
// for less, for tests and measurements. Found once.
Isa isa();
const char *isa_name();

}  // namespace gramian

#ifdef GRAMIAN_HAS_AVX2
#define GRAMIAN_DECLARE(...)                                     \
    namespace gramian { namespace base { __VA_ARGS__ }           \
                        namespace avx2 { __VA_ARGS__ }           \
                        namespace avx512 { __VA_ARGS__ } }
#define GRAMIAN_CHOOSE(name)                                                     \
    (::gramian::isa() == ::gramian::Isa::avx512 ? &::gramian::avx512::name       \
     : ::gramian::isa() == ::gramian::Isa::avx2 ? &::gramian::avx2::name         \
                                                : &::gramian::base::name)
#define GRAMIAN_CHOOSE_OVERLOAD(name, ...)                                                      \
    (::gramian::isa() == ::gramian::Isa::avx512 ? static_cast<__VA_ARGS__>(&::gramian::avx512::name) \
     : ::gramian::isa() == ::gramian::Isa::avx2 ? static_cast<__VA_ARGS__>(&::gramian::avx2::name)   \
                                                : static_cast<__VA_ARGS__>(&::gramian::base::name))
#else
#define GRAMIAN_DECLARE(...) namespace gramian { namespace base { __VA_ARGS__ } }
#define GRAMIAN_CHOOSE(name) (&::gramian::base::name)
#define GRAMIAN_CHOOSE_OVERLOAD(name, ...) static_cast<__VA_ARGS__>(&::gramian::base::name)
#endif
