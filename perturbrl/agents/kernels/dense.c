/* Chains of dense layers for S runs on one core: values, pushed changes, pulled gradients. The fast twin of reference.py.

   Matrices are row-major. A layer's weights W [I, O] are followed by its bias b [O]; runs lie `..s` floats apart. Every run
   is computed by the same instructions whatever S is, so that run k of a population is run k alone, bit for bit.

   Products are sums over tiles of ROWS x COLS held in registers. In bfloat16 (where the processor multiplies it) operands
   are rounded pairwise along the sum, and accumulated in float32; products with a vector stay in float32. */
#include "kernels.h"

static _Thread_local float *block[BLOCKS];
static _Thread_local long room[BLOCKS];
float *scratch(int which, long n) {
    n += 64;
    if (room[which] < n) {
        free(block[which]);
        block[which] = aligned_alloc(64, (n * 4 + 63) / 64 * 64);
        room[which] = block[which] ? n : 0;
        if (!block[which]) abort();
    }
    return block[which];
}

/* lanes of a where bit w of the lane is clear, of b (from w lanes below) where it is set; and the other halves */
INLINE void exchange(int w, vec *a, vec *b) {
    vec x, y;
#ifdef __clang__
    UNROLL for (int i = 0; i < LANES; i++) {
        x[i] = i & w ? (*b)[i - w] : (*a)[i];
        y[i] = i & w ? (*b)[i] : (*a)[i + w];
    }
#else
    ivec low, high;
    UNROLL for (int i = 0; i < LANES; i++) {
        low[i] = i & w ? LANES + i - w : i;
        high[i] = i & w ? LANES + i : i + w;
    }
    x = __builtin_shuffle(*a, *b, low), y = __builtin_shuffle(*a, *b, high);
#endif
    *a = x, *b = y;
}

/* out [cols, rows] = a [rows, cols] turned, in square blocks of registers (Eklundh 1972) */
static void transpose(const float *a, long lda, long rows, long cols, float *out) {
    for (long r = 0; r < rows; r += LANES)
        for (long c = 0; c < cols; c += LANES) {
            if (r + LANES <= rows && c + LANES <= cols) {
                vec v[LANES];
                UNROLL for (int i = 0; i < LANES; i++) v[i] = load(a + (r + i) * lda + c);
                UNROLL for (int w = 1; w < LANES; w *= 2)
                    UNROLL for (int i = 0; i < LANES; i++)
                        if (!(i & w)) exchange(w, &v[i], &v[i + w]);
                UNROLL for (int i = 0; i < LANES; i++) store(out + (c + i) * rows + r, v[i]);
            } else
                for (long i = r; i < r + LANES && i < rows; i++)
                    for (long j = c; j < c + LANES && j < cols; j++) out[j * rows + i] = a[i * lda + j];
        }
}

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
enum { HAS_BF16 = 1 };
INLINE vec fma2(vec acc, vec a, vec b) {
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
}
/* rounds pairs along a row: out[r][c/2] = (a[r][c], a[r][c+1]); an odd last column is paired with 0 */
static void pair_columns(const float *a, long lda, long rows, long cols, float *out) {
    long half = (cols + 1) / 2;
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < half; c += 16) {
            long left = cols - 2 * c, low = left > 16 ? 16 : left, high = left > 32 ? 16 : left - 16;
            __mmask16 first = (__mmask16)((1u << low) - 1), second = high > 0 ? (__mmask16)((1u << high) - 1) : 0;
            __m512 x = _mm512_maskz_loadu_ps(first, a + r * lda + 2 * c);
            __m512 y = _mm512_maskz_loadu_ps(second, a + r * lda + 2 * c + 16);
            __mmask16 kept = half - c >= 16 ? 0xffff : (__mmask16)((1u << (half - c)) - 1);
            _mm512_mask_storeu_epi32(out + r * half + c, kept, (__m512i)_mm512_cvtne2ps_pbh(y, x));
        }
}
/* rounds pairs down a column: out[r/2][c] = (a[r][c], a[r+1][c]); an odd last row is paired with 0 */
static void pair_rows(const float *a, long lda, long rows, long cols, float *out) {
    short order[32];
    for (int i = 0; i < 16; i++) order[2 * i] = (short)i, order[2 * i + 1] = (short)(16 + i);
    __m512i interleave = _mm512_loadu_si512(order);
    for (long r = 0; r < rows; r += 2)
        for (long c = 0; c < cols; c += 16) {
            __mmask16 kept = cols - c >= 16 ? 0xffff : (__mmask16)((1u << (cols - c)) - 1);
            __m512 x = _mm512_maskz_loadu_ps(kept, a + r * lda + c);
            __m512 y = r + 1 < rows ? _mm512_maskz_loadu_ps(kept, a + (r + 1) * lda + c) : _mm512_setzero_ps();
            __m512i pairs = _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(y, x));
            _mm512_mask_storeu_epi32(out + r / 2 * cols + c, kept, pairs);
        }
}
#else
enum { HAS_BF16 = 0 };
INLINE vec fma2(vec acc, vec a, vec b) { return acc + a * b; }
static void pair_columns(const float *a, long lda, long rows, long cols, float *out) { abort(); }
static void pair_rows(const float *a, long lda, long rows, long cols, float *out) { abort(); }
#endif
int has_bf16(void) { return HAS_BF16; }

