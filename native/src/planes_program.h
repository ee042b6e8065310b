// A convolutional network as a list of nodes over displacement planes, and which planes each node must give.
//
// The entries K[i, j] with one displacement e = j - i are a plane of the node's h x w positions: the rectangle of those
// i for which j lies inside as well. A convolution of stride s maps the plane s e of its input to the plane e of its
// result, an activation maps each plane to itself, and only linear maps of the positions mix planes.
#pragma once

#include <vector>

#include "planes_rows.h"

namespace gramian {

enum class Kind : int { input, affine, relu, erf, sum, scale, axes, mean, trace, series };

struct Shift {
    Int y, x;
};

// Where along one axis the planes of displacement d and e of a linear map meet.
struct Meeting {
    Int other;  // e in `from_d[d]`, d in `from_e[e]`
    std::vector<Tap> taps;  // by `from`
};
struct AxisTable {
    std::vector<std::vector<Meeting>> from_d, from_e;  // by displacement + size - 1
};

struct Node {
    Kind kind;
    int in[2];
    Int h, w;  // positions of the result
    Int window[2], stride[2], before[2], step[2];
    // affine, scale, mean, trace: K' = p0 sum(K) + p1, T' = p0 sum(T) + p2 sum(K) + p3.
    // relu: slope, bend, own; erf: -, -, 0; series: phi(0), phi'(0), 0, lowest octave, octaves, terms. sum: K' = K0 + p0 K1, T' = T0 + p1 K0 + p0 (T1 + p2 K1).
    double p[6];
    double scale = 1, mix = 0;  // of an activation: see Bend. What the convolution above it multiplies with is taken in
    AxisTable y, x;  // of `axes`
    std::vector<double> table;  // of `series`: see `terms_at`
    Int terms = 0, series = -1;  // how many, and where those of its positions begin, in numbers

    bool inlined;            // given row by row to its only reader, never held as a plane
    bool both = false;       // an activation that is made together with the convolution below it
    bool theta;              // whether its NTK is not zero everywhere
    Int dual = -1;          // where the variances of its input begin, in numbers a position; -1: no activation
    std::vector<int> count;  // how often each plane is read, by displacement
    Int shifts() const { return h > 0 && w > 0 ? (2 * h - 1) * (2 * w - 1) : 0; }
    Int at(Shift e) const { return (e.y + h - 1) * (2 * w - 1) + e.x + w - 1; }
    bool has(Shift e) const { return e.y < h && -e.y < h && e.x < w && -e.x < w; }
};

// Terms of a series at variance q: `terms` of phi, then of its derivative. Over each octave of q they are polynomials in
// log2 q, DEGREE + 1 coefficients a term. False where the table has no such octave; then those of the nearest.
constexpr Int DEGREE = 12;
bool terms_at(const Node &node, double q, double *terms);

struct Program {
    std::vector<Node> nodes;  // in the order of computation; the last one is the output
    Int channels = 0;        // of the input
    Int variances = 0;       // positions of all inputs of activations
    Int series = 0;          // terms of all their positions
    bool mask = false;        // whether the NTK may be non-zero where the variance is zero
    bool variances_wanted = false, output_wanted = false;  // what `count` counts

    // `ints`: channels, mask, number of nodes, then 13 a node: kind, in0, in1, h, w, window, stride, before, step (two
    // each). `reals`: 6 a node, and after those of an `axes` node its matrices (h, h of the input) and (w, w of it),
    // of a `series` node its table (octaves, 2 terms, DEGREE + 1).
    Program(const Int *ints, const double *reals, bool ntk);
    // The same with convolutions and activations in one step.
    Program together() const;
    // The same, counting the reads that give the variances, the output, or both.
    Program wanted(bool variances, bool output) const;

private:
    void need(int v, Shift e, std::vector<std::vector<char>> &pushed);
};

}  // namespace gramian
