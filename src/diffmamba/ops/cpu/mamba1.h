// What the passes of Mamba-1's selective scan share: their arguments, the division into tasks, and a chunk in memory.
//
//     u[t] = softplus(dt[t] + dt_bias)      h[t] = exp(u[t] · A) · h[t-1] + u[t] · x[t] · B[t]
//     y[t] = h[t] · C[t] + D · x[t]         out[t] = y[t] · silu(z[t])
//
// A task is a row of the batch and a block of channels of one group: vectors run along channels, and the states are
// taken a few at a time around them. It walks the sequence in chunks of T positions, which lie in the nearest cache in
// float. Only copying a chunk from and to memory knows of bfloat16, strides and incomplete vectors.
#pragma once
#include <algorithm>
#include <memory>

#include "vectors.h"

namespace mamba1 {

constexpr int64_t T = 32;            // positions of a chunk; the h before each is kept (CHUNK in mamba1.py)
constexpr int S = 4;                 // states taken together
constexpr int64_t MOST_VECTORS = 8;  // of channels in a task
constexpr int64_t TASKS = 8;         // wanted at least, so that one sequence is work for several cores

struct Sequence {  // (batch, length, channels), or for B and C (batch, length, groups, state); strides in numbers
    void* data;
    int64_t row, position, group;
    int64_t narrow;  // bfloat16 instead of float
};

struct Scan {
    int64_t batch, length, channels, groups, states;
    int64_t softplus;  // 0: dt is taken as it is
    Sequence x, dt, B, C, z;      // z.data may be null: no gate
    const float *A, *D, *dt_bias;  // (channels, state), (channels), (channels) or null
    const float* state;           // (batch, channels, state)
    Sequence out;
    float *final, *kept;  // as `state`; (batch, chunks, state, channels) or null
};

struct Gradients {
    Sequence out;        // given, the others are wanted
    const float* final;  // given; may be null
    Sequence x, dt, B, C, z;
    float *A, *D, *dt_bias, *state;
};

INLINE Vector get(const Sequence& from, int64_t at, int64_t count) {
    return from.narrow ? load((const bfloat16*)from.data + at, count) : load((const float*)from.data + at, count);
}
INLINE void set(const Sequence& to, int64_t at, Vector v, int64_t count) {
    to.narrow ? store((bfloat16*)to.data + at, v, count) : store((float*)to.data + at, v, count);
}
INLINE float get_one(const Sequence& from, int64_t at) {
    return from.narrow ? number((const bfloat16*)from.data + at) : ((const float*)from.data)[at];
}
INLINE void set_one(const Sequence& to, int64_t at, float x) {
    to.narrow ? put((bfloat16*)to.data + at, x) : put((float*)to.data + at, x);
}

// 2^x, with x = n + r and |r| ≤ 1/2; 2^r is a polynomial of degree 6 (Cephes). Where n is below -126
// it is 0, above 127 the value there. NaN for NaN.
INLINE Vector power_of_two(Vector x) {
    const float lowest = -127.f, highest = 127.f, magic = 12582912.f + 127.f;  // see `exp`
    x = lowest > x ? broadcast(lowest) : x;
    x = highest < x ? broadcast(highest) : x;
    Vector shifted = x + magic, r = x - (shifted - magic);
    Vector p = r * 1.535336188319500e-4f + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    return p * (Vector)((Bits)shifted << 23);
}
constexpr float LOG2_E = 1.44269504088896341f;

// How channels are divided; by sizes only, so that sums are taken in the same order with any number of threads.
struct Plan {
    int64_t per_group, blocks, vectors, width, chunks, tasks;  // `vectors` and `width` of the widest block
    explicit Plan(const Scan& scan) {
        per_group = scan.channels / scan.groups;
        int64_t all = round_up(per_group, W) / W;
        vectors = std::clamp<int64_t>(scan.batch * scan.groups * all / TASKS, 1, MOST_VECTORS);
        blocks = (all + vectors - 1) / vectors;
        vectors = (all + blocks - 1) / blocks;
        blocks = (all + vectors - 1) / vectors;
        width = vectors * W;
        chunks = (scan.length + T - 1) / T;
        tasks = scan.batch * scan.groups * blocks;
    }
};

struct Task {
    int64_t row, group, block, first, channels;  // the first channel and how many
    Task(const Scan& scan, const Plan& plan, int64_t index) {
        block = index % plan.blocks;
        group = index / plan.blocks % scan.groups;
        row = index / plan.blocks / scan.groups;
        int64_t begin = block * plan.width;
        first = group * plan.per_group + begin;
        channels = std::min(plan.width, plan.per_group - begin);
    }
};

// Memory for several arrays, each of which starts at a cache line.
class Memory {
    std::unique_ptr<float[]> data;

