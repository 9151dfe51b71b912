// The gated norm and the plain norm by themselves: rows (count, groups, size), weight (groups, size).
//
// The plain norm is x / sqrt(mean(x²) + ε) · w. Its gradient is that of the gated norm with a gate of 1:
// dx = r · (w · dout - x · m) with m = r² · mean(w · dout · x), and dw = Σ r · x · dout.
#include "norm.h"

#include <algorithm>

#include "tiles.h"

struct NormSizes {
    int64_t count, groups, size, threads;
    float epsilon;
};

constexpr int64_t ROWS = 64;  // of a task; gradients of the weight are added up by task, then over the tasks in order

template <class F> static void by_rows(const NormSizes& s, F f) {  // f(row, group, task)
    const int64_t tasks = (s.count + ROWS - 1) / ROWS;
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; task++)
        for (int64_t row = task * ROWS; row < std::min((task + 1) * ROWS, s.count); row++)
            for (int64_t g = 0; g < s.groups; g++) f(row, g, task);
}

static void add_up(const NormSizes& s, const float* sums, float* total) {
    const int64_t size = s.groups * s.size, tasks = (s.count + ROWS - 1) / ROWS;
    for (int64_t i = 0; i < size; i += W) {
        Vector sum{};
        for (int64_t task = 0; task < tasks; task++) sum += load(sums + task * size + i, size - i);
        store(total + i, sum, size - i);
    }
}

template <class T> static void gated_forward(const NormSizes& s, const T* y, const T* z, const float* weight, T* out) {
    by_rows(s, [&](int64_t row, int64_t g, int64_t) {
        const int64_t at = (row * s.groups + g) * s.size;
        const Gated<T, T> gated{y + at, 0, z + at, 1, s.size, s.epsilon};
        const float r = gated.root();
        gated.each([&](int64_t c, auto left, Vector yv, Vector zv) {
            store(out + at + c, yv * zv * sigmoid(zv) * r * load(weight + g * s.size + c, left), left);
        });
    });
}

template <class T>
static void gated_backward(const NormSizes& s, const T* dout, const T* y, const T* z, const float* weight, T* dy, T* dz,
                           float* dweight) {
    Buffer sums((s.count + ROWS - 1) / ROWS * s.groups * s.size);
    by_rows(s, [&](int64_t row, int64_t g, int64_t task) {
        const int64_t at = (row * s.groups + g) * s.size, of = g * s.size;
        const NormFactors f =
            norm_factors(Gated<T, T>{y + at, 0, z + at, 1, s.size, s.epsilon}, weight + of, dout + at);
        norm_gradient<false>(f, y + at, z + at, dout + at, weight + of, s.size, dy + at, dz + at,
                             sums + task * s.groups * s.size + of);
    });
    add_up(s, sums, dweight);
}

extern "C" {
void diffmamba_gated_norm_forward(const NormSizes* s, const float* y, const float* z, const float* w, float* out) {
    gated_forward(*s, y, z, w, out);
}
void diffmamba_gated_norm_forward_bfloat16(const NormSizes* s, const bfloat16* y, const bfloat16* z, const float* w,
                                           bfloat16* out) {
    gated_forward(*s, y, z, w, out);
}
void diffmamba_gated_norm_backward(const NormSizes* s, const float* dout, const float* y, const float* z,
                                   const float* w, float* dy, float* dz, float* dw) {
    gated_backward(*s, dout, y, z, w, dy, dz, dw);
}
void diffmamba_gated_norm_backward_bfloat16(const NormSizes* s, const bfloat16* dout, const bfloat16* y,
                                            const bfloat16* z, const float* w, bfloat16* dy, bfloat16* dz, float* dw) {
    gated_backward(*s, dout, y, z, w, dy, dz, dw);
}

void diffmamba_norm_forward(const NormSizes* s, const float* x, const float* weight, float* out) {
    by_rows(*s, [&](int64_t row, int64_t, int64_t) {
        const float* from = x + row * s->size;
        Vector squares{};
        by_vectors(s->size, [&](int64_t c, auto left) { squares += load(from + c, left) * load(from + c, left); });
        const float r = 1 / std::sqrt(sum(squares) / s->size + s->epsilon);
        by_vectors(s->size, [&](int64_t c, auto left) {
            store(out + row * s->size + c, load(from + c, left) * r * load(weight + c, left), left);
        });
    });
}
void diffmamba_norm_backward(const NormSizes* s, const float* dout, const float* x, const float* weight, float* dx,
                             float* dweight) {
    Buffer sums((s->count + ROWS - 1) / ROWS * s->size);
    by_rows(*s, [&](int64_t row, int64_t, int64_t task) {
        const float *from = x + row * s->size, *d = dout + row * s->size;
        float* own = sums + task * s->size;
        Vector squares{}, product{};
        by_vectors(s->size, [&](int64_t c, auto left) {
            squares += load(from + c, left) * load(from + c, left);
            product += load(from + c, left) * load(d + c, left) * load(weight + c, left);
        });
        const float r = 1 / std::sqrt(sum(squares) / s->size + s->epsilon), m = sum(product) / s->size * r * r;
        by_vectors(s->size, [&](int64_t c, auto left) {
            const Vector xv = load(from + c, left), dv = load(d + c, left);
            store(own + c, load(own + c, left) + dv * xv * r, left);
            store(dx + row * s->size + c, (dv * load(weight + c, left) - xv * m) * r, left);
        });
    });
    add_up(*s, sums, dweight);
}
}
