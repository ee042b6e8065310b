// Kernels of networks on vectors, a tile of the Gram matrix at a time: what Python calls.
#include "vector.h"

#include <nanobind/ndarray.h>

#include <stdexcept>
#include <vector>

#include "isa.h"
#include "vector_tile.h"

GRAMIAN_DECLARE(long tile(const Tile<float> &a); long tile(const Tile<double> &a);
                long near_count(const Tile<float> &a); long near_count(const Tile<double> &a);
                void mirror(const float *from, long a, float *to, long b, long rows, long cols, bool upper);
                void mirror(const double *from, long a, double *to, long b, long rows, long cols, bool upper);)

namespace gramian {
namespace {

namespace nb = nanobind;

template <typename T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::device::cpu>;
using Ops = nb::ndarray<const int, nb::shape<-1, 5>, nb::c_contig, nb::device::cpu>;
using Settings = nb::ndarray<const double, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Norms = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void need(bool holds, const char *what) {
    if (!holds) throw std::invalid_argument(what);
}

constexpr int REGISTERS = 16, LANES = 64;  // as in vector_tile.cpp

size_t factors_of(const Op &op) {
    switch (op.kind) {
        case biased: case sum: return 4;
        case erf: return 6;
        case series: return 3 + size_t(op.p0);
        case table: return 2 + size_t(op.p1) % 64 / 3 * (2 + 2 * size_t(op.p0));
        default: return 0;
    }
}

// As run_table has them.
bool known_order(int p) {
    for (int has : {1, 2, 3, 4, 6, 8, 12, 16})
        if (p == has) return true;
    return false;
}

std::vector<Op> read(const Ops &ops, const Settings &settings, size_t factors) {
    need(ops.shape(0) == settings.shape(0), "ops and settings differ in length");
    std::vector<Op> program;
    for (size_t k = 0; k < ops.shape(0); k++) {
        const Op op{ops(k, 0), ops(k, 1), ops(k, 2), ops(k, 3), ops(k, 4), settings(k, 0), settings(k, 1)};
        for (int r : {op.dst, op.a, op.b}) need(r >= 0 && r < REGISTERS, "no such register");
        need(op.kind >= affine && op.kind <= table, "no such op");
        const bool sums = op.kind == series || op.kind == table;  // pairs of terms, or four at a time
        const int few = op.kind == series ? 4 : 2;
        need(!sums || (op.p0 >= 0 && op.p0 < 65536 && op.p1 >= 0 && op.p1 < 128 && int(op.p0) % few == 0), "no such sum");
        need(op.kind != table || known_order(int(op.p1) % 64 / 3), "no such order");
        need(op.factor >= 0 && op.p0 == op.p0 && size_t(op.factor) + factors_of(op) <= factors, "no such factor");
        program.push_back(op);
    }
    return program;
}

// One tile: rows [row, row + cosine.rows) of x against columns [col, ...) of y, written into nngp and ntk, and turned
// into the other half where the matrix is symmetric. Returns how many results are not finite; or -1, and does nothing, where
// more than `most` pairs are near or nearly opposite.
template <typename T>
long compute(const Ops &ops, const Settings &settings, int out, Matrix<const T> cosine, long row, long col,
             Matrix<const T> row_factors, Matrix<const T> col_factors, Matrix<const T> x, Matrix<const T> y,
             Norms x_inverse, Norms y_inverse, double near, long most, bool gaps,
             bool symmetric, Matrix<T> nngp, Matrix<T> ntk) {
    const std::vector<Op> program = read(ops, settings, row_factors.shape(0));
    const long rows = long(cosine.shape(0)), cols = long(cosine.shape(1));
    const bool with = ntk.shape(0) > 0;
    need(out >= 0 && out < REGISTERS, "no such register");
    need(row_factors.shape(0) == col_factors.shape(0), "the tables of factors differ");
    need(row >= 0 && col >= 0 && row + rows <= long(nngp.shape(0)) && col + cols <= long(nngp.shape(1)), "outside");
    need(long(row_factors.shape(1)) >= row + rows && long(col_factors.shape(1)) >= col + cols + LANES, "few factors");
    need(row + rows <= long(x.shape(0)) && col + cols <= long(y.shape(0)) && x.shape(1) == y.shape(1), "few inputs");
    need(x_inverse.shape(0) == x.shape(0) && y_inverse.shape(0) == y.shape(0), "few norms");
    need(!with || (ntk.shape(0) == nngp.shape(0) && ntk.shape(1) == nngp.shape(1)), "the results differ in shape");
    need(!with || ntk.stride(0) == nngp.stride(0), "the results differ in stride");
    for (const auto &m : {cosine, row_factors, col_factors, x, y})
        need(m.stride(1) == 1 || m.shape(1) == 1, "rows are not contiguous");
    for (const auto &m : {x, y}) need(m.stride(0) == long(m.shape(1)) || m.shape(0) == 1, "not contiguous");
    need(nngp.stride(1) == 1 || nngp.shape(1) == 1, "not contiguous");
    const long stride = nngp.stride(0), d = long(x.shape(1));
    Tile<T> a{};
    a.ops = program.data(), a.n_ops = int(program.size()), a.out = out;
    a.rows = int(rows), a.cols = int(cols);
    a.cosine = cosine.data(), a.cosine_stride = cosine.stride(0), a.gaps = gaps;
    a.row_factors = row_factors.data() + row, a.row_stride = row_factors.stride(0);
    a.col_factors = col_factors.data() + col, a.col_stride = col_factors.stride(0);
    a.scale = int(row_factors.shape(0)) - 1;
    a.nngp = nngp.data() + row * stride + col, a.ntk = with ? ntk.data() + row * stride + col : nullptr;
    a.out_stride = stride;
    a.diagonal = symmetric && row == col;
    a.x = x.data() + row * d, a.y = y.data() + col * d, a.features = d;
    a.x_inverse = x_inverse.data() + row, a.y_inverse = y_inverse.data() + col, a.near = near;
    const auto run = GRAMIAN_CHOOSE_OVERLOAD(tile, long (*)(const Tile<T> &));
    const auto turn = GRAMIAN_CHOOSE_OVERLOAD(mirror, void (*)(const T *, long, T *, long, long, long, bool));
    const auto count = GRAMIAN_CHOOSE_OVERLOAD(near_count, long (*)(const Tile<T> &));
    nb::gil_scoped_release released;
    if (!gaps && count(a) > most) return -1;
    const long bad = run(a);
    if (!symmetric) return bad;
    turn(a.nngp, stride, nngp.data() + col * stride + row, stride, rows, cols, a.diagonal);
    if (with) turn(a.ntk, stride, ntk.data() + col * stride + row, stride, rows, cols, a.diagonal);
    return bad;
}

}  // namespace

void add_vector(nb::module_ &m) {
    const char *says = "One tile of both kernels of a network on vectors; called by gramian.limit.vectors.";
    m.def("vector_tile", &compute<float>, says);
    m.def("vector_tile", &compute<double>, says);
}

}  // namespace gramian
