/* What the kernels share: vectors, activations, scratch memory, products, chains of dense layers. One source for every
   processor: only the enum below, KEEP and the bfloat16 products of product.c know which it is. */
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* floats in a register; a tile of a product is ROWS x VECTORS of them, in registers from the first term to the last */
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 8, VECTORS = 2 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6, VECTORS = 2 };
#elif defined(__aarch64__)
enum { LANES = 4, ROWS = 6, VECTORS = 4 };
#else
enum { LANES = 4, ROWS = 4, VECTORS = 3 };
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
/* pins a vector to a register, or GCC loads it anew for every multiply-add */
#if defined(__AVX512F__)
#define KEEP(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define KEEP(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define KEEP(v) __asm__("" : "+w"(v))
#else
#define KEEP(v)
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

/* the sum of squares of g [n] */
INLINE float squares_of(long n, const float *g) {
    vec sum[2] = {{0}};
    float rest = 0;
    long i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        UNROLL for (int k = 0; k < 2; k++) sum[k] += load(g + i + k * LANES) * load(g + i + k * LANES);
    for (; i < n; i++) rest += g[i] * g[i];
    return rest + total(sum[0] + sum[1]);
}

/* Scratch memory of this thread, one block for each purpose, grown when needed; 64 floats beyond `n` may be read. */
enum { PAD_B, PAD_B2, PAD_SLOPE, PAD_C, PAIRS, PAIRS2, PANEL, TURNED, WHOLE, PULLED, PUSHED, SPREAD, BETWEEN,
       BETWEEN2, VALUES, HEAD, BLOCKS };
float *scratch(int which, long n);

/* Operands of a product: element (row r, step k) of A at a[r * row + k * step], and (step k, column n) of B at
   b[k * ld + n]; where B is packed into panels of COLS columns, panel after panel. In bfloat16 one step is a pair of terms. */
typedef struct {
    const float *a;
    long row, step;
    const float *b;
    long ld, steps;
    int packed;
} terms;

/* C [M, N] = act(start + sum of terms), or (start + sum) * act'(slope); start: bias, C itself, or 0. */
typedef struct {
    terms t[2];
    int n_terms, pairs, act, add;
    const float *bias, *slope;
    long slope_ld;
    float *c;
    long c_ld;
} job;

float product(long M, long N, const job *j); /* returns the sum of C's squares */
int has_bf16(void);
void pair_columns(const float *a, long lda, long rows, long cols, float *out);
void pair_rows(const float *a, long lda, long rows, long cols, float *out);
void transpose(const float *a, long lda, long rows, long cols, float *out, long ld_out);

/* Layers one after another: layer l has sizes[l] inputs and sizes[l + 1] outputs; parameters stand one after another. The
   values of layer l for M rows are [M, pitches[l]], one layer after another: `values` floats a row. */
typedef struct {
    long layers, values;
    const long *sizes, *pitches;
    const int *activations;
} chain;

void forward(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, float *y);
float pull_back(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, const float *y, const float *dy,
                long lddy, float *g, float *dx);
