// One position of Mamba-1 between its projections: convolution, the projections of x, recurrence, and gate.
//
//     x = silu(conv(x))                  [r, B, C] = x_proj · x           dt = softplus(dt_proj · r + dt_bias)
//     h'[c, n] = exp(dt[c] · A[c, n]) · h[c, n] + dt[c] · x[c] · B[n]     A = -exp(A_log)
//     y[c] = Σ_n h'[c, n] · C[n] + D[c] · x[c]                            u = y · silu(z)
//
// Channels, and the rows of both projections, are divided into branches; each branch has its own r, B and C.
#include <cmath>

#include "step.h"

namespace step {

struct Mamba1 {
    int64_t batch, channels, branches, states, rank, width, sharing;
    Tensor xz, conv_state, u, next_conv;
    const float *conv_weight, *conv_bias, *x_proj, *dt_proj, *dt_bias, *A_log, *D, *state;
    float* next;
};

// h' and y · silu(z) of W channels or fewer from `first` on, all of one branch
static void recur(const Mamba1& m, int64_t row, int64_t first, int64_t count, const float* x, const float* projected,
                  const float* A) {
    const float *B = projected + m.rank, *C = B + m.states;
    float raw[W] = {}, ys[W] = {};
    for (int64_t i = 0; i < count; i++)
        raw[i] = dot(m.dt_proj + (first + i) * m.rank, projected, m.rank) + m.dt_bias[first + i];
    const Vector dt = softplus(load(raw));
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = first + i, at = (row * m.channels + c) * m.states;
        const float added = dt[i] * x[c];
        Vector total{};
        for (int64_t n = 0; n < m.states; n += W) {
            const int64_t some = std::min<int64_t>(W, m.states - n);
            Vector decay = exp(load(A + c * m.states + n, some) * dt[i]);
            Vector now = decay * load(m.state + at + n, some) + load(B + n, some) * added;
            store(m.next + at + n, now, some);
            total += now * load(C + n, some);
        }
        ys[i] = sum(total) + m.D[c] * x[c];
    }
    Vector z = get(m.xz, row * 2 * m.channels + m.channels + first, count);
    set(m.u, row * m.channels + first, load(ys) * z * sigmoid(z), count);
}

}  // namespace step

extern "C" void mamba1_step(const step::Mamba1* mixer, int64_t threads) {
    using namespace step;
    const Mamba1& m = *mixer;
    const int64_t own = m.channels / m.branches, size = m.rank + 2 * m.states, all = m.branches * size;
    const int64_t blocks = (own + W - 1) / W, per_row = m.branches * blocks, numbers = m.channels * m.states;
    const Convolution conv(m.conv_weight, m.conv_bias, m.width, m.sharing, {m.channels / m.sharing});
    const std::unique_ptr<float[]> xs(new float[m.batch * m.channels]), projected(new float[m.batch * all]);
    const std::unique_ptr<float[]> A(new float[numbers]);
    if (m.batch * numbers < SMALL) threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < numbers; i += W)
            store(&A[i], -exp(load(m.A_log + i, numbers - i)), numbers - i);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < m.batch; row++)
            conv.row(row, m.xz, row * 2 * m.channels, m.conv_state, m.next_conv, &xs[row * m.channels]);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < m.batch * all; i++) {
            const int64_t row = i / all, output = i % all;
            projected[i] = dot(m.x_proj + output * own, &xs[row * m.channels + output / size * own], own);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < m.batch * per_row; i++) {
            const int64_t row = i / per_row, branch = i % per_row / blocks, at = i % blocks * W;
            const float* outputs = &projected[row * all + branch * size];
            recur(m, row, branch * own + at, std::min<int64_t>(W, own - at), &xs[row * m.channels], outputs, &A[0]);
        }
    }
}
