// Mamba-2 from the output of its input projection to the input of its output projection: convolution, softplus, scan
// and gated norm, forward and backward.
//
// A row of the projection is z (inner), x (inner), B (groups · state), C (groups · state), dt (heads); the convolution
// runs over x, B and C. What one chunk of one head needs stays in the cache from the first step to the last.
#include "conv.h"
#include "norm.h"
#include "scan.h"

struct Parameters {
    const float *taps, *conv_bias, *dt_bias, *norm_weight;  // taps (width, channels)
    float epsilon;
};

template <class T> struct Projection {
    static constexpr bool JOINS_HEADS = true;  // the norm

    const Sizes& s;
    Parameters w;
    const T *rows, *past;  // (batch, length, row), (batch, width - 1, channels)
    T* out;                // (batch, length, inner)
    // of the backward pass
    const T* dout;
    T *drows, *dpast;
    float* sums;  // by sequence: A, D, dt_bias (heads each), norm_weight (inner), taps (width, channels), conv_bias
    NormFactors* factors;  // (batch, groups, length)

    struct Local {
        Buffer slope_x, slope_B, slope_C, later_x, later_B, later_C, row;
        const int64_t xs, Bs;

        Local(const Sizes& s, bool gradient)
            : slope_x(gradient * s.chunk * s.P()), slope_B(gradient * s.chunk * s.N()),
              slope_C(gradient * s.chunk * s.N()), later_x(gradient * s.per_group() * s.width * s.P()),
              later_B(gradient * s.width * s.N()), later_C(gradient * s.width * s.N()),
              row(s.per_group() * s.headdim + W), xs(gradient * s.per_group() * s.width * s.P()),
              Bs(gradient * s.width * s.N()) {}
        void start() {
            std::memset(later_x, 0, xs * sizeof(float));
            std::memset(later_B, 0, Bs * sizeof(float));
            std::memset(later_C, 0, Bs * sizeof(float));
        }
    };

    int64_t channels() const { return s.inner() + 2 * s.groups * s.state; }
    int64_t row_size() const { return s.inner() + channels() + s.heads; }
    int64_t of_B(int64_t g) const { return s.inner() + g * s.state; }
    int64_t of_C(int64_t g) const { return s.inner() + (s.groups + g) * s.state; }
    const T* row(int64_t b, int64_t position) const { return rows + (b * s.length + position) * row_size(); }
    T* drow(int64_t b, int64_t position) const { return drows + (b * s.length + position) * row_size(); }
    float* sum(int64_t b) const { return sums + b * (3 * s.heads + s.inner() + (s.width + 1) * channels()); }

    Inputs<const T> inputs(int64_t b, int64_t channel) const {
        return {row(b, 0) + s.inner() + channel, row_size(),
                past ? past + b * (s.width - 1) * channels() + channel : nullptr, channels()};
    }
    Inputs<T> dinputs(int64_t b, int64_t channel) const {
        return {drow(b, 0) + s.inner() + channel, row_size(),
                dpast ? dpast + b * (s.width - 1) * channels() + channel : nullptr, channels()};
    }
    Filter filter(int64_t channel, int64_t count) const {
        return {w.taps + channel, w.conv_bias + channel, channels(), s.width, count};
    }
    FilterGradient filter_gradient(int64_t b, int64_t channel) const {
        float* taps = sum(b) + 3 * s.heads + s.inner();
        return {taps + channel, taps + s.width * channels() + channel, channels()};
    }

    void load_channels(int64_t b, int64_t k, int64_t channel, int64_t count, float* tile, float* slope,
                       int64_t step) const {
        const int64_t n = s.count(k);
        if (n < s.chunk) std::memset(tile + n * step, 0, (s.chunk - n) * step * sizeof(float));
        convolve<true>(inputs(b, channel), filter(channel, count), k * s.chunk, n, tile, step, slope, step);
    }
    // Asks for the rows of a chunk while the one before is computed. Columns of a few heads in many rows are a pattern
    // that processors do not foresee: without this, waiting for memory was a sixth of the operator's time.
    void prefetch(int64_t b, int64_t g, int64_t k, bool gradient) const {
        if (k < 0 || k >= s.chunks()) return;
        const int64_t own = s.per_group() * s.headdim, of_dt = row_size() - s.heads + g * s.per_group();
        auto ask = [](const T* from, int64_t count) {
            for (int64_t i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(from + i, 0, 2);
        };
        for (int64_t position = k * s.chunk; position < k * s.chunk + s.count(k); position++) {
            const T* from = row(b, position);
            ask(from + g * own, own);
            ask(from + s.inner() + g * own, own);
            ask(from + s.inner() + of_B(g), s.state);
            ask(from + s.inner() + of_C(g), s.state);
            ask(from + of_dt, s.per_group());
            if (gradient) ask(dout + (b * s.length + position) * s.inner() + g * own, own);
        }
    }
    void load_group(Chunk& chunk, Local& local, int64_t b, int64_t g, int64_t k, bool gradient) const {
        prefetch(b, g, gradient ? k - 1 : k + 1, gradient);
        load_channels(b, k, of_B(g), s.state, chunk.B, gradient ? (float*)local.slope_B : nullptr, s.N());
        load_channels(b, k, of_C(g), s.state, chunk.C, gradient ? (float*)local.slope_C : nullptr, s.N());
    }
    void load_head(Chunk& chunk, Local& local, int64_t b, int64_t h, int64_t k, bool gradient) const {
        load_channels(b, k, h * s.headdim, s.headdim, chunk.x, gradient ? (float*)local.slope_x : nullptr, s.P());
        const int64_t n = s.count(k);
        float* dt = chunk.decays.dt;
        for (int64_t q = 0; q < n; q++)
            dt[q] = number(row(b, k * s.chunk + q) + row_size() - s.heads + h) + w.dt_bias[h];
        for (int64_t q = 0; q < n; q += W) store(dt + q, softplus(load(dt + q)));
        for (int64_t q = n; q < s.chunk; q++) dt[q] = 0;
    }
    void store_head(int64_t, int64_t, int64_t, const float*) const {}

    // The norm of all heads of a group.
    void store_group(Local& local, int64_t b, int64_t g, int64_t k, const float* y, int64_t head_step) const {
        const int64_t own = s.per_group() * s.headdim;
        for (int64_t q = 0; q < s.count(k); q++) {
            const int64_t position = k * s.chunk + q;
            const Gated<float, T> gated{y + q * s.P(), head_step, row(b, position) + g * own,
                                        s.per_group(), s.headdim, w.epsilon};
            gated_norm(gated, w.norm_weight + g * own, local.row,
                       out + (b * s.length + position) * s.inner() + g * own);
        }
    }

    // --- backward
    void prepare_group(Local&, int64_t b, int64_t g, int64_t k, Kept kept) const {
        const int64_t own = s.per_group() * s.headdim;
        for (int64_t q = 0; q < s.count(k); q++) {
            const int64_t position = k * s.chunk + q;
            const float* y = kept.output(s, b, g * s.per_group(), k) + q * s.P();
            const T* d = dout + (b * s.length + position) * s.inner() + g * own;
            const Gated<float, T> gated{y, s.chunk * s.P(), row(b, position) + g * own,
                                        s.per_group(), s.headdim, w.epsilon};
            factors[(b * s.groups + g) * s.length + position] = norm_factors(gated, w.norm_weight + g * own, d);
        }
    }
    // dy of one head, by the norm; dz and the gradient of the norm's weight
    void load_gradient(Chunk& chunk, Local&, int64_t b, int64_t h, int64_t k, Kept kept) const {
        const int64_t n = s.count(k), P = s.P(), at = h * s.headdim;
        const float* y = kept.output(s, b, h, k);
        if (n < s.chunk) std::memset(chunk.dy + n * P, 0, (s.chunk - n) * P * sizeof(float));
        for (int64_t q = 0; q < n; q++) {
            const int64_t position = k * s.chunk + q;
            const NormFactors f = factors[(b * s.groups + h / s.per_group()) * s.length + position];
            norm_gradient<true>(f, y + q * P, row(b, position) + at, dout + (b * s.length + position) * s.inner() + at,
                                w.norm_weight + at, s.headdim, chunk.dy + q * P, drow(b, position) + at,
                                sum(b) + 3 * s.heads + at);
        }
    }
    void store_head_gradient(Chunk& chunk, Local& local, int64_t b, int64_t h, int64_t k, int64_t own) const {
        const int64_t channel = h * s.headdim, P = s.P();
        convolve_back(inputs(b, channel), filter(channel, s.headdim), k * s.chunk, s.count(k), (const float*)chunk.dx,
                      P, local.slope_x, P, local.later_x + own * s.width * P, P, dinputs(b, channel),
                      filter_gradient(b, channel));
        float v[MAX_CHUNK];
        const int64_t n = s.count(k), at = row_size() - s.heads + h;
        for (int64_t q = 0; q < s.chunk; q++) v[q] = q < n ? number(row(b, k * s.chunk + q) + at) + w.dt_bias[h] : 0;
        for (int64_t q = 0; q < n; q += W) store(v + q, load(chunk.ddt + q) * sigmoid(load(v + q)));  // of softplus
        for (int64_t q = 0; q < n; q++) {
            put(drow(b, k * s.chunk + q) + at, v[q]);
            sum(b)[2 * s.heads + h] += v[q];
        }
    }
    void store_group_gradient(Local& local, int64_t b, int64_t g, int64_t k, const float* dB, const float* dC) const {
        auto back = [&](int64_t channel, const float* gradient, const float* slope, float* later) {
            convolve_back(inputs(b, channel), filter(channel, s.state), k * s.chunk, s.count(k), gradient, s.N(), slope,
                          s.N(), later, s.N(), dinputs(b, channel), filter_gradient(b, channel));
        };
        back(of_B(g), dB, local.slope_B, local.later_B);
        back(of_C(g), dC, local.slope_C, local.later_C);
    }
};

template <class T> struct Pointers {  // as the caller gives them; see mamba2.py
    const T *rows, *past;
    const float *taps, *conv_bias, *dt_bias, *A, *D, *norm_weight, *initial;
    float epsilon;
};

template <class T> static Projection<T> projection(const Sizes& s, const Pointers<T>& p) {
    return {s, {p.taps, p.conv_bias, p.dt_bias, p.norm_weight, p.epsilon}, p.rows, p.past};
}

template <class T> static void forward(const Sizes& s, const Pointers<T>& p, T* out, float* final, Kept kept) {
    Projection<T> source = projection(s, p);
    source.out = out;
    scan_forward(s, source, p.A, p.D, p.initial, final, kept);
}

template <class T>
static void backward(const Sizes& s, const Pointers<T>& p, Kept kept, const T* dout, const float* dfinal, T* drows,
                     T* dpast, float* dinitial, float* total) {
    Projection<T> source = projection(s, p);
    const int64_t size = 3 * s.heads + s.inner() + (s.width + 1) * source.channels();
    Buffer sums(s.batch * size), factors(s.batch * s.groups * s.length * 2);
    source.dout = dout, source.drows = drows, source.dpast = dpast, source.sums = sums;
    source.factors = reinterpret_cast<NormFactors*>((float*)factors);
    scan_backward(s, source, p.A, p.D, kept, dfinal, dinitial, sums, size, total);
}

extern "C" {
void diffmamba_mamba2_forward(const Sizes* s, const Pointers<float>* p, float* out, float* final, const Kept* kept) {
    forward(*s, *p, out, final, *kept);
}
void diffmamba_mamba2_forward_bfloat16(const Sizes* s, const Pointers<bfloat16>* p, bfloat16* out, float* final,
                                       const Kept* kept) {
    forward(*s, *p, out, final, *kept);
}
void diffmamba_mamba2_backward(const Sizes* s, const Pointers<float>* p, const Kept* kept, const float* dout,
                               const float* dfinal, float* drows, float* dpast, float* dinitial, float* total) {
    backward(*s, *p, *kept, dout, dfinal, drows, dpast, dinitial, total);
}
void diffmamba_mamba2_backward_bfloat16(const Sizes* s, const Pointers<bfloat16>* p, const Kept* kept,
                                        const bfloat16* dout, const float* dfinal, bfloat16* drows, bfloat16* dpast,
                                        float* dinitial, float* total) {
    backward(*s, *p, *kept, dout, dfinal, drows, dpast, dinitial, total);
}
// The numbers of a sequence and a head that are kept: of a state, and of a chunk's y.
void diffmamba_tiles(const Sizes* s, int64_t* state, int64_t* output) {
    *state = s->N() * s->P();
    *output = s->chunk * s->P();
}
}
