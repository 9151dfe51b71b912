// Small matrix products with all sums in registers, transpositions, and memory for tiles.
//
// A tile is a matrix in a buffer of its own, padded with zeros: its rows are a multiple of W long. So no product has to
// look at borders.
#pragma once
#include <cstdlib>
#include <new>

#include "vectors.h"

class Buffer {  // numbers that start as zeros, aligned to a line of the cache
  public:
    explicit Buffer(int64_t count) {
        const size_t bytes = round_up(count * sizeof(float), 64) + 64;
        memory = static_cast<float*>(std::aligned_alloc(64, bytes));
        if (!memory) throw std::bad_alloc();
        std::memset(memory, 0, bytes);
    }
    ~Buffer() { std::free(memory); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    operator float*() const { return memory; }

  private:
    float* memory;
};

// ROWS × VECTORS sums in registers.
template <int ROWS, int VECTORS> struct Sums {
    Vector at[ROWS][VECTORS];

    INLINE void zero() {
        for (auto& row : at)
            for (auto& v : row) v = Vector{};
    }
    // += A B, with A[row, k] = a[row · row_step + k · k_step] and the rows of B along the vectors
    INLINE void add_product(const float* a, int64_t row_step, int64_t k_step, const float* b, int64_t b_step, int64_t count) {
        for (int64_t k = 0; k < count; k++) {
            Vector right[VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) right[v] = load(b + k * b_step + v * W);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++) {
                const Vector left = broadcast(a[r * row_step + k * k_step]);
#pragma GCC unroll 8
                for (int v = 0; v < VECTORS; v++) at[r][v] += left * right[v];
            }
        }
    }
    template <class F> INLINE void each(F f) {  // f(row, vector, sum), which may change the sum
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) f(r, v, at[r][v]);
    }
};

// Calls f<ROWS, VECTORS>(first row, first vector) until a matrix is covered. `rows` is a multiple of 8. The shapes are
// those that were fastest: they leave registers for the operands (32 with AVX-512, else 16).
template <class F> INLINE void blocks(int64_t rows, int64_t vectors, F f) {
    int64_t v = 0;
    if constexpr (W == 16)
        for (; v + 4 <= vectors; v += 4)
            for (int64_t r = 0; r < rows; r += 4) f.template operator()<4, 4>(r, v);
    for (; v + 2 <= vectors; v += 2)
        for (int64_t r = 0; r < rows; r += (W == 16 ? 8 : 4)) f.template operator()<(W == 16 ? 8 : 4), 2>(r, v);
    for (; v < vectors; v++)
        for (int64_t r = 0; r < rows; r += (W == 4 ? 4 : 8)) f.template operator()<(W == 4 ? 4 : 8), 1>(r, v);
}

// rows and columns are multiples of 4; `to` is (columns, rows)
INLINE void transpose(const float* from, int64_t rows, int64_t columns, int64_t from_step, float* to, int64_t to_step) {
    typedef float Four __attribute__((vector_size(16)));
    for (int64_t r = 0; r < rows; r += 4)
        for (int64_t c = 0; c < columns; c += 4) {
            Four in[4];
            for (int i = 0; i < 4; i++) std::memcpy(&in[i], from + (r + i) * from_step + c, sizeof(Four));
            const Four a = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
            const Four b = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
            const Four d = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
            const Four e = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
            const Four out[4] = {
                __builtin_shufflevector(a, d, 0, 1, 4, 5), __builtin_shufflevector(a, d, 2, 3, 6, 7),
                __builtin_shufflevector(b, e, 0, 1, 4, 5), __builtin_shufflevector(b, e, 2, 3, 6, 7)};
            for (int i = 0; i < 4; i++) std::memcpy(to + (c + i) * to_step + r, &out[i], sizeof(Four));
        }
}