   public:
    struct Array {
        float** to;
        int64_t size;
    };
    explicit Memory(std::initializer_list<Array> arrays) {
        int64_t total = 16;
        for (const Array& array : arrays) total += round_up(array.size, 16);
        data.reset(new float[total]());
        float* next = data.get() + (64 - (uintptr_t)data.get() % 64) % 64 / sizeof(float);
        for (const Array& array : arrays) *array.to = next, next += round_up(array.size, 16);
    }
};

// A chunk of a task in float. Arrays of positions are [T][width], of states [states][width], of B and C [T][states].
struct Chunk {
    const Scan& scan;
    int64_t width, row, group, first_channel, channels, start, size;
    float *decay, *D, *bias, *h, *u, *ux, *y, *B, *C;
    Memory memory;
    Chunk(const Scan& scan, const Plan& plan)
        : scan(scan), width(plan.width), memory({{&decay, scan.states * width}, {&h, scan.states * width}, {&D, width},
                                                 {&bias, width}, {&u, T * width}, {&ux, T * width}, {&y, T * width},
                                                 {&B, T * scan.states}, {&C, T * scan.states}}) {}
    void begin(const Task& task) {  // `decay` is A · log2(e)
        row = task.row, group = task.group, first_channel = task.first, channels = task.channels;
        for (int64_t c = 0; c < width; c++) {
            bool inside = c < channels;
            int64_t at = first_channel + c;
            for (int64_t n = 0; n < scan.states; n++)
                decay[n * width + c] = inside ? scan.A[at * scan.states + n] * LOG2_E : 0;
            D[c] = inside ? scan.D[at] : 0;
            bias[c] = inside && scan.dt_bias ? scan.dt_bias[at] : 0;
        }
    }
    int64_t address(const Sequence& of, int64_t t) const {
        return row * of.row + (start + t) * of.position + first_channel;
    }
    int64_t inside(int64_t v) const { return std::min<int64_t>(W, channels - v); }
    Vector before_softplus(int64_t t, int64_t v) const {
        return get(scan.dt, address(scan.dt, t) + v, inside(v)) + load(bias + v);
    }
    Vector x(int64_t t, int64_t v) const { return get(scan.x, address(scan.x, t) + v, inside(v)); }

    // u, u · x, y = D · x so far, B and C of the positions from `from` on
    void read(int64_t from) {
        start = from, size = std::min(T, scan.length - from);
        for (int64_t t = 0; t < size; t++) {
            for (int64_t v = 0; v < channels; v += W) {
                Vector step = before_softplus(t, v), x_at = x(t, v);
                if (scan.softplus) step = softplus(step);
                store(u + t * width + v, step);
                store(ux + t * width + v, step * x_at);
                store(y + t * width + v, load(D + v) * x_at);
            }
            read_states(scan.B, B + t * scan.states, t);
            read_states(scan.C, C + t * scan.states, t);
        }
    }
    void read_states(const Sequence& from, float* to, int64_t t) const {
        int64_t at = row * from.row + (start + t) * from.position + group * from.group;
        for (int64_t n = 0; n < scan.states; n += W)
            store(to + n, get(from, at + n, scan.states - n), scan.states - n);
    }
};

// calls f with 4 states at a time, then with each of the others alone: f<4>(first state), f<1>(state)
template <class F> INLINE void by_states(int64_t states, F f) {
    int64_t n = 0;
    for (; n + S <= states; n += S) f.template operator()<S>(n);
    for (; n < states; n++) f.template operator()<1>(n);
}

}  // namespace mamba1
