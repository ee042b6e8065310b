// Runs a program for `lanes` pairs of images at once.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include "planes_program.h"
#include "planes_rows.h"

namespace gramian {

// Starts with a line of the cache: else every load of a register of 64 bytes takes two.
template <class T>
struct Aligned {
    using value_type = T;
    Aligned() = default;
    template <class S>
    Aligned(const Aligned<S> &) {}
    T *allocate(std::size_t count) { return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t(64))); }
    void deallocate(T *p, std::size_t) { ::operator delete(p, std::align_val_t(64)); }
    template <class S>
    bool operator==(const Aligned<S> &) const { return true; }
    template <class S>
    bool operator!=(const Aligned<S> &) const { return false; }
};
template <class T>
using Numbers = std::vector<T, Aligned<T>>;

// What is known of the images on one side: input (positions, channels), and at each activation's input what Rows take of
// the variances. One number each, or `lanes`.
template <class T>
struct Images {
    const T *input, *spread, *series;  // series: terms of each position
};

// Planes of many sizes, kept for the next of about their size.
template <class T>
class Buffers {
public:
    Buffers() = default;
    Buffers(const Buffers &) = delete;
    ~Buffers() {
        for (auto &kept : free_)
            for (T *p : kept) ::operator delete(p, std::align_val_t(64));
    }
    T *take(Int numbers) {
        auto &kept = free_[place(numbers)];
        if (!kept.empty()) {
            T *p = kept.back();
            kept.pop_back();
            return p;
        }
        const Int most = (4 + place(numbers) % 4) * (Int(1) << place(numbers) / 4) * 16;
        return static_cast<T *>(::operator new(std::size_t(most) * sizeof(T), std::align_val_t(64)));
    }
    void give(T *p, Int numbers) { free_[place(numbers)].push_back(p); }

private:
    // Sizes are rounded up to 4, 5, 6 or 7 times a power of two.
    static Int place(Int numbers) {
        Int units = (numbers + 15) / 16, power = 0;
        for (; units > 7; units = (units + 1) / 2) ++power;
        return 4 * power + (units < 4 ? 0 : units - 4);
    }
    std::vector<T *> free_[4 * 60];
};

template <class T>
class Run {
public:
    // `each`: whether the images x are as many as the lanes; else one against all of them. `same`: x and y are equal.
    Run(const Program &program, const Rows<T> &rows, bool each, bool same);

    // The output of the pairs (x, y): `lanes` numbers each; `theta` may be null.
    // Where `variances` were wanted too, they come first.
    void output(const Images<T> &x, const Images<T> &y, T *k, T *theta);
    // Whether the last output of this lane lost digits: its images are nearly equal, or parts of them to rounding.
    bool rounded(Int lane) const;
    // The variances of the images x = y as `found(node, at, k)`, row after row of each activation's input: k has w times
    // `lanes` of them, from number `at`. `x` and `y` must hold `spread` of the row when it returns.
    template <class Found>
    void variances(const Images<T> &x, const Images<T> &y, const Found &found);

private:
    static constexpr Int CHUNK = 4;  // rows that are made at a time
    struct Plane {
        T *k = nullptr, *t = nullptr;
        int left = 0;
    };
    struct Rect {
        Int y, x, h, w;
    };
    struct Line {
        const T *k, *t;
    };
    struct Window {  // what a convolution has at hand
        std::vector<const T *> k, t;
        std::vector<Line> chunks;
    };
    Rect rect(const Node &node, Shift e) const;
    Plane &plane(int v, Shift e) { return planes_[v][program_.nodes[v].at(e)]; }
    Plane &open(int v, Shift e);
    void prepare(int v, Shift e);
    void release(int v, Shift e);
    Line lines(int v, Shift e, Int y, Int rows, T *k, T *t);
    void produce(int v, Shift e, Int y, Int rows, T *k, T *t);
    void activate(int v, Shift e, Int y, Int rows, const Line &in, T *k, T *t);
    DualRow<T> row_of(int v, Shift e, Int y, Int rows);
    void convolve(int v, Shift e);
    void both(int v, Shift e);
    int overwritten(int v, Shift e);
    void map(int v, Shift e);
    void push(int v, Shift from);
    void average(int v, Shift e);
    T *scratch(int v, Int number) { return scratch_[v].data() + number * CHUNK * width_[v]; }  // CHUNK rows

    const Program &program_;
    const Rows<T> &rows_;
    const bool each_, same_;
    const Int V_;
    Images<T> x_{}, y_{};
    Buffers<T> buffers_;
    std::vector<std::vector<Plane>> planes_;     // by node and displacement
    std::vector<std::vector<unsigned>> pushed_;  // the last run in which a plane was added to an `axes` node's planes
    unsigned run_ = 0;
    std::vector<Numbers<T>> scratch_;
    Numbers<T> chunks_;  // what a convolution has at hand of its input: of all of them the same, which is then in the cache
    std::vector<Int> width_;
    std::vector<Bend<T>> bends_;
    std::vector<Window> windows_;
    Numbers<T> zeros_;
    Numbers<T> near_, close_;  // by lane: counts of DualRow, `close_` in planes of displacement 0
    double seen_ = 0, seen_at_zero_ = 0;
};

template <class T>
template <class Found>
void Run<T>::variances(const Images<T> &x, const Images<T> &y, const Found &found) {
    x_ = x, y_ = y, ++run_;
    for (const Node &node : program_.nodes) {
        if (node.dual < 0) continue;
        const int v = node.in[0];
        prepare(v, {0, 0});
        Numbers<T> k(node.w * V_), t(node.w * V_);
        for (Int y = 0; y < node.h; ++y) {
            const Line row = lines(v, {0, 0}, y, 1, k.data(), t.data());
            found(node, node.dual + y * node.w, row.k);
        }
        release(v, {0, 0});
    }
}

}  // namespace gramian