/* Operands of a product: element (row r, step k) of A at r * row + k * step; B is [steps][ld]. In bfloat16 one step is a
   pair of terms. */
typedef struct {
    const float *a;
    long row, step;
    const float *b;
    long ld, steps;
    int pairs;
} terms;

INLINE void add_terms(vec acc[ROWS][VECTORS], int rows, const terms *t, const float *a, const float *b, long ld) {
    for (long k = 0; k < t->steps; k++) {
        vec bv[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) bv[j] = load(b + k * ld + j * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            float one = a[r * t->row + k * t->step];
            if (t->pairs) {
                int both;
                memcpy(&both, &one, 4);
                UNROLL for (int j = 0; j < VECTORS; j++) acc[r][j] = fma2(acc[r][j], (vec)(both - (ivec){0}), bv[j]);
            } else
                UNROLL for (int j = 0; j < VECTORS; j++) acc[r][j] += one * bv[j];
        }
    }
}

INLINE void one_tile(int rows, int pairs, const terms *t, int n_terms, long m, const float *const *b, const long *ld,
                     const float *bias, const float *slope, long slope_ld, int act, float *c, long c_ld) {
    vec acc[ROWS][VECTORS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) acc[r][j] = bias ? load(bias + j * LANES) : splat(0.0f);
    for (int i = 0; i < n_terms; i++) {
        terms known = t[i];
        known.pairs = pairs;
        add_terms(acc, rows, &known, t[i].a + m * t[i].row, b[i], ld[i]);
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int j = 0; j < VECTORS; j++) {
            vec v = acc[r][j];
            if (slope)
                v *= slope_at(load(slope + r * slope_ld + j * LANES), act);
            else
                v = value_of(v, act);
            store(c + r * c_ld + j * LANES, v);
        }
}

static __attribute__((noinline)) void tiles(long M, long m, int pairs, const terms *t, int n_terms, const float *const *b,
                                            const long *ld, const float *bias, const float *slope, long slope_ld, int act,
                                            float *c, long c_ld) {
#define EVERY(PAIRS, SLOPE, ACT)                                                                                          \
    for (; m + ROWS <= M; m += ROWS)                                                                                      \
        one_tile(ROWS, PAIRS, t, n_terms, m, b, ld, bias, SLOPE, slope_ld, ACT, c + m * c_ld, c_ld);                      \
    for (; m < M; m++) one_tile(1, PAIRS, t, n_terms, m, b, ld, bias, SLOPE, slope_ld, ACT, c + m * c_ld, c_ld);
#define BY_ACT(PAIRS)                                                                                                     \
    if (slope) {                                                                                                          \
        const float *at = slope;                                                                                          \
        EVERY(PAIRS, at + m * slope_ld, act)                                                                              \
    } else if (act == TANH) {                                                                                             \
        EVERY(PAIRS, 0, TANH)                                                                                             \
    } else {                                                                                                              \
        EVERY(PAIRS, 0, act)                                                                                              \
    }
    if (pairs) {
        BY_ACT(1)
    } else {
        BY_ACT(0)
    }
}

/* C [M, N] = act(bias + sum of terms), or (bias + sum of terms) * act'(slope) */
static void product(long M, long N, const terms *t, int n_terms, const float *bias, const float *slope, int act, float *c,
                    long c_ld) {
    const float *b[2];
    long ld[2];
    for (long n = 0; n < N; n += COLS) {
        long width = N - n < COLS ? N - n : COLS;
        if (width == COLS) {
            for (int i = 0; i < n_terms; i++) b[i] = t[i].b + n, ld[i] = t[i].ld;
            tiles(M, 0, t->pairs, t, n_terms, b, ld, bias ? bias + n : 0, slope ? slope + n : 0, N, act, c + n, c_ld);
            continue;
        }
        /* the last columns, on copies padded with zeros */
        float bias_pad[COLS] = {0};
        for (int i = 0; i < n_terms; i++) {
            float *pad = scratch(PAD_B + i, t[i].steps * COLS);
            memset(pad, 0, t[i].steps * COLS * 4);
            for (long k = 0; k < t[i].steps; k++) memcpy(pad + k * COLS, t[i].b + k * t[i].ld + n, width * 4);
            b[i] = pad, ld[i] = COLS;
        }
        if (bias) memcpy(bias_pad, bias + n, width * 4);
        float *slope_pad = scratch(PAD_SLOPE, M * COLS), *c_pad = scratch(PAD_C, M * COLS);
        if (slope)
            for (long m = 0; m < M; m++) memcpy(slope_pad + m * COLS, slope + m * N + n, width * 4);
        tiles(M, 0, t->pairs, t, n_terms, b, ld, bias_pad, slope ? slope_pad : 0, COLS, act, c_pad, COLS);
        for (long m = 0; m < M; m++) memcpy(c + m * c_ld + n, c_pad + m * COLS, width * 4);
    }
}

