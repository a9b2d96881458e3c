/* What the kernels share: vectors, activations, scratch memory, chains of dense layers. See dense.c and ppo.c. */
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 8, VECTORS = 2 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6, VECTORS = 2 };
#else
enum { LANES = 4, ROWS = 6, VECTORS = 3 };
#endif
enum { COLS = LANES * VECTORS, IDENTITY = 0, TANH = 1, RELU = 2 };

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(LANES * 4)));
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE vec load(const float *p) { return *(const loose *)p; }
INLINE void store(float *p, vec v) { *(loose *)p = v; }
INLINE vec splat(float x) { return x - (vec){0}; }
INLINE vec pick(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }

INLINE float total(vec v) {
    float sum = 0;
    UNROLL for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

/* 1 - 2 / (exp(2x) + 1), within 2e-7; NaN stays NaN. exp(2x) = 2^(n + f), n whole, |f| <= 1/2, 2^f by its series */
INLINE vec vtanh(vec x) {
    vec y = pick(x > 9.0f, splat(9.0f), x);
    y = pick(y < -9.0f, splat(-9.0f), y);
    vec t = y * 2.885390081777927f;
    vec n = t + 12582912.0f; /* 1.5 * 2^23: the sum has no room for a fraction */
    vec f = t - (n - 12582912.0f), p = splat(1.5403530e-4f);
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    vec e = (vec)((ivec)p + ((ivec)n << 23));
    return pick(x == x, 1.0f - 2.0f / (e + 1.0f), x);
}

INLINE vec value_of(vec x, int act) {
    if (act == TANH) return vtanh(x);
    if (act == RELU) return pick(x < 0.0f, splat(0.0f), x);
    return x;
}

/* the derivative of the activation, from its value y */
INLINE vec slope_at(vec y, int act) {
    if (act == TANH) return 1.0f - y * y;
    return pick(y > 0.0f, splat(1.0f), splat(0.0f));
}

/* Scratch memory of this thread, one block for each purpose, grown when needed; 64 floats beyond `n` may be read. */
enum { PAD_B, PAD_B2, PAD_SLOPE, PAD_C, PAIRS, PAIRS2, PULLED, TURNED, SPREAD, BETWEEN, BETWEEN2, VALUES, HEAD, BLOCKS };
float *scratch(int which, long n);

/* Layers one after another: layer l has sizes[l] inputs and sizes[l + 1] outputs; parameters stand one after another.
   `values` counts what all layers give for one row. */
typedef struct {
    long layers, values;
    const long *sizes;
    const int *activations;
} chain;

void forward(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, float *y);
void pull_back(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, const float *y, const float *dy,
               long lddy, float *g, float *dx);
