// The scan of Mamba-2 (SSD) over one chunk of positions of one group, and its gradient, as products of tiles.
//
// For one head, with a[i] = exp(dt[i] A), E[i, j] = a[j+1] ··· a[i] for i ≥ j and 0 before, and P (state, headdim) the
// state before the chunk:
//
//     Y      = M X + e ∘ (C P) + D X        where M[i, j] = (C Bᵀ)[i, j] · E[i, j] · dt[j], and e[i] = a[0] ··· a[i]
//     P_next = a[0] ··· a[Q-1] · P + Bᵀ (f dt ∘ X)        where f[j] = a[j+1] ··· a[Q-1]
//
// All decays are products of a. So nothing overflows, nothing cancels, and one exponential for each position is enough.
// Tiles with j before i are stored transposed: ... [j, i], rows j.
#pragma once
#include <algorithm>
#include <limits>

#include "tiles.h"

constexpr int64_t MAX_CHUNK = 64;

struct Sizes {
    int64_t batch, length, heads, groups, headdim, state, width, chunk, threads;

    int64_t per_group() const { return heads / groups; }
    int64_t inner() const { return heads * headdim; }
    int64_t chunks() const { return (length + chunk - 1) / chunk; }
    int64_t P() const { return round_up(headdim, W); }           // columns of a tile of x and of the state
    int64_t N() const { return round_up(state, W > 8 ? W : 8); }  // rows of the state, columns of B and C
    int64_t count(int64_t k) const { return std::min(chunk, length - k * chunk); }
};

INLINE float flushed(float x) { return x < std::numeric_limits<float>::min() ? 0 : x; }  // subnormals are slow
INLINE Vector flushed(Vector x) { return x < std::numeric_limits<float>::min() ? Vector{} : x; }

// The decays of one head.
struct Decays {
    const int64_t Q;
    Buffer dt, a, from_start, to_end, weight;  // e and f above; weight = f · dt
    float whole = 1;                           // a[0] ··· a[Q-1]

    explicit Decays(int64_t Q) : Q(Q), dt(Q), a(Q + 1), from_start(Q), to_end(Q), weight(Q) {}

    void compute(float A) {  // from dt, which is 0 after the end of the sequence
        for (int64_t q = 0; q < Q; q += W) store(a + q, flushed(exp(load(dt + q) * A)));
        float product = 1;
        for (int64_t q = 0; q < Q; q++) from_start[q] = product = flushed(product * a[q]);
        whole = product;
        product = 1;
        for (int64_t q = Q - 1; q >= 0; q--) {
            to_end[q] = product;
            weight[q] = product * dt[q];
            product = flushed(product * a[q]);
        }
    }

    // Calls f(j, v, E) for the rows j of Eᵀ from the last to the first, with the vectors v that reach j or later.
    template <class F> INLINE void each_row(F f) const {
        Vector row[MAX_CHUNK / W] = {};
        const int64_t vectors = Q / W;
        for (int64_t j = Q - 1; j >= 0; j--)
            for (int64_t v = j / W; v < vectors; v++) {
                row[v] = flushed(row[v] * a[j + 1]);
                if (v == j / W) row[v] = lanes() == (int32_t)(j - v * W) ? broadcast(1) : row[v];
                f(j, v, row[v]);
            }
    }
};

struct Chunk {
    const int64_t Q, P, N;
    Buffer B, C, BT, CT, CB, x, M, weighted;        // B, C (Q, N); BT, CT (N, Q); CB, M (Q, Q) transposed; x (Q, P)
    Buffer dy, dx, dyT, xT, dBT, dCT, dB, dC, dCB;  // gradients, of the same shapes
    Buffer dM, until, onward, crossing, ddt;
    Decays decays;

    Chunk(const Sizes& s, bool gradient)
        : Q(s.chunk), P(s.P()), N(s.N()), B(Q * N), C(Q * N), BT(Q * N), CT(Q * N), CB(Q * Q), x(Q * P), M(Q * Q),
          weighted(Q * P), dy(gradient * Q * P), dx(gradient * Q * P), dyT(gradient * Q * P), xT(gradient * Q * P),
          dBT(gradient * Q * N), dCT(gradient * Q * N), dB(gradient * Q * N), dC(gradient * Q * N),
          dCB(gradient * Q * Q), dM(gradient * Q * Q), until(Q), onward(Q), crossing(Q + 1), ddt(Q), decays(s.chunk) {}

    // The products C Bᵀ, which all heads of the group share.
    void share() {
        transpose(C, Q, N, N, CT, Q);
        blocks(Q, Q / W, [&]<int R, int V>(int64_t j, int64_t v) {
            if ((v + V) * W <= j) return;
            Sums<R, V> sums;
            sums.zero();
            sums.add_product(B + j * N, N, 1, CT + v * W, Q, N);
            sums.each([&](int r, int u, Vector& sum) { store(CB + (j + r) * Q + (v + u) * W, sum); });
        });
    }

