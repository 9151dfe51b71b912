// One position of Mamba-2 between its projections: convolution, recurrence, and gated norm.
//
//     x, B, C = silu(conv(xBC))          dt = softplus(dt + dt_bias)          A = -exp(A_log)
//     h'[p, n] = exp(dt · A) · h[p, n] + dt · x[p] · B[n]                     y[p] = Σ_n h'[p, n] · C[n] + D · x[p]
//     v = y · silu(z)                    u = v / sqrt(mean(v²) + ε) · weight, for each group by itself
#include <cmath>

#include "step.h"

namespace step {

struct Mamba2 {
    int64_t batch, heads, headdim, groups, states, width, sharing;
    Tensor zxBCdt, conv_state, u, next_conv;
    const float *conv_weight, *conv_bias, *dt_bias, *A_log, *D, *norm_weight, *state;
    float* next;
    float epsilon;
};

// h' and y of one head; `x` points to its channels
static void recur(const Mamba2& m, int64_t row, int64_t head, const float* x, const float* B, const float* C,
                  float raw_dt, float* y) {
    const float dt = softplus(broadcast(raw_dt + m.dt_bias[head]))[0];
    const float decay = exp(broadcast(-std::exp(m.A_log[head]) * dt))[0];
    const int64_t at = (row * m.heads + head) * m.headdim * m.states;
    for (int64_t p = 0; p < m.headdim; p++) {
        const float added = dt * x[p];
        const float* h = m.state + at + p * m.states;
        float* to = m.next + at + p * m.states;
        Vector total{};
        int64_t n = 0;
        for (; n + W <= m.states; n += W) {
            Vector now = load(h + n) * decay + load(B + n) * added;
            store(to + n, now);
            total += now * load(C + n);
        }
        if (int64_t count = m.states - n) {
            Vector now = load(h + n, count) * decay + load(B + n, count) * added;
            store(to + n, now, count);
            total += now * load(C + n, count);
        }
        y[p] = sum(total) + m.D[head] * x[p];
    }
}

// u of one group, from y
static void norm(const Mamba2& m, int64_t row, int64_t group, float* y, int64_t total) {
    const int64_t inner = m.heads * m.headdim, size = inner / m.groups, at = group * size;
    const float* weight = m.norm_weight + at % (inner / m.sharing);
    Vector squares{};
    for (int64_t i = 0; i < size; i += W) {
        Vector z = get(m.zxBCdt, row * total + at + i, std::min<int64_t>(W, size - i));
        Vector v = load(y + at + i, std::min<int64_t>(W, size - i)) * z * sigmoid(z);
        store(y + at + i, v, size - i);
        squares += v * v;
    }
    const float r = 1 / std::sqrt(sum(squares) / size + m.epsilon);
    for (int64_t i = 0; i < size; i += W) {
        const int64_t count = std::min<int64_t>(W, size - i);
        set(m.u, row * inner + at + i, load(y + at + i, count) * r * load(weight + i, count), count);
    }
}

}  // namespace step

extern "C" void mamba2_step(const step::Mamba2* mixer, int64_t threads) {
    using namespace step;
    const Mamba2& m = *mixer;
    const int64_t inner = m.heads * m.headdim, projected = m.groups * m.states, per_group = m.heads / m.groups;
    const int64_t own = projected / m.sharing, total = 2 * inner + 2 * projected + m.heads;
    const Convolution conv(m.conv_weight, m.conv_bias, m.width, m.sharing, {inner / m.sharing, own, own});
    const std::unique_ptr<float[]> convolved(new float[m.batch * conv.channels]), ys(new float[m.batch * inner]);
    if (m.batch * inner * m.states < SMALL) threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < m.batch; row++)
            conv.row(row, m.zxBCdt, row * total + inner, m.conv_state, m.next_conv, &convolved[row * conv.channels]);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < m.batch * m.heads; i++) {
            const int64_t row = i / m.heads, head = i % m.heads, group = head / per_group;
            const float *x = &convolved[row * conv.channels], *B = x + inner + group * m.states, *C = B + projected;
            const Tensor& all = m.zxBCdt;
            const float raw = get(all, row * total + total - m.heads + head, 1)[0];
            recur(m, row, head, x + head * m.headdim, B, C, raw, &ys[row * inner + head * m.headdim]);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < m.batch * m.groups; i++) {
            const int64_t row = i / m.groups;
            norm(m, row, i % m.groups, &ys[row * inner], total);
        }
    }
}
