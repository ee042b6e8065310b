// A tile of the Gram matrix: variances of each image, then lane by lane all pairs.
#include "planes.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "isa.h"
#include "parallel.h"
#include "planes_run.h"

GRAMIAN_DECLARE(const Rows<float> *rows_float(); const Rows<double> *rows_double();)

namespace gramian {
namespace {

template <class T>
const Rows<T> &rows();
template <>
const Rows<float> &rows<float>() { return *GRAMIAN_CHOOSE(rows_float)(); }
template <>
const Rows<double> &rows<double>() { return *GRAMIAN_CHOOSE(rows_double)(); }

// What a side of the tile is made of, in the precision of the inputs or better.
template <class T>
struct Side {
    const T *x;                   // (n, channels, positions)
    Int n, channels, positions;
    std::vector<double> spreads;  // (n, variances)
    std::vector<T> k, theta;      // the diagonal, where it was wanted
};

// What an activation reads of a variance; see DualRow.
double spread(const Node &node, double q) { return node.kind == Kind::erf ? 1 / std::sqrt(1 + 2 * q) : std::sqrt(q); }

// Images in chosen places of `lanes`, as Rows read them; places beyond the last image repeat it.
template <class T>
struct Block {
    Numbers<T> input, spreads, series;
    Block(const Program &program, Int positions, Int lanes)
        : input(positions * program.channels * lanes), spreads(program.variances * lanes),
          series(program.series * lanes) {}
    Images<T> images() const { return {input.data(), spreads.data(), series.data()}; }

