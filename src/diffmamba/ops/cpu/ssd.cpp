// The scan of Mamba-2 by itself, in float: x and y (batch, length, heads, headdim), dt (batch, length, heads), B and C
// (batch, length, groups, state), states (batch, heads, headdim, state).
#include "scan.h"

struct Parts {
    static constexpr bool JOINS_HEADS = false;
    struct Local {
        Local(const Sizes&, bool) {}
        void start() {}
    };

    const Sizes& s;
    const float *x, *dt, *B, *C;
    float* y;
    const float* dy;
    float *dx, *ddt, *dB, *dC;

    int64_t position(int64_t b, int64_t k, int64_t q) const { return b * s.length + k * s.chunk + q; }

    // rows of `count` numbers to a tile, which is 0 after the end of the sequence, and back
    void load_rows(const float* from, int64_t step, int64_t count, int64_t n, float* tile, int64_t tile_step) const {
        for (int64_t q = 0; q < s.chunk; q++)
            for (int64_t i = 0; i < count; i += W)
                store(tile + q * tile_step + i, q < n ? load(from + q * step + i, count - i) : Vector{});
    }
    static void store_rows(const float* tile, int64_t tile_step, int64_t count, int64_t n, float* to, int64_t step) {
        for (int64_t q = 0; q < n; q++) std::memcpy(to + q * step, tile + q * tile_step, count * sizeof(float));
    }
    int64_t of_head(int64_t b, int64_t h, int64_t k) const { return (position(b, k, 0) * s.heads + h) * s.headdim; }
    int64_t of_group(int64_t b, int64_t g, int64_t k) const { return (position(b, k, 0) * s.groups + g) * s.state; }

    void load_group(Chunk& chunk, Local&, int64_t b, int64_t g, int64_t k, bool) const {
        load_rows(B + of_group(b, g, k), s.groups * s.state, s.state, s.count(k), chunk.B, s.N());
        load_rows(C + of_group(b, g, k), s.groups * s.state, s.state, s.count(k), chunk.C, s.N());
    }
    void load_head(Chunk& chunk, Local&, int64_t b, int64_t h, int64_t k, bool) const {
        load_rows(x + of_head(b, h, k), s.inner(), s.headdim, s.count(k), chunk.x, s.P());
        for (int64_t q = 0; q < s.chunk; q++)
            chunk.decays.dt[q] = q < s.count(k) ? dt[position(b, k, q) * s.heads + h] : 0;
    }
    void store_head(int64_t b, int64_t h, int64_t k, const float* tile) const {
        store_rows(tile, s.P(), s.headdim, s.count(k), y + of_head(b, h, k), s.inner());
    }
    void store_group(Local&, int64_t, int64_t, int64_t, const float*, int64_t) const {}

    void prepare_group(Local&, int64_t, int64_t, int64_t, Kept) const {}
    void load_gradient(Chunk& chunk, Local&, int64_t b, int64_t h, int64_t k, Kept) const {
        load_rows(dy + of_head(b, h, k), s.inner(), s.headdim, s.count(k), chunk.dy, s.P());
    }
    void store_head_gradient(Chunk& chunk, Local&, int64_t b, int64_t h, int64_t k, int64_t) const {
        store_rows(chunk.dx, s.P(), s.headdim, s.count(k), dx + of_head(b, h, k), s.inner());
        for (int64_t q = 0; q < s.count(k); q++) ddt[position(b, k, q) * s.heads + h] = chunk.ddt[q];
    }
    void store_group_gradient(Local&, int64_t b, int64_t g, int64_t k, const float* tile_B, const float* tile_C) const {
        store_rows(tile_B, s.N(), s.state, s.count(k), dB + of_group(b, g, k), s.groups * s.state);
        store_rows(tile_C, s.N(), s.state, s.count(k), dC + of_group(b, g, k), s.groups * s.state);
    }
};

extern "C" {
// `states` is kept for the gradient if it is given.
void diffmamba_ssd_forward(const Sizes* s, const float* x, const float* dt, const float* A, const float* B,
                           const float* C, const float* D, const float* initial, float* y, float* final,
                           float* states) {
    scan_forward(*s, Parts{*s, x, dt, B, C, y}, A, D, initial, final, Kept{states, nullptr});
}
// `total`: the gradients of A and D (heads each).
void diffmamba_ssd_backward(const Sizes* s, const float* dy, const float* dfinal, const float* x, const float* dt,
                            const float* A, const float* B, const float* C, const float* D, float* states, float* dx,
                            float* ddt, float* dB, float* dC, float* dinitial, float* total) {
    Buffer sums(s->batch * 2 * s->heads);
    const Parts source{*s, x, dt, B, C, nullptr, dy, dx, ddt, dB, dC};
    scan_backward(*s, source, A, D, Kept{states, nullptr}, dfinal, dinitial, sums, 2 * s->heads, total);
}
}
