// Mamba-1's selective scan, backward; the forward equations are in mamba1.h. With a[t] = exp(u[t] · A), and g[t] the
// gradient of h[t], which follows a recurrence backwards in time:
//
//     dy[t] = dout[t] · silu(z[t])                  dz[t] = dout[t] · y[t] · silu'(z[t])
//     g[t]  = C[t] · dy[t] + a[t+1] · g[t+1]        e[t]  = g[t] · a[t] · h[t-1]
//     dC[t] = Σ_channels dy[t] · h[t]               dB[t] = Σ_channels g[t] · u[t] · x[t]
//     du[t] = x[t] · (g[t] · B[t]) + Σ_states e[t] · A        dx[t] = u[t] · (g[t] · B[t]) + D · dy[t]
//     dA    = Σ_t e[t] · u[t]                       dD    = Σ_t dy[t] · x[t]
//     d(dt)[t] = du[t] · softplus'(dt[t] + dt_bias)
//
// h and a are computed again, chunk by chunk from the last to the first, each from the h before it, which was kept.
#include "mamba1.h"

namespace mamba1 {

struct Partial {  // sums of a task, which are added up over rows or blocks in a fixed order
    std::unique_ptr<float[]> B, C;        // (blocks, batch, length, groups, state)
    std::unique_ptr<float[]> A, D, bias;  // (batch, state, channels), (batch, channels) twice
    Partial(const Scan& s, const Plan& plan) {
        const int64_t projected = plan.blocks * s.batch * s.length * s.groups * s.states;
        for (auto* part : {&B, &C}) part->reset(new float[projected]);
        A.reset(new float[s.batch * s.states * s.channels]);
        for (auto* part : {&D, &bias}) part->reset(new float[s.batch * s.channels]);
    }
};

struct Backward : Chunk {
    const Gradients& gradients;
    float *dy, *gB, *eA;          // [T][width]: dy, g · B and Σ e · A
    float *g, *dA, *dD, *dbias;   // [states][width] twice, [width] twice
    float *a, *later, *dB, *dC;   // [T][S][W], `later` with T + 1 of them: h before the chunk, then after each position
    Memory more;
    Backward(const Scan& scan, const Plan& plan, const Gradients& gradients)
        : Chunk(scan, plan), gradients(gradients),
          more({{&dy, T * width}, {&gB, T * width}, {&eA, T * width}, {&g, scan.states * width},
                {&dA, scan.states * width}, {&dD, width}, {&dbias, width}, {&a, T * S * W}, {&later, (T + 1) * S * W},
                {&dB, T * S * W}, {&dC, T * S * W}}) {}
    void begin(const Task& task);
    void read(const Plan& plan, int64_t index);
    template <int K> void again(int64_t n, int64_t v);
    template <int K> void back(int64_t n, int64_t v);
    template <int K> void sum_projected(const Task& task, Partial& partial, int64_t n) const;
    void write();
    void finish(const Task& task, Partial& partial) const;
};

void Backward::begin(const Task& task) {
    Chunk::begin(task);
    const int64_t from = (task.row * scan.channels + task.first) * scan.states;
    for (int64_t n = 0; n < scan.states; n++)
        for (int64_t c = 0; c < width; c++)  // also beyond the channels, where NaN of another task may lie
            g[n * width + c] = c < channels && gradients.final ? gradients.final[from + c * scan.states + n] : 0;
    std::fill_n(dA, scan.states * width, 0.f);
    std::fill_n(dD, width, 0.f);
    std::fill_n(dbias, width, 0.f);
}

void Backward::read(const Plan& plan, int64_t index) {
    Chunk::read(index * T);
    for (int64_t n = 0; n < scan.states; n++) {
        const float* from = scan.kept + ((row * plan.chunks + index) * scan.states + n) * scan.channels + first_channel;
        for (int64_t v = 0; v < channels; v += W) store(h + n * width + v, load(from + v, inside(v)));
    }
    for (int64_t t = 0; t < size; t++)
        for (int64_t v = 0; v < channels; v += W) {
            Vector slope = get(gradients.out, address(gradients.out, t) + v, inside(v));
            if (scan.z.data) {
                Vector z = get(scan.z, address(scan.z, t) + v, inside(v));
                slope = slope * z * sigmoid(z);
            }
            store(dy + t * width + v, slope);
            store(gB + t * width + v, Vector{});
            store(eA + t * width + v, Vector{});
        }
}

// a and h of K states of one vector of channels, and their part of y
template <int K> void Backward::again(int64_t n, int64_t v) {
    Vector rate[K], now[K];
    for (int k = 0; k < K; k++) {
        rate[k] = load(decay + (n + k) * width + v), now[k] = load(h + (n + k) * width + v);
        store(later + k * W, now[k]);
    }
    for (int64_t t = 0; t < size; t++) {
        Vector u_at = load(u + t * width + v), ux_at = load(ux + t * width + v), y_at = load(y + t * width + v);
        for (int k = 0; k < K; k++) {
            Vector kept = power_of_two(u_at * rate[k]);
            store(a + (t * K + k) * W, kept);
            now[k] = kept * now[k] + ux_at * B[t * scan.states + n + k];
            store(later + ((t + 1) * K + k) * W, now[k]);
            y_at += now[k] * C[t * scan.states + n + k];
        }
        store(y + t * width + v, y_at);
    }
}

// all that needs g, from the last position to the first
template <int K> void Backward::back(int64_t n, int64_t v) {
    Vector slope[K], rate[K], ofA[K];
    for (int k = 0; k < K; k++) {
        const int64_t at = (n + k) * width + v;
        slope[k] = load(g + at), rate[k] = load(decay + at), ofA[k] = load(dA + at);
    }
    for (int64_t t = size - 1; t >= 0; t--) {
        Vector u_at = load(u + t * width + v), ux_at = load(ux + t * width + v), dy_at = load(dy + t * width + v);
        Vector gB_at = load(gB + t * width + v), eA_at = load(eA + t * width + v);
        for (int k = 0; k < K; k++) {
            float *of_B = dB + (t * K + k) * W, *of_C = dC + (t * K + k) * W;
            slope[k] += dy_at * C[t * scan.states + n + k];
            store(of_C, load(of_C) + dy_at * load(later + ((t + 1) * K + k) * W));
            store(of_B, load(of_B) + ux_at * slope[k]);
            gB_at += slope[k] * B[t * scan.states + n + k];
            slope[k] *= load(a + (t * K + k) * W);
            Vector e = slope[k] * load(later + (t * K + k) * W);
            ofA[k] += e * u_at;
            eA_at += e * rate[k];
        }
        store(gB + t * width + v, gB_at);
        store(eA + t * width + v, eA_at);
    }
    for (int k = 0; k < K; k++) store(g + (n + k) * width + v, slope[k]), store(dA + (n + k) * width + v, ofA[k]);
}

template <int K>
void Backward::sum_projected(const Task& task, Partial& partial, int64_t n) const {
    for (int64_t t = 0; t < size; t++) {
        int64_t at = (task.block * scan.batch + row) * scan.length + start + t;
        at = (at * scan.groups + group) * scan.states + n;
        for (int k = 0; k < K; k++) {
            partial.B[at + k] = sum(load(dB + (t * K + k) * W));
            partial.C[at + k] = sum(load(dC + (t * K + k) * W));
        }
    }
}

void Backward::write() {
    for (int64_t t = 0; t < size; t++)
        for (int64_t v = 0; v < channels; v += W) {
            const int64_t at = t * width + v, count = inside(v);
            Vector x_at = x(t, v), dy_at = load(dy + at), gB_at = load(gB + at);
            Vector dx = gB_at * load(u + at) + dy_at * load(D + v);
            Vector ddt = gB_at * x_at + load(eA + at) * (1 / LOG2_E);
            if (scan.softplus) ddt *= sigmoid(before_softplus(t, v));
            set(gradients.x, address(gradients.x, t) + v, dx, count);
            set(gradients.dt, address(gradients.dt, t) + v, ddt, count);
            store(dD + v, load(dD + v) + dy_at * x_at);
            store(dbias + v, load(dbias + v) + ddt);
            if (!scan.z.data) continue;
            Vector dout = get(gradients.out, address(gradients.out, t) + v, count);
            Vector z = get(scan.z, address(scan.z, t) + v, count), s = sigmoid(z);
            set(gradients.z, address(gradients.z, t) + v, dout * load(y + at) * silu_slope(s, z * s), count);
        }
}

void Backward::finish(const Task& task, Partial& partial) const {
    const int64_t to = (task.row * scan.channels + task.first) * scan.states;
    for (int64_t n = 0; n < scan.states; n++)
        for (int64_t c = 0; c < task.channels; c++) {
            gradients.state[to + c * scan.states + n] = g[n * width + c];
            partial.A[(task.row * scan.states + n) * scan.channels + task.first + c] = dA[n * width + c];
        }
    std::copy_n(dD, task.channels, &partial.D[task.row * scan.channels + task.first]);
    std::copy_n(dbias, task.channels, &partial.bias[task.row * scan.channels + task.first]);
}

static void run(Backward& chunk, const Plan& plan, const Task& task, Partial& partial) {
    chunk.begin(task);
    for (int64_t index = plan.chunks - 1; index >= 0; index--) {
        chunk.read(plan, index);
        by_states(chunk.scan.states, [&]<int K>(int64_t n) {
            std::fill_n(chunk.dB, T * S * W, 0.f);
            std::fill_n(chunk.dC, T * S * W, 0.f);
            for (int64_t v = 0; v < task.channels; v += W) {
                chunk.again<K>(n, v);
                chunk.back<K>(n, v);
            }
            chunk.sum_projected<K>(task, partial, n);
        });
        chunk.write();
    }
    chunk.finish(task, partial);
}

// dB and dC of a position: the sum over the blocks of channels
static void add_blocks(const Scan& s, const Plan& plan, const Gradients& to, const Partial& partial, int64_t position) {
    const int64_t size = s.groups * s.states, all = s.batch * s.length * size;
    for (int64_t i = position * size; i < (position + 1) * size; i++) {
        float B = 0, C = 0;
        for (int64_t block = 0; block < plan.blocks; block++) {
            B += partial.B[block * all + i];
            C += partial.C[block * all + i];
        }
        set_one(to.B, i, B);
        set_one(to.C, i, C);
    }
}

// dA, dD and the gradient of dt_bias of a channel: the sum over the rows
static void add_rows(const Scan& s, const Gradients& to, const Partial& partial, int64_t channel) {
    for (int64_t n = 0; n < s.states; n++) {
        float total = 0;
        for (int64_t row = 0; row < s.batch; row++) total += partial.A[(row * s.states + n) * s.channels + channel];
        to.A[channel * s.states + n] = total;
    }
    float D = 0, bias = 0;
    for (int64_t row = 0; row < s.batch; row++) {
        D += partial.D[row * s.channels + channel];
        bias += partial.bias[row * s.channels + channel];
    }
    to.D[channel] = D;
    if (to.dt_bias) to.dt_bias[channel] = bias;
}

}  // namespace mamba1

// Gradients of B and C are contiguous.
extern "C" void mamba1_backward(const mamba1::Scan* scan, const mamba1::Gradients* gradients, int64_t threads) {
    using namespace mamba1;
    const Plan plan(*scan);
    Partial partial(*scan, plan);
#pragma omp parallel num_threads(threads)
    {
        Backward chunk(*scan, plan, *gradients);
#pragma omp for schedule(dynamic)
        for (int64_t index = 0; index < plan.tasks; index++) run(chunk, plan, Task(*scan, plan, index), partial);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < scan->batch * scan->length; i++) add_blocks(*scan, plan, *gradients, partial, i);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < scan->channels; c++) add_rows(*scan, *gradients, partial, c);
    }
}