/* x [M, I] times W [I, O], as terms */
static terms forward_terms(int bf16, long M, long I, long O, const float *x, long ldx, const float *w, int slot) {
    if (!bf16) return (terms){x, ldx, 1, w, O, I, 0};
    long half = (I + 1) / 2;
    float *a = scratch(PAIRS + slot, M * half + half * O), *b = a + M * half;
    pair_columns(x, ldx, M, I, a);
    pair_rows(w, O, I, O, b);
    return (terms){a, half, 1, b, O, half, 1};
}

/* One layer of one run. y [M, O] = act(x W + b); rows of x [M, I] are ldx apart */
static void dense_forward(int bf16, long M, long I, long O, const float *x, long ldx, const float *w, int act, float *y) {
    const float *bias = w + I * O;
    if (O > 1) {
        terms t = forward_terms(bf16 && I > 1, M, I, O, x, ldx, w, 0);
        product(M, O, &t, 1, bias, 0, act, y, O);
        return;
    }
    for (long m = 0; m < M; m++) {
        vec sum = splat(0.0f);
        float rest = bias[0];
        long i = 0;
        for (; i + LANES <= I; i += LANES) sum += load(x + m * ldx + i) * load(w + i);
        for (; i < I; i++) rest += x[m * ldx + i] * w[i];
        y[m] = value_of(splat(rest + total(sum)), act)[0];
    }
}

/* The change of y [M, O] when W, b move along v and x along dx [M, I] (or not: 0) */
static void dense_jvp(int bf16, long M, long I, long O, const float *x, long ldx, const float *w, const float *v,
                      const float *dx, long lddx, const float *y, int act, float *out) {
    bf16 = bf16 && I > 1 && O > 1;
    terms t[2] = {forward_terms(bf16, M, I, O, x, ldx, v, 0)};
    if (dx) t[1] = forward_terms(bf16, M, I, O, dx, lddx, w, 1);
    product(M, O, t, dx ? 2 : 1, v + I * O, act == IDENTITY ? 0 : y, act, out, O);
}

/* dz [M, O] = dy times the slope of the activation */
static void pull_activation(long M, long O, const float *dy, long lddy, const float *y, int act, float *dz) {
    for (long m = 0; m < M; m++, dy += lddy, y += O, dz += O) {
        long o = 0;
        for (; o + LANES <= O; o += LANES) store(dz + o, load(dy + o) * slope_at(load(y + o), act));
        for (; o < O; o++) dz[o] = dy[o] * slope_at(splat(y[o]), act)[0];
    }
}

/* Pulls dz [M, O] back: gradient of W and b into g; that of x into dx [M, I] (unless 0), times the slope of the activation
   that gave x, where there is one (act) */
static void dense_vjp(int bf16, long M, long I, long O, const float *x, long ldx, const float *w, const float *dz, long lddz,
                      float *g, float *dx, int act) {
    float *to_bias = g + I * O;
    memset(to_bias, 0, O * 4);
    for (long m = 0; m < M; m++)
        for (long o = 0; o < O; o++) to_bias[o] += dz[m * lddz + o];
    if (O == 1) {
        memset(g, 0, I * 4);
        for (long m = 0; m < M; m++)
            for (long i = 0; i < I; i++) g[i] += x[m * ldx + i] * dz[m * lddz];
        if (!dx) return;
        for (long m = 0; m < M; m++)
            for (long i = 0; i < I; i++) dx[m * I + i] = dz[m * lddz] * w[i];
        if (act != IDENTITY) pull_activation(M, I, dx, I, x, act, dx);
        return;
    }
    bf16 = bf16 && I > 1;
    terms t = {x, 1, ldx, dz, lddz, M, 0};
    if (bf16) {
        long half = (M + 1) / 2;
        float *a = scratch(PAIRS, half * (I + O)), *b = a + half * I;
        pair_rows(x, ldx, M, I, a);
        pair_rows(dz, lddz, M, O, b);
        t = (terms){a, 1, I, b, O, half, 1};
    }
    product(I, O, &t, 1, 0, 0, IDENTITY, g, O);
    if (!dx) return;
    float *turned = scratch(TURNED, (O + 1) * I);
    t = (terms){dz, lddz, 1, turned, I, O, 0};
    if (bf16) {
        long half = (O + 1) / 2;
        float *a = scratch(PAIRS, (M + I) * half), *pairs = a + M * half;
        pair_columns(dz, lddz, M, O, a);
        pair_columns(w, O, I, O, pairs);
        transpose(pairs, half, I, half, turned);
        t = (terms){a, half, 1, turned, I, half, 1};
    } else
        transpose(w, O, I, O, turned);
    product(M, I, &t, 1, 0, act == IDENTITY ? 0 : x, act, dx, I);
}

