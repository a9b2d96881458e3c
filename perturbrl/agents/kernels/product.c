/* Products of matrices on one core, as sums over tiles held in registers, each with what is done to its result. Each
   element is summed in the order of its terms, whatever tile it is in. In bfloat16 (where the processor multiplies it)
   operands are rounded pairwise along the sum, and accumulated in float32. */
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

/* Squares of registers are turned in steps of w = 1, 2, 4, ... (Eklundh 1972): vectors i and i + w exchange the lanes of
   the one where bit w of the lane is set with those of the other where it is clear. The masks must be constants. */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#define LOW(i, w) ((i) & (w) ? LANES + (i) - (w) : (i))
#define HIGH(i, w) ((i) & (w) ? LANES + (i) : (i) + (w))
#define FOUR(F, i, w) F(i, w), F(i + 1, w), F(i + 2, w), F(i + 3, w)
#if defined(__AVX512F__)
#define LANEWISE(F, w) FOUR(F, 0, w), FOUR(F, 4, w), FOUR(F, 8, w), FOUR(F, 12, w)
#elif defined(__AVX__)
#define LANEWISE(F, w) FOUR(F, 0, w), FOUR(F, 4, w)
#else
#define LANEWISE(F, w) FOUR(F, 0, w)
#endif
#define EXCHANGE(w)                                                                                                       \
    UNROLL for (int i = 0; i < LANES; i++) if (w < LANES && !(i & w)) {                                                   \
        vec x = SHUFFLE(v[i], v[i + w], LANEWISE(LOW, (w) % LANES)), y = SHUFFLE(v[i], v[i + w], LANEWISE(HIGH, (w) % LANES)); \
        v[i] = x, v[i + w] = y;                                                                                           \
    }

/* out [cols, rows] = a [rows, cols] turned */
void transpose(const float *a, long lda, long rows, long cols, float *out, long ld_out) {
    for (long r = 0; r < rows; r += LANES)
        for (long c = 0; c < cols; c += LANES) {
            if (r + LANES <= rows && c + LANES <= cols) {
                vec v[LANES];
                UNROLL for (int i = 0; i < LANES; i++) v[i] = load(a + (r + i) * lda + c);
                EXCHANGE(1)
                EXCHANGE(2)
                EXCHANGE(4)
                EXCHANGE(8)
                UNROLL for (int i = 0; i < LANES; i++) store(out + (c + i) * ld_out + r, v[i]);
            } else
                for (long i = r; i < r + LANES && i < rows; i++)
                    for (long j = c; j < c + LANES && j < cols; j++) out[j * ld_out + i] = a[i * lda + j];
        }
}

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
enum { HAS_BF16 = 1 };
INLINE vec fma2(vec acc, vec a, vec b) {
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
}
/* rounds pairs along a row: out[r][c/2] = (a[r][c], a[r][c+1]); an odd last column is paired with 0 */
void pair_columns(const float *a, long lda, long rows, long cols, float *out) {
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
void pair_rows(const float *a, long lda, long rows, long cols, float *out) {
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
void pair_columns(const float *a, long lda, long rows, long cols, float *out) { abort(); }
void pair_rows(const float *a, long lda, long rows, long cols, float *out) { abort(); }
#endif
int has_bf16(void) { return HAS_BF16; }

INLINE void finish(int rows, int slope, int act, vec acc[ROWS][VECTORS], const job *j, long m, vec *squares) {
    vec sum = splat(0.0f);
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < VECTORS; v++) {
            vec x = acc[r][v];
            x = slope ? x * slope_at(load(j->slope + (m + r) * j->slope_ld + v * LANES), act) : value_of(x, act);
            store(j->c + (m + r) * j->c_ld + v * LANES, x);
            if (!slope && act == IDENTITY) sum += x * x;
        }
    *squares += sum;
}

/* rows m, m + 1, ... of one panel of COLS columns */
INLINE void tile(int rows, int pairs, const job *j, long m, vec *squares) {
    vec acc[ROWS][VECTORS];
    const float *start = j->add ? j->c + m * j->c_ld : j->bias;
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < VECTORS; v++)
            acc[r][v] = start ? load(start + (j->add ? r * j->c_ld : 0) + v * LANES) : splat(0.0f);
    for (int i = 0; i < j->n_terms; i++) {
        const terms *t = &j->t[i];
        long row = t->row, step = t->step, ld = t->ld;
        const float *a = t->a + m * row, *b = t->b;
        for (long k = t->steps; k > 0; k--, a += step, b += ld) {
            vec bv[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) {
                bv[v] = load(b + v * LANES);
                KEEP(bv[v]);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                if (pairs) {
                    int both;
                    memcpy(&both, a + r * row, 4);
                    UNROLL for (int v = 0; v < VECTORS; v++) acc[r][v] = fma2(acc[r][v], (vec)(both - (ivec){0}), bv[v]);
                } else {
                    vec one = splat(a[r * row]);
                    UNROLL for (int v = 0; v < VECTORS; v++) acc[r][v] += one * bv[v];
                }
            }
        }
    }
    if (j->slope && j->act == TANH)
        finish(rows, 1, TANH, acc, j, m, squares);
    else if (j->slope)
        finish(rows, 1, RELU, acc, j, m, squares);
    else if (j->act == TANH)
        finish(rows, 0, TANH, acc, j, m, squares);
    else if (j->act == RELU)
        finish(rows, 0, RELU, acc, j, m, squares);
    else
        finish(rows, 0, IDENTITY, acc, j, m, squares);
}