    // y and the next state of one head, from x, the decays and the state before.
    void forward(float D, const float* before, float* after, float* y) {
        const Decays& d = decays;
        d.each_row([&](int64_t j, int64_t v, Vector E) {
            store(M + j * Q + v * W, load(CB + j * Q + v * W) * E * d.dt[j]);
        });
        for (int64_t j = 0; j < Q; j++)
            for (int64_t p = 0; p < P; p += W) store(weighted + j * P + p, load(x + j * P + p) * d.weight[j]);
        blocks(Q, P / W, [&]<int R, int V>(int64_t i, int64_t v) {
            Sums<R, V> sums;
            sums.zero();
            sums.add_product(C + i * N, N, 1, before + v * W, P, N);
            sums.each([&](int r, int u, Vector& sum) {
                sum = sum * d.from_start[i + r] + load(x + (i + r) * P + (v + u) * W) * D;
            });
            sums.add_product(M + i, 1, Q, x + v * W, P, i + R);
            sums.each([&](int r, int u, Vector& sum) { store(y + (i + r) * P + (v + u) * W, sum); });
        });
        blocks(N, P / W, [&]<int R, int V>(int64_t n, int64_t v) {
            Sums<R, V> sums;
            sums.each([&](int r, int u, Vector& sum) { sum = load(before + (n + r) * P + (v + u) * W) * d.whole; });
            sums.add_product(B + n, 1, N, weighted + v * W, P, Q);
            sums.each([&](int r, int u, Vector& sum) { store(after + (n + r) * P + (v + u) * W, sum); });
        });
    }

    // Before the heads whose gradients of B and C are added up.
    void begin_backward() {
        transpose(B, Q, N, N, BT, Q);
        std::memset(dBT, 0, Q * N * sizeof(float));
        std::memset(dCT, 0, Q * N * sizeof(float));
        std::memset(dCB, 0, Q * Q * sizeof(float));
    }

    // The gradient of one head from dy: fills dx and ddt, adds to dA, dD and to the gradients of B and C, and turns
    // dstate, the gradient of the state after the chunk, into that of the state before it.
    void backward(float A, float D, const float* before, float* dstate, double& dA, double& dD) {
        transpose(dy, Q, P, P, dyT, Q);
        transpose(x, Q, P, P, xT, Q);
        within_chunk(dD);
        from_state(before);
        to_state(dstate);
        to_x(D, dstate);
        const float through = through_chunk(before, dstate);

        // A decay at t is part of all paths from a position before t, or from the state before, to t or later
        float later = 0, earlier = 0;
        for (int64_t t = Q - 1; t >= 0; t--) crossing[t] += later += until[t];
        for (int64_t t = 0; t < Q; t++) {
            const float ds = crossing[t] + earlier + through;  // gradient of log a[t] = dt[t] A
            earlier += onward[t] * decays.dt[t];
            ddt[t] += onward[t] + ds * A;
            dA += ds * decays.dt[t];
        }
    }

    // After these heads: the gradients of B and C, complete.
    void end_backward() {
        transpose(dBT, N, Q, Q, dB, N);
        transpose(dCT, N, Q, Q, dC, N);
        blocks(Q, N / W, [&]<int R, int V>(int64_t i, int64_t v) {  // dC[i] += Σ_j dCB[i, j] B[j]
            Sums<R, V> sums;
            sums.each([&](int r, int u, Vector& sum) { sum = load(dC + (i + r) * N + (v + u) * W); });
            sums.add_product(dCB + i, 1, Q, B + v * W, N, i + R);
            sums.each([&](int r, int u, Vector& sum) { store(dC + (i + r) * N + (v + u) * W, sum); });
        });
        blocks(Q, N / W, [&]<int R, int V>(int64_t j, int64_t v) {  // dB[j] += Σ_i dCB[i, j] C[i]
            Sums<R, V> sums;
            sums.each([&](int r, int u, Vector& sum) { sum = load(dB + (j + r) * N + (v + u) * W); });
            sums.add_product(dCB + j * Q + j, Q, 1, C + j * N + v * W, N, Q - j);
            sums.each([&](int r, int u, Vector& sum) { store(dB + (j + r) * N + (v + u) * W, sum); });
        });
    }

