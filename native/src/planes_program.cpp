// Reads a program, and finds by going from the output to the input which planes it needs.
#include "planes_program.h"

#include <algorithm>
#include <cmath>

namespace gramian {
namespace {

AxisTable table(const double *matrix, Int rows, Int columns) {
    AxisTable made;
    made.from_d.resize(2 * rows - 1), made.from_e.resize(2 * columns - 1);
    std::vector<std::vector<Int>> entries(rows);
    for (Int p = 0; p < rows; ++p)
        for (Int a = 0; a < columns; ++a)
            if (matrix[p * columns + a] != 0) entries[p].push_back(a);
    std::vector<std::vector<Tap>> taps(2 * columns - 1);
    for (Int d = 1 - rows; d < rows; ++d) {
        for (Int p = d < 0 ? -d : 0; p < rows && p + d < rows; ++p)
            for (Int a : entries[p])
                for (Int b : entries[p + d])
                    taps[b - a + columns - 1].push_back(
                        {p, a, matrix[p * columns + a] * matrix[(p + d) * columns + b]});
        for (Int e = 1 - columns; e < columns; ++e) {
            auto &found = taps[e + columns - 1];
            if (found.empty()) continue;
            std::stable_sort(found.begin(), found.end(), [](const Tap &a, const Tap &b) { return a.from < b.from; });
            made.from_d[d + rows - 1].push_back({e, found});
            made.from_e[e + columns - 1].push_back({d, found});
            found.clear();
        }
    }
    return made;
}

bool theta(const Node &node, const std::vector<Node> &nodes) {
    const bool first = node.in[0] >= 0 && nodes[node.in[0]].theta;
    switch (node.kind) {
        case Kind::input: return false;
        case Kind::relu:
        case Kind::series:
        case Kind::erf: return first || node.mix != 0;
        case Kind::sum: return first || nodes[node.in[1]].theta || node.p[1] != 0 || node.p[2] != 0;
        case Kind::axes: return first;
        default: return first || node.p[2] != 0 || node.p[3] != 0;
    }
}

}  // namespace

Program::Program(const Int *ints, const double *reals, bool ntk) : channels(ints[0]), mask(ints[1] != 0) {
    nodes.resize(ints[2]);
    std::vector<int> readers(nodes.size(), 0);
    const Int *word = ints + 3;
    for (auto &node : nodes) {
        node.kind = static_cast<Kind>(word[0]);
        node.in[0] = int(word[1]), node.in[1] = int(word[2]);
        node.h = word[3], node.w = word[4];
        for (int axis = 0; axis < 2; ++axis) {
            node.window[axis] = word[5 + axis], node.stride[axis] = word[7 + axis];
            node.before[axis] = word[9 + axis], node.step[axis] = word[11 + axis];
        }
        word += 13;
        for (double &p : node.p) p = *reals++;
        if (node.kind == Kind::axes) {
            const Node &below = nodes[node.in[0]];
            node.y = table(reals, node.h, below.h), reals += node.h * below.h;
            node.x = table(reals, node.w, below.w), reals += node.w * below.w;
        }
        for (int in : node.in)
            if (in >= 0) ++readers[in];
        if (node.kind == Kind::series) {
            node.terms = Int(node.p[5]), node.series = series;
            series += node.h * node.w * 2 * node.terms;
            const Int numbers = Int(node.p[4]) * 2 * node.terms * (DEGREE + 1);
            node.table.assign(reals, reals + numbers), reals += numbers;
        }
        if (node.kind == Kind::relu || node.kind == Kind::erf || node.kind == Kind::series) {
            node.mix = node.p[2];
            node.dual = variances;
            variances += node.h * node.w;
        }
    }
    for (size_t v = 0; v < nodes.size(); ++v) {
        const Kind kind = nodes[v].kind;
        const bool rowwise = nodes[v].dual >= 0 || kind == Kind::sum || kind == Kind::scale;
        nodes[v].inlined = kind == Kind::input || (rowwise && readers[v] == 1);
    }
    for (Node &node : nodes) {
        if (node.kind != Kind::affine || node.p[0] == 0) continue;
        Node &below = nodes[node.in[0]];
        if (below.dual < 0 || !below.inlined) continue;
        below.scale = node.p[0], below.mix += node.p[2] / node.p[0];
        node.p[0] = 1, node.p[2] = 0;
    }
    for (Node &node : nodes) node.theta = ntk && theta(node, nodes);
}

bool terms_at(const Node &node, double q, double *terms) {
    const Int count = 2 * node.terms;
    std::fill(terms, terms + count, 0.0);
    if (q < std::ldexp(1, -60)) {
        terms[0] = node.p[0], terms[node.terms] = node.p[1];
        return true;
    }
    const double u = std::log2(q), octave = std::floor(u) - node.p[3];
    const bool inside = octave >= 0 && octave < node.p[4];
    const Int at = inside ? Int(octave) : octave < 0 ? 0 : Int(node.p[4]) - 1;
    const double x = inside ? 2 * (u - std::floor(u)) - 1 : 0;
    const double *c = node.table.data() + at * count * (DEGREE + 1);
    for (Int n = 0; n < count; ++n, c += DEGREE + 1) {
        double sum = c[DEGREE];
        for (Int k = DEGREE - 1; k >= 0; --k) sum = sum * x + c[k];
        terms[n] = sum;
    }
    return inside;
}

Program Program::together() const {
    Program made = *this;
    std::vector<int> readers(nodes.size(), 0);
    for (const Node &node : nodes)
        for (int in : node.in)
            if (in >= 0) ++readers[in];
    for (Node &node : made.nodes) {
        if (node.kind != Kind::relu || readers[node.in[0]] > 1) continue;
        Node &conv = made.nodes[node.in[0]];
        if (conv.kind != Kind::affine) continue;
        bool small = true;
        for (int axis = 0; axis < 2; ++axis)
            small = small && conv.window[axis] == 3 && conv.stride[axis] == 1 && conv.before[axis] == 1 && conv.step[axis] == 1;
        Node &below = made.nodes[conv.in[0]];
        if (!small || conv.h != below.h || conv.w != below.w || node.theta != conv.theta) continue;
        node.both = true, node.inlined = false, conv.inlined = true, below.inlined = false;
    }
    return made;
}

Program Program::wanted(bool of_variances, bool of_output) const {
    Program made = *this;
    made.variances_wanted = of_variances, made.output_wanted = of_output;
    std::vector<std::vector<char>> pushed(nodes.size());
    for (size_t v = 0; v < nodes.size(); ++v) {
        made.nodes[v].count.assign(nodes[v].shifts(), 0);
        if (nodes[v].kind == Kind::axes || nodes[v].kind == Kind::mean) pushed[v].assign(nodes[nodes[v].in[0]].shifts(), 0);
    }
    for (size_t v = 0; v < nodes.size() && of_variances; ++v)
        if (nodes[v].dual >= 0) made.need(nodes[v].in[0], {0, 0}, pushed);
    if (of_output) made.need(int(nodes.size()) - 1, {0, 0}, pushed);
    return made;
}

// One more reading of the plane e of node v; the first one of a plane that is held needs the planes it is made from.
void Program::need(int v, Shift e, std::vector<std::vector<char>> &pushed) {
    Node &node = nodes[v];
    if (!node.has(e)) return;
    if (!node.inlined && node.count[node.at(e)]++ > 0) return;
    switch (node.kind) {
        case Kind::input: return;
        case Kind::affine: return need(node.in[0], {e.y * node.stride[0], e.x * node.stride[1]}, pushed);
        case Kind::trace: return need(node.in[0], {0, 0}, pushed);
        case Kind::sum: need(node.in[1], e, pushed); break;
        case Kind::mean: {
            const Node &below = nodes[node.in[0]];
            for (Int y = 1 - below.h; y < below.h; ++y)
                for (Int x = 1 - below.w; x < below.w; ++x) need(node.in[0], {y, x}, pushed);
            return;
        }
        case Kind::axes:
            for (const auto &my : node.y.from_d[e.y + node.h - 1])
                for (const auto &mx : node.x.from_d[e.x + node.w - 1]) {
                    char &once = pushed[v][nodes[node.in[0]].at({my.other, mx.other})];
                    if (!once) once = 1, need(node.in[0], {my.other, mx.other}, pushed);
                }
            return;
        default: break;
    }
    need(node.in[0], e, pushed);
}

}  // namespace gramian