/* all rows of one panel, in tiles as equal as can be: 64 = 9 x 6 + 2 x 5 */
INLINE void tiles(int pairs, long M, const job *j, vec *squares) {
    for (long left = (M + ROWS - 1) / ROWS, m = 0, rows; left > 0; left--, m += rows) {
        rows = (M - m + left - 1) / left;
        switch (rows) {
#define CASE(R)                                                                                                           \
    case R: tile(R <= ROWS ? R : 1, pairs, j, m, squares); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
        }
    }
}
static __attribute__((noinline)) void float_tiles(long M, const job *j, vec *squares) { tiles(0, M, j, squares); }
static __attribute__((noinline)) void pair_tiles(long M, const job *j, vec *squares) { tiles(HAS_BF16, M, j, squares); }

static void copy(long rows, long cols, const float *from, long ld, float *to, long ld_to) {
    for (long r = 0; r < rows; r++) memcpy(to + r * ld_to, from + r * ld, cols * 4);
}

float product(long M, long N, const job *whole) {
    vec squares = splat(0.0f);
    for (long n = 0; n < N; n += COLS) {
        long width = N - n < COLS ? N - n : COLS;
        job j = *whole;
        float *c = j.c += n, bias[COLS] = {0};
        for (int i = 0; i < j.n_terms; i++) j.t[i].b += j.t[i].packed ? n * j.t[i].steps : n;
        if (j.bias) j.bias += n;
        if (j.slope) j.slope += n;
        if (width < COLS) { /* the last columns, on copies padded with zeros */
            for (int i = 0; i < j.n_terms; i++) {
                float *pad = scratch(PAD_B + i, j.t[i].steps * COLS);
                memset(pad, 0, j.t[i].steps * COLS * 4);
                copy(j.t[i].steps, width, j.t[i].b, j.t[i].ld, pad, COLS);
                j.t[i].b = pad, j.t[i].ld = COLS;
            }
            if (j.bias) j.bias = memcpy(bias, j.bias, width * 4);
            j.c = memset(scratch(PAD_C, M * COLS), 0, M * COLS * 4), j.c_ld = COLS;
            if (j.add) copy(M, width, c, whole->c_ld, j.c, COLS);
            if (j.slope) {
                float *pad = scratch(PAD_SLOPE, M * COLS);
                copy(M, width, j.slope, j.slope_ld, pad, COLS);
                j.slope = pad, j.slope_ld = COLS;
            }
        }
        (j.pairs ? pair_tiles : float_tiles)(M, &j, &squares);
        if (width < COLS) copy(M, width, j.c, COLS, c, whole->c_ld);
    }
    return total(squares);
}