    template <class S>
    void put(const Program &program, const Side<S> &side, Int image, Int lane, Int lanes, double scale) {
        const S *x = side.x + image * side.channels * side.positions;
        for (Int c = 0; c < side.channels; ++c)
            for (Int at = 0; at < side.positions; ++at)
                input[(at * side.channels + c) * lanes + lane] = T(scale * double(x[c * side.positions + at]));
        if (side.spreads.empty()) return;
        const double *found = side.spreads.data() + image * program.variances;
        for (Int at = 0; at < program.variances; ++at) spreads[at * lanes + lane] = T(found[at]);
        for (const Node &node : program.nodes)
            for (Int at = 0; node.terms > 0 && at < node.h * node.w; ++at)
                put_terms(node, at, found[node.dual + at] * found[node.dual + at], lane, lanes);
    }
    bool put_terms(const Node &node, Int at, double q, Int lane, Int lanes) {
        std::vector<double> found(2 * node.terms);
        const bool inside = terms_at(node, q, found.data());
        T *to = series.data() + (node.series + at * 2 * node.terms) * lanes + lane;
        for (Int n = 0; n < 2 * node.terms; ++n) to[n * lanes] = T(found[n]);
        return inside;
    }
};

// Variances at each activation, and the diagonal if the program wants the output: each image with itself, in double.
template <class T>
void meet_oneself(const Program &program, Side<T> &side, bool diagonal, int threads, double *missing) {
    std::mutex lock;
    const Rows<double> &table = rows<double>();
    const Int V = table.lanes;
    std::vector<double> spreads(side.n * program.variances);
    if (diagonal) side.k.resize(side.n), side.theta.resize(side.n);
    const Int count = (side.n + V - 1) / V;
    in_parallel(count, threads, [&](const auto &take) {
        Block<double> x(program, side.positions, V), y(program, side.positions, V);
        Run<double> run(program, table, true, true);
        std::vector<double> k(V), theta(V);
        for (Int block = take(); block < count; block = take()) {
            for (Int lane = 0; lane < V; ++lane) {
                const Int image = std::min(block * V + lane, side.n - 1);
                x.put(program, side, image, lane, V, 1.0 / double(side.channels));
                y.put(program, side, image, lane, V, 1.0);
            }
            const Images<double> other{y.input.data(), x.spreads.data(), x.series.data()};
            run.variances(x.images(), other, [&](const Node &node, Int at, const double *found) {
                for (Int i = 0; i < node.w * V; ++i) {
                    const Int image = std::min(block * V + i % V, side.n - 1);
                    const double made = spread(node, found[i]);
                    spreads[image * program.variances + at + i / V] = made;
                    x.spreads[at * V + i] = made;
                    if (node.terms == 0 || x.put_terms(node, at - node.dual + i / V, made * made, i % V, V)) continue;
                    const std::lock_guard<std::mutex> guard(lock);
                    double *range = missing + 2 * (&node - program.nodes.data());
                    range[0] = range[1] == 0 ? found[i] : std::min(range[0], found[i]);
                    range[1] = std::max(range[1], found[i]);
                }
            });
            if (!diagonal) continue;
            run.output(x.images(), other, k.data(), theta.data());
            for (Int lane = 0; lane < V && block * V + lane < side.n; ++lane) {
                side.k[block * V + lane] = T(k[lane]);
                side.theta[block * V + lane] = T(theta[lane]);
            }
        }
    });
    side.spreads = std::move(spreads);
}

template <class T>
struct Result {
    T *nngp, *ntk;
    Int stride;
    void set(Int i, Int j, bool symmetric, T k, T theta) const {
        nngp[i * stride + j] = k;
        if (ntk != nullptr) ntk[i * stride + j] = theta;
        if (symmetric && i != j) set(j, i, false, k, theta);
    }
};

using Pairs = std::vector<std::pair<Int, Int>>;

// One image against `lanes` others at a time; pairs whose result lost digits are put into `again`.
template <class T>
void by_rows(const Program &program, const Side<T> &x, const Side<T> &y, const Result<T> &out, bool symmetric,
             int threads, Pairs &again) {
    const Rows<T> &table = rows<T>();
    const Int V = table.lanes, blocks = (y.n + V - 1) / V;
    std::vector<Block<T>> packed(blocks, Block<T>(program, y.positions, V));
    for (Int j = 0; j < blocks * V; ++j) packed[j / V].put(program, y, std::min(j, y.n - 1), j % V, V, 1.0);
    std::mutex lock;
    in_parallel(x.n * blocks, threads, [&](const auto &take) {
        Block<T> one(program, x.positions, 1);
        Run<T> run(program, table, false, false);
        std::vector<T> k(V), theta(V);
        Int image = -1;
        for (Int task = take(); task < x.n * blocks; task = take()) {
            const Int i = task / blocks, block = task % blocks;
            if (symmetric && (block + 1) * V <= i + 1) continue;
            if (image != i) one.put(program, x, image = i, 0, 1, 1.0 / double(x.channels));
            run.output(one.images(), packed[block].images(), k.data(), theta.data());
            for (Int j = std::max(block * V, symmetric ? i + 1 : 0); j < std::min((block + 1) * V, y.n); ++j) {
                const Int lane = j - block * V;
                out.set(i, j, symmetric, k[lane], theta[lane]);
                if (!run.rounded(lane)) continue;
                const std::lock_guard<std::mutex> guard(lock);
                again.push_back({i, j});
            }
        }
    });
}

// Any pairs together, in the precision P: where there are too few images to fill the lanes with, and the second time.
template <class P, class T>
void by_pairs(const Program &program, const Side<T> &x, const Side<T> &y, const Result<T> &out, bool symmetric,
              int threads, const Pairs &pairs, Pairs &again) {
    const Rows<P> &table = rows<P>();
    const Int V = table.lanes, count = Int(pairs.size()), tasks = (count + V - 1) / V;
    std::mutex lock;
    in_parallel(tasks, threads, [&](const auto &take) {
        Block<P> left(program, x.positions, V), right(program, x.positions, V);
        Run<P> run(program, table, true, false);
        std::vector<P> k(V), theta(V);
        for (Int task = take(); task < tasks; task = take()) {
            for (Int lane = 0; lane < V; ++lane) {
                const auto &pair = pairs[std::min(task * V + lane, count - 1)];
                left.put(program, x, pair.first, lane, V, 1.0 / double(x.channels));
                right.put(program, y, pair.second, lane, V, 1.0);
            }
            run.output(left.images(), right.images(), k.data(), theta.data());
            for (Int lane = 0; lane < V && task * V + lane < count; ++lane) {
                const auto &pair = pairs[task * V + lane];
                out.set(pair.first, pair.second, symmetric, T(k[lane]), T(theta[lane]));
                if (!run.rounded(lane)) continue;
                const std::lock_guard<std::mutex> guard(lock);
                again.push_back(pair);
            }
        }
    });
}

// Runs of one image against `lanes` others, and of `lanes` pairs: which of them are clearly fewer.
bool fewer_by_pairs(const Program &program, Int n, Int m, bool symmetric, Int lanes) {
    bool all = false;  // else packing the pairs costs more than computing them
    for (const Node &node : program.nodes) all = all || node.kind == Kind::mean || node.kind == Kind::axes;
    const Int blocks = (m + lanes - 1) / lanes;
    double runs = double(n) * double(blocks), pairs = double(n) * double(m);
    if (symmetric) {
        pairs = double(n) * double(n - 1) / 2, runs = 0;
        for (Int i = 0; i < n; ++i) runs += double(blocks - (i + 1) / lanes);
    }
    return all && pairs / double(lanes) + 1 < 0.8 * runs;
}

}  // namespace

template <class T>
bool planes(const Int *ints, const double *reals, const T *x, Int n, const T *y, Int m, T *nngp, T *ntk, Int stride,
            int threads, double *missing) {
    const bool symmetric = y == nullptr;
    const Program program(ints, reals, ntk != nullptr);
    const Node &input = program.nodes.front();
    const Int positions = input.h * input.w;
    Side<T> left{x, n, program.channels, positions, {}, {}, {}}, right{y, m, program.channels, positions, {}, {}, {}};
    meet_oneself(program.wanted(true, symmetric), left, symmetric, threads, missing);
    if (!symmetric) meet_oneself(program.wanted(true, false), right, false, threads, missing);
    for (size_t v = 0; v < program.nodes.size(); ++v)
        if (missing[2 * v + 1] != 0) return false;
    const Side<T> &other = symmetric ? left : right;
    const Result<T> out{nngp, ntk, stride};
    if (symmetric)
        for (Int i = 0; i < n; ++i) out.set(i, i, true, left.k[i], left.theta[i]);
    const Program of_pairs = program.together().wanted(false, true);
    Pairs again, never;
    if (fewer_by_pairs(program, n, m, symmetric, rows<T>().lanes)) {
        Pairs pairs;
        for (Int i = 0; i < n; ++i)
            for (Int j = symmetric ? i + 1 : 0; j < m; ++j) pairs.push_back({i, j});
        by_pairs<T>(of_pairs, left, other, out, symmetric, threads, pairs, again);
    } else {
        by_rows(of_pairs, left, other, out, symmetric, threads, again);
    }
    if (sizeof(T) == 4 && !again.empty()) by_pairs<double>(of_pairs, left, other, out, symmetric, threads, again, never);
    return true;
}

template bool planes(const Int *, const double *, const float *, Int, const float *, Int, float *, float *, Int, int,
                     double *);
template bool planes(const Int *, const double *, const double *, Int, const double *, Int, double *, double *, Int,
                     int, double *);

}  // namespace gramian