  private:
    // Paths from x[j] to y[i]. Leaves (C Bᵀ) ∘ E in M, and starts ddt and `crossing`, the sum of all paths across t.
    //
    // The same sum is that of all paths that end at t or later less those that start there. But that difference cancels
    // where decays are strong, and loses digits.
    void within_chunk(double& dD) {
        const Decays& d = decays;
        blocks(Q, Q / W, [&]<int R, int V>(int64_t j, int64_t v) {  // x[j] · dy[i]
            if ((v + V) * W <= j) return;
            Sums<R, V> sums;
            sums.zero();
            sums.add_product(x + j * P, P, 1, dyT + v * W, Q, P);
            sums.each([&](int r, int u, Vector& sum) { store(dM + (j + r) * Q + (v + u) * W, sum); });
        });
        for (int64_t j = 0; j < Q; j++) dD += dM[j * Q + j];
        d.each_row([&](int64_t j, int64_t v, Vector E) {
            const int64_t at = j * Q + v * W;
            const Vector scores = load(CB + at) * E, gradient = load(dM + at);
            store(M + at, scores);
            store(dCB + at, load(dCB + at) + gradient * E * d.dt[j]);
            store(dM + at, gradient * scores);
        });
        Vector paths[MAX_CHUNK / W] = {};  // from all positions so far, to every i
        crossing[0] = 0;
        for (int64_t j = 0; j < Q; j++) {
            Vector all{}, across{};
            for (int64_t v = j / W; v < Q / W; v++) {
                const Vector path = load(dM + j * Q + v * W);
                const Integers after = lanes() + (int32_t)(v * W - j) > 0;
                all += path;
                paths[v] += path * d.dt[j];
                across += after ? paths[v] : Vector{};
            }
            ddt[j] = sum(all);
            crossing[j + 1] = sum(across);
        }
    }

    // Paths from the state before to y: adds to dC, and fills `until` with their sum for each y[i].
    void from_state(const float* before) {
        std::memset(until, 0, Q * sizeof(float));
        add_outer(before, dyT, decays.from_start, decays.from_start, CT, dCT, until);
    }

    // Paths from x to the state after: adds to dB, and fills `onward` with their sum for each x[j], without dt[j].
    void to_state(const float* dstate) {
        std::memset(onward, 0, Q * sizeof(float));
        add_outer(dstate, xT, decays.weight, decays.to_end, BT, dBT, onward);
    }

    // With S = state · rows (N, Q): to += S ∘ scale, and totals[q] += Σ_n (S ∘ total_scale ∘ factor)[n, q].
    void add_outer(const float* state, const float* rows, const float* scale, const float* total_scale,
                   const float* factor, float* to, float* totals) {
        blocks(N, Q / W, [&]<int R, int V>(int64_t n, int64_t v) {
            Sums<R, V> sums;
            sums.zero();
            sums.add_product(state + n * P, P, 1, rows + v * W, Q, P);
            Vector total[V] = {};
            sums.each([&](int r, int u, Vector& sum) {
                const int64_t q = (v + u) * W, at = (n + r) * Q + q;
                store(to + at, load(to + at) + sum * load(scale + q));
                total[u] += load(factor + at) * sum;
            });
            for (int u = 0; u < V; u++) {
                const int64_t q = (v + u) * W;
                store(totals + q, load(totals + q) + total[u] * load(total_scale + q));
            }
        });
    }

    void to_x(float D, const float* dstate) {
        const Decays& d = decays;
        blocks(Q, P / W, [&]<int R, int V>(int64_t j, int64_t v) {
            Sums<R, V> sums;
            sums.zero();
            sums.add_product(B + j * N, N, 1, dstate + v * W, P, N);
            sums.each([&](int r, int, Vector& sum) { sum *= d.to_end[j + r]; });
            sums.add_product(M + j * Q + j, Q, 1, dy + j * P + v * W, P, Q - j);
            sums.each([&](int r, int u, Vector& sum) {
                const int64_t at = (j + r) * P + (v + u) * W;
                store(dx + at, sum * d.dt[j + r] + load(dy + at) * D);
            });
        });
    }

    // Paths from the state before to the state after. Returns their sum; dstate becomes the gradient of the former.
    float through_chunk(const float* before, float* dstate) {
        for (int64_t q = 0; q < Q; q++)
            for (int64_t p = 0; p < P; p += W) store(weighted + q * P + p, load(dy + q * P + p) * decays.from_start[q]);
        Vector total{};
        blocks(N, P / W, [&]<int R, int V>(int64_t n, int64_t v) {
            Sums<R, V> sums;
            sums.each([&](int r, int u, Vector& sum) {
                const int64_t at = (n + r) * P + (v + u) * W;
                sum = load(dstate + at) * decays.whole;
                total += sum * load(before + at);
            });
            sums.add_product(C + n, 1, N, weighted + v * W, P, Q);
            sums.each([&](int r, int u, Vector& sum) { store(dstate + (n + r) * P + (v + u) * W, sum); });
        });
        return sum(total);
    }
};
