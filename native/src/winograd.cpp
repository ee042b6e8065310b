// Winograd's convolutions: what Python calls.
#include "winograd.h"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "isa.h"
#include "parallel.h"
#include "winograd_module.h"

GRAMIAN_DECLARE(void filter_tiles(const Filtering &a, Int first, Int count, float *scratch);
                void weight_gradients(const Gradient &a, Int i, float *scratch);)

namespace gramian {
namespace {

namespace nb = nanobind;

constexpr Int BLOCK = 24;  // tiles of a block: its 64 channels in Winograd's domain and back fit the second cache
constexpr size_t LANES = 16;

using Images = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Cotangents = nb::ndarray<const float, nb::ndim<5>, nb::device::cpu>;
using Result = nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Gradients = nb::ndarray<float, nb::ndim<5>, nb::c_contig, nb::device::cpu>;

void need(bool holds, const char *what) {
    if (!holds) throw std::invalid_argument(what);
}

Windows windows(const Images &x, int pad) {
    Windows a{};
    a.x = x.data(), a.h = Int(x.shape(1)), a.w = Int(x.shape(2)), a.c = Int(x.shape(3)), a.pad = pad;
    a.step = a.h * a.w * a.c, a.high = a.h + 2 * pad - 2, a.wide = a.w + 2 * pad - 2;
    need(pad >= 0 && pad <= 2 && a.high > 0 && a.wide > 0, "no place for a window");
    need(x.shape(3) % LANES == 0, "channels do not fill the lanes");
    a.rows = (a.high + 3) / 4, a.columns = (a.wide + 3) / 4;
    return a;
}

// Aligned, so that no load of a register meets two lines of the cache.
struct Scratch {
    explicit Scratch(Int numbers) : owned(new float[size_t(numbers) + 16]) {
        void *start = owned.get();
        size_t room = (size_t(numbers) + 16) * sizeof(float);
        at = static_cast<float *>(std::align(64, size_t(numbers) * sizeof(float), start, room));
    }
    std::unique_ptr<float[]> owned;
    float *at;
};

void filter(const Images &x, const Weights &u, int pad, const Result &out, int threads) {
    Filtering a{};
    a.in = windows(x, pad), a.u = u.data(), a.d = Int(u.shape(2)), a.out = out.data();
    need(u.shape(0) == 36 && Int(u.shape(1)) == a.in.c && u.shape(2) % LANES == 0, "weights of another shape");
    need(out.shape(0) == x.shape(0) && Int(out.shape(1)) == a.in.high && Int(out.shape(2)) == a.in.wide, "result");
    need(Int(out.shape(3)) == a.d, "a result of other channels");
    const Int tiles = Int(x.shape(0)) * a.in.rows * a.in.columns;
    const auto run = GRAMIAN_CHOOSE(filter_tiles);
    nb::gil_scoped_release released;
    in_parallel((tiles + BLOCK - 1) / BLOCK, threads, [&](const auto &take) {
        const Scratch scratch(36 * BLOCK * (a.in.c + a.d));
        for (Int i = take(); i * BLOCK < tiles; i = take())
            run(a, i * BLOCK, std::min(BLOCK, tiles - i * BLOCK), scratch.at);
    });
}

void weight(const Images &x, const Cotangents &b, int pad, const Gradients &out, int threads) {
    Gradient a{};
    a.in = windows(x, pad), a.b = b.data(), a.k = Int(b.shape(1)), a.d = Int(b.shape(4)), a.out = out.data();
    a.step_n = b.stride(0), a.step_k = b.stride(1);
    const Int n = Int(x.shape(0)), tiles = a.in.rows * a.in.columns;
    need(Int(b.shape(0)) == n && Int(b.shape(2)) == a.in.high && Int(b.shape(3)) == a.in.wide, "cotangents");
    need(a.d % Int(LANES) == 0 && b.stride(4) == 1, "channels of the cotangents");
    need(a.in.wide == 1 || b.stride(3) == a.d, "gaps between places");  // of one place the stride may be any
    need(a.in.high == 1 || b.stride(2) == a.in.wide * a.d, "gaps between rows");
    need(Int(out.shape(0)) == n && Int(out.shape(1)) == a.k && Int(out.shape(2)) == a.d, "a result of another shape");
    need(out.shape(3) == 9 && Int(out.shape(4)) == a.in.c, "a result of another shape");
    const auto run = GRAMIAN_CHOOSE(weight_gradients);
    nb::gil_scoped_release released;
    in_parallel(n, threads, [&](const auto &take) {
        const Scratch scratch(36 * (tiles * (a.in.c + a.d) + a.in.c * a.d));
        for (Int i = take(); i < n; i = take()) run(a, i, scratch.at);
    });
}

}  // namespace

void add_winograd(nb::module_ &m) {
    m.def("winograd_filter", &filter, "Images (n, h, w, c) through windows of 3x3: (n, high, wide, d).");
    m.def("winograd_weight", &weight, "Gradients (n, k, d, 9, c) of the windows' weights.");
}

}  // namespace gramian
