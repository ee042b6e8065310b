// Planes go from the input to the output one after the other; each is freed when its last reader has it.
#include "planes_run.h"

#include <algorithm>
#include <cstring>

namespace gramian {
namespace {

Int lowest(Int e) { return e < 0 ? -e : 0; }
Int extent(Int size, Int e) { return size - (e < 0 ? -e : e); }

// Chunks of rows that a convolution holds, so that its window is among them.
Int slots_of(const Node &node, Int chunk) { return (node.step[0] * (node.window[0] - 1) + chunk - 1) / chunk + 1; }

}  // namespace

template <class T>
Run<T>::Run(const Program &program, const Rows<T> &rows, bool each, bool same)
    : program_(program), rows_(rows), each_(each), same_(same), V_(rows.lanes) {
    const size_t count = program.nodes.size();
    planes_.resize(count), pushed_.resize(count), scratch_.resize(count), width_.resize(count), bends_.resize(count);
    windows_.resize(count);
    Int widest = 1, most = 0;
    for (size_t v = 0; v < count; ++v) {
        const Node &node = program.nodes[v];
        if (!node.inlined) planes_[v].resize(node.shifts());
        const Node &below = node.in[0] < 0 ? node : program.nodes[node.in[0]];
        if (node.kind == Kind::axes) pushed_[v].assign(below.shifts(), 0);
        widest = std::max({widest, node.w, below.w});
        width_[v] = std::max(node.w, below.w) * V_;
        const Int slots = node.kind == Kind::affine ? slots_of(node, CHUNK) : 0;
        if (slots) windows_[v].k.resize(node.window[0]), windows_[v].t.resize(node.window[0]);
        windows_[v].chunks.resize(slots);
        if (slots == 0) scratch_[v].resize(size_t(4) * CHUNK * width_[v]);
        most = std::max(most, (2 * slots + 2) * CHUNK * width_[v]);
        if (node.dual >= 0) bends_[v] = rows.bend(node.p[0], node.p[1], node.scale, node.mix);
    }
    zeros_.assign(widest * V_, T(0));
    chunks_.resize(most);
    near_.resize(V_), close_.resize(V_);
}

// An angle of size a is off by about eps / a: below 1e-6 of the diagonal on average, unless many angles are small.
template <class T>
bool Run<T>::rounded(Int lane) const {
    return near_[lane] > std::min(1e-3 * seen_, 1e7) || close_[lane] > 0.25 * seen_at_zero_;
}

template <class T>
void Run<T>::output(const Images<T> &x, const Images<T> &y, T *k, T *theta) {
    x_ = x, y_ = y;
    std::fill(near_.begin(), near_.end(), T(0)), std::fill(close_.begin(), close_.end(), T(0));
    seen_ = seen_at_zero_ = 0;
    if (!program_.variances_wanted) ++run_;  // else planes are left from there
    const int last = int(program_.nodes.size()) - 1;
    prepare(last, {0, 0});
    const Line row = lines(last, {0, 0}, 0, 1, scratch(last, 0), scratch(last, 1));
    std::copy(row.k, row.k + V_, k);
    if (theta != nullptr) {
        if (row.t != nullptr)
            std::copy(row.t, row.t + V_, theta);
        else
            std::fill(theta, theta + V_, T(0));
    }
    release(last, {0, 0});
}

template <class T>
typename Run<T>::Rect Run<T>::rect(const Node &node, Shift e) const {
    return {lowest(e.y), lowest(e.x), extent(node.h, e.y), extent(node.w, e.x)};
}

template <class T>
typename Run<T>::Plane &Run<T>::open(int v, Shift e) {
    const Node &node = program_.nodes[v];
    const Rect r = rect(node, e);
    Plane &made = plane(v, e);
    made.left = node.count[node.at(e)];
    made.k = buffers_.take(r.h * r.w * V_);
    if (node.theta) made.t = buffers_.take(r.h * r.w * V_);
    return made;
}

// Has the planes from which rows of v are read; every call is followed by one of `release`.
template <class T>
void Run<T>::prepare(int v, Shift e) {
    const Node &node = program_.nodes[v];
    if (!node.has(e)) return;
    if (node.kind == Kind::axes) return map(v, e);
    if (!node.inlined) {
        if (plane(v, e).k != nullptr) return;
        if (node.both) return both(v, e);
        switch (node.kind) {
            case Kind::affine: return convolve(v, e);
            case Kind::mean:
            case Kind::trace: return average(v, e);
            default: break;
        }
    }
    for (int in : node.in)
        if (in >= 0) prepare(in, e);
    if (node.inlined) return;
    const Rect r = rect(node, e);
    Plane &made = open(v, e);
    for (Int y = 0; y < r.h; y += CHUNK)
        produce(v, e, r.y + y, std::min(CHUNK, r.h - y), made.k + y * r.w * V_,
                made.t == nullptr ? nullptr : made.t + y * r.w * V_);
    for (int in : node.in)
        if (in >= 0) release(in, e);
}

template <class T>
void Run<T>::release(int v, Shift e) {
    const Node &node = program_.nodes[v];
    if (!node.has(e)) return;
    if (node.inlined) {
        for (int in : node.in)
            if (in >= 0) release(in, e);
        return;
    }
    Plane &held = plane(v, e);
    if (--held.left > 0) return;
    const Rect r = rect(node, e);
    buffers_.give(held.k, r.h * r.w * V_);
    if (held.t != nullptr) buffers_.give(held.t, r.h * r.w * V_);
    held = Plane{};
}

// Rows y, y + 1, ... (at most CHUNK) of the plane e: where they are held, or made in k and t.
template <class T>
typename Run<T>::Line Run<T>::lines(int v, Shift e, Int y, Int rows, T *k, T *t) {
    const Node &node = program_.nodes[v];
    if (node.inlined) {
        produce(v, e, y, rows, k, t);
        return {k, node.theta ? t : nullptr};
    }
    const Rect r = rect(node, e);
    const Plane &held = plane(v, e);
    const Int at = (y - r.y) * r.w * V_;
    return {held.k + at, held.t == nullptr ? nullptr : held.t + at};
}

template <class T>
void Run<T>::produce(int v, Shift e, Int y, Int rows, T *k, T *t) {
    const Node &node = program_.nodes[v];
    const Rect r = rect(node, e);
    const Int count = r.w * rows;
    if (node.kind == Kind::input) {
        const Int c = program_.channels;
        const auto input = each_ ? rows_.input_each : rows_.input;
        for (Int i = y; i < y + rows; ++i) {
            const Int at_x = (i * node.w + r.x) * c, at_y = ((i + e.y) * node.w + r.x + e.x) * c;
            input(r.w, c, x_.input + at_x * (each_ ? V_ : 1), y_.input + at_y * V_, k + (i - y) * r.w * V_);
        }
        return;
    }
    const Line a = lines(node.in[0], e, y, rows, scratch(v, 0), scratch(v, 1));
    if (node.dual >= 0) return activate(v, e, y, rows, a, k, t);
    const double *p = node.p;
    if (node.kind == Kind::scale) {
        rows_.sum(count, T(p[0]), a.k, T(0), nullptr, T(p[1]), k);
        if (node.theta) rows_.sum(count, T(p[0]), a.t, T(p[2]), a.k, T(p[3]), t);
        return;
    }
    const Line b = lines(node.in[1], e, y, rows, scratch(v, 2), scratch(v, 3));
    rows_.sum(count, T(1), a.k, T(p[0]), b.k, T(0), k);
    if (!node.theta) return;
    rows_.sum(count, T(1), a.t, T(p[0]), b.t, T(0), t);
    if (p[1] != 0) rows_.add(count, T(p[1]), a.k, t);
    if (p[2] != 0) rows_.add(count, T(p[0] * p[2]), b.k, t);
}

// Rows of an activation, but for the numbers that go in and out.
template <class T>
DualRow<T> Run<T>::row_of(int v, Shift e, Int y, Int rows) {
    const Node &node = program_.nodes[v];
    const Rect r = rect(node, e);
    const Int xs = each_ ? V_ : 1, at_x = (node.dual + y * node.w + r.x) * xs;
    const Int at_y = (node.dual + (y + e.y) * node.w + r.x + e.x) * V_;
    const bool at_zero = e.y == 0 && e.x == 0;
    const double count = double(r.w * rows);
    seen_ += count, seen_at_zero_ += at_zero ? count : 0;
    return {r.w, rows, nullptr, nullptr, x_.spread + at_x, y_.spread + at_y, node.w * xs, node.w * V_, nullptr, nullptr,
            near_.data(), at_zero ? close_.data() : nullptr};
}

template <class T>
void Run<T>::activate(int v, Shift e, Int y, Int rows, const Line &in, T *k, T *t) {
    const Node &node = program_.nodes[v];
    DualRow<T> row = row_of(v, e, y, rows);
    row.k = in.k, row.t = node.theta ? in.t : nullptr, row.ko = k, row.to = t;
    if (node.kind == Kind::relu && same_ && e.y == 0 && e.x == 0)
        rows_.relu_same(row, bends_[v]);
    else if (node.kind == Kind::relu)
        (each_ ? rows_.relu_each : rows_.relu)(row, bends_[v], program_.mask);
    else if (node.kind == Kind::erf)
        (each_ ? rows_.erf_each : rows_.erf)(row, bends_[v]);
    else {
        const Rect r = rect(node, e);
        const Int terms = 2 * node.terms, at_x = node.series + (y * node.w + r.x) * terms;
        const Int at_y = node.series + ((y + e.y) * node.w + r.x + e.x) * terms;
        (each_ ? rows_.series_each : rows_.series)({row, x_.series + at_x * (each_ ? V_ : 1), y_.series + at_y * V_,
                                                    node.terms, bends_[v].scale, bends_[v].mix});
    }
    if (node.theta && in.t == nullptr) rows_.sum(row.w * rows, T(node.mix), k, T(0), nullptr, T(0), t);
}

// A convolution and its activation, where its input lies if nothing else reads that: one plane fits the first cache.
template <class T>
void Run<T>::both(int v, Shift e) {
    const Node &node = program_.nodes[v], &conv = program_.nodes[node.in[0]];
    const int in = conv.in[0];
    prepare(in, e);
    const Rect r = rect(node, e);
    Plane &source = plane(in, e);
    const bool over = source.left == 1;
    Both<T> all{r.h, source.k, source.t, zeros_.data(), chunks_.data(), {}, row_of(v, e, r.y, r.h)};
    for (int i = 0; i < 4; ++i) all.p[i] = T(conv.p[i]);
    if (over) {
        Plane &made = plane(v, e);
        made = {source.k, source.t, node.count[node.at(e)]};
        source.k = nullptr, source.t = nullptr;
        if (made.t == nullptr && node.theta) made.t = buffers_.take(r.h * r.w * V_);
        if (made.t != nullptr && !node.theta) buffers_.give(made.t, r.h * r.w * V_), made.t = nullptr;
    } else {
        open(v, e);
    }
    all.dual.ko = plane(v, e).k, all.dual.to = plane(v, e).t;
    (each_ ? rows_.both_each : rows_.both)(all, bends_[v], program_.mask);
    over ? void(source = Plane{}) : release(in, e);
}

template <class T>
void Run<T>::convolve(int v, Shift e) {
    const Node &node = program_.nodes[v];
    const int in = node.in[0];
    const Node &below = program_.nodes[in];
    const Shift from{e.y * node.stride[0], e.x * node.stride[1]};
    prepare(in, from);
    const Rect r = rect(node, e), s = rect(below, from);
    const int source = overwritten(v, e);
    Plane &made = source < 0 ? open(v, e) : plane(v, e);
    if (source >= 0) {
        made = plane(source, e);
        made.left = node.count[node.at(e)];
        if (made.t == nullptr && node.theta) made.t = buffers_.take(r.h * r.w * V_);
    }
    const Int slots = slots_of(node, CHUNK);
    auto &ks = windows_[v].k, &ts = windows_[v].t;
    auto &have = windows_[v].chunks;
    BoxRow<T> row{};
    row.w = s.w, row.out = r.w, row.taps = node.window[1], row.stride = node.stride[1], row.step = node.step[1];
    row.start = node.stride[1] * r.x - node.before[1] - s.x;
    const Int chunk = CHUNK * s.w * V_;
    T *const chunks = chunks_.data();
    row.sum_k = chunks + 2 * slots * chunk, row.sum_t = row.sum_k + chunk;
    for (int i = 0; i < 4; ++i) row.p[i] = T(node.p[i]);
    row.k = ks.data(), row.t = below.theta ? ts.data() : nullptr;
    const bool square = node.window[0] == 3 && node.window[1] == 3;
    Int made_to = s.y;  // rows of the input before this one have been made
    for (Int y = 0; y < r.h; ++y) {
        T *k = made.k + y * r.w * V_, *t = made.t == nullptr ? nullptr : made.t + y * r.w * V_;
        const Int first = node.stride[0] * (r.y + y) - node.before[0];
        row.rows = 0;
        for (Int tap = 0; tap < node.window[0]; ++tap) {
            const Int from_y = first + node.step[0] * tap;
            const bool inside = s.w > 0 && from_y >= s.y && from_y < s.y + s.h;
            for (; inside && made_to <= from_y; made_to += CHUNK) {
                if (made_to + CHUNK <= first) continue;  // passed over by the stride
                const Int slot = (made_to - s.y) / CHUNK % slots, rows = std::min(CHUNK, s.y + s.h - made_to);
                have[slot] = lines(in, from, made_to, rows, chunks + 2 * slot * chunk, chunks + (2 * slot + 1) * chunk);
            }
            if (!inside && !square) continue;
            const Line *found = inside ? &have[(from_y - s.y) / CHUNK % slots] : nullptr;
            const Int at = (from_y - s.y) % CHUNK * s.w * V_;
            ks[row.rows] = inside ? found->k + at : zeros_.data();
            ts[row.rows++] = inside && below.theta ? found->t + at : zeros_.data();
        }
        if (s.w <= 0 || row.rows == 0) {
            rows_.sum(r.w, T(0), nullptr, T(0), nullptr, T(node.p[1]), k);
            if (t != nullptr) rows_.sum(r.w, T(0), nullptr, T(0), nullptr, T(node.p[3]), t);
            continue;
        }
        row.ko = k, row.to = t;
        rows_.box(row);
    }
    if (source < 0) return release(in, from);
    if (plane(source, e).t != nullptr && !node.theta) buffers_.give(plane(source, e).t, r.h * r.w * V_), made.t = nullptr;
    plane(source, e) = Plane{};
}

// The node whose plane e a convolution may overwrite: it alone reads it, row by row through activations that write their
// rows elsewhere, and never a row above the one that it writes. -1: none. One plane instead of two fits the first cache.
template <class T>
int Run<T>::overwritten(int v, Shift e) {
    const Node &node = program_.nodes[v];
    int below = node.in[0];
    if (!program_.nodes[below].inlined) return -1;
    while (program_.nodes[below].inlined) {
        const Kind kind = program_.nodes[below].kind;
        if (program_.nodes[below].dual < 0 && kind != Kind::scale) return -1;
        below = program_.nodes[below].in[0];
    }
    const Node &source = program_.nodes[below];
    const bool in_step = node.stride[0] == 1 && node.stride[1] == 1 && node.h == source.h && node.w == source.w;
    const bool behind = node.before[0] <= node.step[0] * (node.window[0] - 1) && node.before[0] >= 0;
    return in_step && behind && source.has(e) && plane(below, e).left == 1 ? below : -1;
}

template <class T>
void Run<T>::average(int v, Shift e) {
    const Node &node = program_.nodes[v];
    const int in = node.in[0];
    const Node &below = program_.nodes[in];
    std::vector<double> k(V_, 0.0), t(V_, 0.0);
    const Int dy = node.kind == Kind::mean ? below.h - 1 : 0, dx = node.kind == Kind::mean ? below.w - 1 : 0;
    for (Int y = -dy; y <= dy; ++y)
        for (Int x = -dx; x <= dx; ++x) {
            prepare(in, {y, x});
            const Rect r = rect(below, {y, x});
            for (Int row = r.y; row < r.y + r.h; row += CHUNK) {  // few, whose sums keep their digits in float
                const Int rows = std::min(CHUNK, r.y + r.h - row);
                const Line found = lines(in, {y, x}, row, rows, scratch(v, 0), scratch(v, 1));
                rows_.total(r.w * rows, found.k, k.data());
                if (found.t != nullptr) rows_.total(r.w * rows, found.t, t.data());
            }
            release(in, {y, x});
        }
    Plane &made = open(v, e);
    for (Int lane = 0; lane < V_; ++lane) {
        made.k[lane] = T(node.p[0] * k[lane] + node.p[1]);
        if (made.t != nullptr) made.t[lane] = T(node.p[0] * t[lane] + node.p[2] * k[lane] + node.p[3]);
    }
}

// The plane e of a linear map: all planes that it is made from are added to all that they are part of.
template <class T>
void Run<T>::map(int v, Shift e) {
    const Node &node = program_.nodes[v];
    const Node &below = program_.nodes[node.in[0]];
    for (const auto &my : node.y.from_d[e.y + node.h - 1])
        for (const auto &mx : node.x.from_d[e.x + node.w - 1]) {
            unsigned &once = pushed_[v][below.at({my.other, mx.other})];
            if (once == run_) continue;
            once = run_;
            push(v, {my.other, mx.other});
        }
    if (plane(v, e).k == nullptr) {  // made from no plane: zero everywhere
        const Rect r = rect(node, e);
        Plane &made = open(v, e);
        std::fill(made.k, made.k + r.h * r.w * V_, T(0));
        if (made.t != nullptr) std::fill(made.t, made.t + r.h * r.w * V_, T(0));
    }
}

template <class T>
void Run<T>::push(int v, Shift from) {
    const Node &node = program_.nodes[v];
    const int in = node.in[0];
    const Node &below = program_.nodes[in];
    prepare(in, from);
    const Rect s = rect(below, from);
    const auto &down = node.y.from_e[from.y + below.h - 1], &along = node.x.from_e[from.x + below.w - 1];
    for (const auto &my : down)
        for (const auto &mx : along) {
            const Shift to{my.other, mx.other};
            if (node.count[node.at(to)] == 0 || plane(v, to).k != nullptr) continue;
            const Rect r = rect(node, to);
            Plane &made = open(v, to);
            std::fill(made.k, made.k + r.h * r.w * V_, T(0));
            if (made.t != nullptr) std::fill(made.t, made.t + r.h * r.w * V_, T(0));
        }
    std::vector<size_t> next(down.size(), 0);
    for (Int y = s.y; y < s.y + s.h; ++y) {
        Line row{nullptr, nullptr};
        for (size_t i = 0; i < down.size(); ++i)
            for (const auto &taps = down[i].taps; next[i] < taps.size() && taps[next[i]].from == y; ++next[i]) {
                if (row.k == nullptr) row = lines(in, from, y, 1, scratch(v, 0), scratch(v, 1));
                for (const auto &mx : along) {
                    const Shift to{down[i].other, mx.other};
                    if (node.count[node.at(to)] == 0) continue;
                    const Rect r = rect(node, to);
                    Plane &made = plane(v, to);
                    const Int at = (taps[next[i]].to - r.y) * r.w * V_, count = Int(mx.taps.size());
                    const T weight = T(taps[next[i]].weight);
                    rows_.gather(mx.taps.data(), count, r.x, s.x, weight, row.k, made.k + at);
                    if (row.t != nullptr) rows_.gather(mx.taps.data(), count, r.x, s.x, weight, row.t, made.t + at);
                }
            }
    }
    release(in, from);
}

template class Run<float>;
template class Run<double>;

}  // namespace gramian