/* values y of every layer: [M, sizes[1]], [M, sizes[2]], ... */
void forward(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, float *y) {
    for (long l = 0; l < c->layers; l++) {
        long I = c->sizes[l], O = c->sizes[l + 1];
        dense_forward(bf16, M, I, O, x, ldx, w, c->activations[l], y);
        x = y, ldx = O;
        w += (I + 1) * O, y += M * O;
    }
}

/* pulls dy [M, O] back through all layers: parameters' gradient into g, that of x into dx [M, I] (unless 0) */
void pull_back(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, const float *y, const float *dy,
               long lddy, float *g, float *dx) {
    long last = c->layers - 1, width = c->sizes[last + 1], at = 0;
    for (long l = 0; l <= last; l++) at += (c->sizes[l] + 1) * c->sizes[l + 1];
    y += M * (c->values - width);
    if (c->activations[last] != IDENTITY) {
        float *to = scratch(PULLED, M * width);
        pull_activation(M, width, dy, lddy, y, c->activations[last], to);
        dy = to, lddy = width;
    }
    for (long l = last; l >= 0; l--) {
        long I = c->sizes[l], O = c->sizes[l + 1];
        at -= (I + 1) * O;
        if (l) {
            float *to = scratch(l % 2 ? BETWEEN : BETWEEN2, M * I);
            y -= M * I;
            dense_vjp(bf16, M, I, O, y, I, w + at, dy, lddy, g + at, to, c->activations[l - 1]);
            dy = to, lddy = I;
        } else
            dense_vjp(bf16, M, I, O, x, ldx, w, dy, lddy, g, dx, IDENTITY);
    }
}

/* the change of the last values, out [M, O], when parameters move along v and x along dx (or not: 0) */
static void push(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, const float *y, const float *v,
                 const float *dx, long lddx, float *out) {
    for (long l = 0; l < c->layers; l++) {
        long I = c->sizes[l], O = c->sizes[l + 1];
        float *to = l == c->layers - 1 ? out : scratch(l % 2 ? BETWEEN : BETWEEN2, M * O);
        dense_jvp(bf16, M, I, O, x, ldx, w, v, dx, lddx, y, c->activations[l], to);
        x = y, dx = to, ldx = lddx = O;
        w += (I + 1) * O, v += (I + 1) * O, y += M * O;
    }
}

/* For S runs: x [S, M, I], y [S, M * values], dy and out [S, M, O], dx [S, M, I]; see above. */
void chain_forward(const chain *c, int bf16, long S, long M, const float *x, long xs, long ldx, const float *w, long ws,
                   float *y) {
    for (long s = 0; s < S; s++) forward(c, bf16, M, x + s * xs, ldx, w + s * ws, y + s * M * c->values);
}

void chain_jvp(const chain *c, int bf16, long S, long M, const float *x, long xs, long ldx, const float *w, long ws,
               const float *y, const float *v, long vs, const float *dx, long dxs, long lddx, float *out) {
    long O = c->sizes[c->layers];
    for (long s = 0; s < S; s++)
        push(c, bf16, M, x + s * xs, ldx, w + s * ws, y + s * M * c->values, v + s * vs, dx ? dx + s * dxs : 0, lddx,
             out + s * M * O);
}

void chain_vjp(const chain *c, int bf16, long S, long M, const float *x, long xs, long ldx, const float *w, long ws,
               const float *y, const float *dy, long dys, long lddy, float *g, long gs, float *dx) {
    for (long s = 0; s < S; s++)
        pull_back(c, bf16, M, x + s * xs, ldx, w + s * ws, y + s * M * c->values, dy + s * dys, lddy, g + s * gs,
                  dx ? dx + s * M * c->sizes[0] : 0);
}
