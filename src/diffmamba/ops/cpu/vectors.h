// Vectors of float and their elementary functions, for any instruction set: GCC's and Clang's vector extensions only.
//
// W numbers fit one register: 16 with AVX-512, 8 with AVX, 4 elsewhere (SSE, NEON). Every function gives NaN for NaN.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

#define INLINE inline __attribute__((always_inline))

typedef float Vector __attribute__((vector_size(W * 4)));
typedef int32_t Integers __attribute__((vector_size(W * 4)));
typedef uint32_t Bits __attribute__((vector_size(W * 4)));
typedef uint16_t Halves __attribute__((vector_size(W * 2)));

struct bfloat16 {  // the upper half of a float
    uint16_t bits;
};

INLINE int64_t round_up(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }
INLINE Vector broadcast(float x) { return x - Vector{}; }  // x + {} would lose the sign of -0
INLINE Integers lanes() {
    Integers v;
    for (int i = 0; i < W; i++) v[i] = i;
    return v;
}
template <int N> struct Numbers {
    typedef float type __attribute__((vector_size(N * 4)));
};
template <int N = W> INLINE float sum(typename Numbers<N>::type v) {  // by halves
    if constexpr (N == 2) return v[0] + v[1];
    else {
        typename Numbers<N / 2>::type low, high;
        std::memcpy(&low, &v, sizeof low);
        std::memcpy(&high, (const char*)&v + sizeof low, sizeof high);
        return sum<N / 2>(low + high);
    }
}

// --- memory: addresses need not be aligned; `count` numbers of W, the others are 0 and not touched

INLINE Vector widen(Halves h) { return (Vector)(__builtin_convertvector(h, Bits) << 16); }
INLINE Halves narrow(Vector v) {  // to the nearest, ties to even; NaN stays NaN
    Bits bits = (Bits)v;
    Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    Bits nan = (bits >> 16) | 0x40;
    return __builtin_convertvector(v == v ? rounded : nan, Halves);
}
INLINE Vector load(const float* from) {
    Vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
INLINE Vector load(const bfloat16* from) {
    Halves h;
    std::memcpy(&h, from, sizeof h);
    return widen(h);
}
INLINE void store(float* to, Vector v) { std::memcpy(to, &v, sizeof v); }
INLINE void store(bfloat16* to, Vector v) {
    Halves h = narrow(v);
    std::memcpy(to, &h, sizeof h);
}
template <class T> INLINE Vector load(const T* from, int64_t count) {
    if (count >= W) return load(from);
    T part[W] = {};
    std::memcpy(part, from, count * sizeof(T));
    return load(part);
}
template <class T> INLINE void store(T* to, Vector v, int64_t count) {
    if (count >= W) return store(to, v);
    T part[W];
    store(part, v);
    std::memcpy(to, part, count * sizeof(T));
}
// Calls f(first, left) for the vectors of `count` numbers: `left` is the constant W for those that are whole.
template <class F> INLINE void by_vectors(int64_t count, F f) {
    int64_t c = 0;
    for (; c + W <= count; c += W) f(c, std::integral_constant<int64_t, W>{});
    if (c < count) f(c, count - c);
}
INLINE float number(const float* from) { return *from; }
INLINE float number(const bfloat16* from) {
    uint32_t bits = uint32_t(from->bits) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
INLINE void put(float* to, float x) { *to = x; }
INLINE void put(bfloat16* to, float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    to->bits = uint16_t(x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : (bits >> 16) | 0x40);
}

// --- functions

// e^x = 2^n · e^r with x = n log 2 + r and |r| ≤ log(2) / 2. log 2 is taken off in two parts (Cody and Waite), and e^r
// is a polynomial of degree 7 (Cephes). Off by at most 2 units in the last place between -87.3 and 88.3; beyond, the
// value at the nearer of these two.
INLINE Vector exp(Vector x) {
    const float lowest = -87.3f, highest = 88.3f;
    const float magic = 12582912.f + 127.f;  // 1.5 · 2^23: a sum with it has n + 127, an exponent, in its last bits
    x = lowest > x ? broadcast(lowest) : x;
    x = highest < x ? broadcast(highest) : x;
    Vector shifted = x * 1.44269504088896341f + magic;
    Vector n = shifted - magic;
    Vector r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * (Vector)((Bits)shifted << 23);
}

INLINE Vector sigmoid(Vector x) { return 1.0f / (1.0f + exp(-x)); }

// max(x, 0) + log(1 + u) with u = e^-|x|, and log(1 + u) = 2 artanh(u / (u + 2)) by its series; relative error 2e-7
INLINE Vector softplus(Vector x) {
    Vector u = exp(x > 0 ? -x : x), z = u / (u + 2.0f), t = z * z;
    Vector p = t * (1 / 13.f) + 1 / 11.f;
    p = p * t + 1 / 9.f;
    p = p * t + 1 / 7.f;
    p = p * t + 1 / 5.f;
    p = p * t + 1 / 3.f;
    Vector positive = x < 0 ? Vector{} : x;
    return positive + 2.0f * (z + z * t * p);
}

// the derivative of x · sigmoid(x), given s = sigmoid(x) and y = x · s
INLINE Vector silu_slope(Vector s, Vector y) { return s + y * (1.0f - s); }
