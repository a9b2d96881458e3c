/* Chains of dense layers for S runs on one core: values, pushed changes, pulled gradients, products with the Fisher matrix.
   The fast twin of reference.py.

   Matrices are row-major. A layer's weights W [I, O] are followed by its bias b [O]; runs lie `..s` floats apart. Every run
   is computed by the same instructions whatever S is, so that run k of a population is run k alone, bit for bit. Products
   with a vector stay in float32. Many rows are taken BLOCK at a time through all layers, so that they stay in the cache;
   y is then the first of the block's rows in the first layer's values, and `all` counts the rows of every block. */
#include "kernels.h"

enum { BLOCK = 128, PAIRS_BLOCK = 512 }; /* rows; bfloat16 rounds all weights once a block */

/* a further term of a job: x [M, I] times W [I, O], of which there may be panels already */
static void add_term(job *j, int bf16, long M, long I, long O, const float *x, long ldx, const float *w, const float *panels) {
    long steps = bf16 ? (I + 1) / 2 : I;
    int i = j->n_terms++;
    j->pairs = bf16;
    if (bf16) {
        float *a = scratch(PAIRS + i, (M + O) * steps), *b = a + M * steps;
        pair_columns(x, ldx, M, I, a);
        if (!panels) pair_rows(w, O, I, O, b);
        x = a, ldx = steps, w = b;
    }
    j->t[i] = (terms){x, ldx, 1, panels ? panels : w, panels ? COLS : O, steps, panels != 0};
}

/* W [I, O] as panels */
static void pack(int bf16, long I, long O, const float *w, float *to) {
    if (bf16) {
        float *pairs = scratch(PANEL, (I + 1) / 2 * O);
        pair_rows(w, O, I, O, pairs);
        w = pairs, I = (I + 1) / 2;
    }
    for (long n = 0; n < O; n += COLS)
        for (long k = 0; k < I; k++) memcpy(to + n * I + k * COLS, w + k * O + n, (O - n < COLS ? O - n : COLS) * 4);
}

/* One layer of one run. y [M, O] = act(x W + b) */
static void dense_forward(int bf16, long M, long I, long O, const float *x, long ldx, const float *w, int act, float *y,
                          long ldy) {
    const float *bias = w + I * O;
    if (O > 1) {
        job j = {.act = act, .bias = bias, .c = y, .c_ld = ldy};
        add_term(&j, bf16 && I > 1, M, I, O, x, ldx, w, 0);
        product(M, O, &j);
        return;
    }
    for (long m = 0; m < M; m++) {
        vec sum = splat(0.0f);
        float rest = bias[0];
        long i = 0;
        for (; i + LANES <= I; i += LANES) sum += load(x + m * ldx + i) * load(w + i);
        for (; i < I; i++) rest += x[m * ldx + i] * w[i];
        y[m * ldy] = value_of(splat(rest + total(sum)), act)[0];
    }
}

/* dz [M, O] = dy times the slope of the activation */
static void pull_activation(long M, long O, const float *dy, long lddy, const float *y, long ldy, int act, float *dz,
                            long lddz) {
    for (long m = 0; m < M; m++, dy += lddy, y += ldy, dz += lddz) {
        long o = 0;
        for (; o + LANES <= O; o += LANES) store(dz + o, load(dy + o) * slope_at(load(y + o), act));
        for (; o < O; o++) dz[o] = dy[o] * slope_at(splat(y[o]), act)[0];
    }
}

/* COLS columns of W [I, O] turned, from column i of x on: [O][COLS]; in bfloat16, of pairs along O */
static void turn_panel(int bf16, long I, long O, const float *w, long i, float *to) {
    long width = I - i < COLS ? I - i : COLS, half = (O + 1) / 2;
    if (bf16) {
        float *pairs = scratch(PANEL, width * half);
        pair_columns(w + i * O, O, width, O, pairs);
        transpose(pairs, half, width, half, to, COLS);
    } else
        transpose(w + i * O, O, width, O, to, COLS);
}

/* Pulls dz [M, O] back: gradient of W and b into g (added to it, if asked); that of x into dx [M, I] (unless 0), times the
   slope of the activation that gave x, where there is one (act). W may be there already as turned panels. Returns the sum
   of g's squares. */
static float dense_vjp(int bf16, long M, long I, long O, const float *x, long ldx, const float *w, const float *turned,
                       const float *dz, long lddz, float *g, int add, float *dx, long lddx, int act) {
    float *to_bias = g + I * O, squares = 0;
    if (!add) memset(to_bias, 0, O * 4);
    for (long m = 0; m < M; m++)
        for (long o = 0; o < O; o++) to_bias[o] += dz[m * lddz + o];
    if (O == 1) {
        if (!add) memset(g, 0, I * 4);
        for (long m = 0; m < M; m++)
            for (long i = 0; i < I; i++) g[i] += x[m * ldx + i] * dz[m * lddz];
        for (long m = 0; dx && m < M; m++)
            for (long i = 0; i < I; i++) dx[m * lddx + i] = dz[m * lddz] * w[i];
        if (dx && act != IDENTITY) pull_activation(M, I, dx, lddx, x, ldx, act, dx, lddx);
        return squares_of(I + 1, g);
    }
    bf16 = bf16 && I > 1;
    job j = {.n_terms = 1, .pairs = bf16, .add = add, .c = g, .c_ld = O, .t = {{x, 1, ldx, dz, lddz, M, 0}}};
    if (bf16) {
        long half = (M + 1) / 2;
        float *a = scratch(PAIRS, half * (I + O)), *b = a + half * I;
        pair_rows(x, ldx, M, I, a);
        pair_rows(dz, lddz, M, O, b);
        j.t[0] = (terms){a, 1, I, b, O, half, 0};
    }
    squares = product(I, O, &j) + squares_of(O, to_bias);
    if (!dx) return squares;
    long steps = bf16 ? (O + 1) / 2 : O;
    if (bf16) pair_columns(dz, lddz, M, O, scratch(PAIRS, M * steps));
    for (long i = 0; i < I; i += COLS) {
        const float *panel = turned ? turned + i * steps : scratch(TURNED, steps * COLS);
        if (!turned) turn_panel(bf16, I, O, w, i, scratch(TURNED, steps * COLS));
        job back = {.n_terms = 1, .pairs = bf16, .act = act, .slope = act == IDENTITY ? 0 : x + i, .slope_ld = ldx,
                    .c = dx + i, .c_ld = lddx, .t = {{dz, lddz, 1, panel, COLS, steps, 0}}};
        if (bf16) back.t[0].a = scratch(PAIRS, M * steps), back.t[0].row = steps;
        product(M, I - i < COLS ? I - i : COLS, &back);
    }
    return squares;
}

/* where layer l's parameters start in w, its values for row m in y (of `all` rows), its turned panels among all layers' */
static long weights_at(const chain *c, long l) {
    long at = 0;
    for (long k = 0; k < l; k++) at += (c->sizes[k] + 1) * c->sizes[k + 1];
    return at;
}
static long values_at(const chain *c, long l, long all, long m) {
    long at = m * c->pitches[l];
    for (long k = 0; k < l; k++) at += all * c->pitches[k];
    return at;
}
static long panels_at(const chain *c, long l) {
    long at = 0;
    for (long k = 0; k < l; k++) at += (c->sizes[k] + COLS) * (c->sizes[k + 1] + COLS);
    return at;
}

/* rows of a call, M from row m on; x and ldx are a layer's inputs, those of the first layer at the start */
typedef struct {
    const chain *c;
    int bf16;
    long all, m, M;
    const float *x;
    long ldx;
    const float *w, *y;
} rows;
#define EACH_BLOCK(b, given)                                                                                              \
    for (rows b = given; b.m < b.all && (b.M = b.all - b.m < limit(&b) ? b.all - b.m : limit(&b)); b.m += b.M)
INLINE long limit(const rows *b) { return b->bf16 ? PAIRS_BLOCK : BLOCK; }

static const float *inputs(const rows *b, long l, long *ldx) {
    *ldx = l ? b->c->pitches[l - 1] : b->ldx;
    return l ? b->y + values_at(b->c, l - 1, b->all, b->m) : b->x + b->m * b->ldx;
}

static void forward_block(const rows *b) {
    const chain *c = b->c;
    for (long l = 0, ldx; l < c->layers; l++) {
        const float *x = inputs(b, l, &ldx);
        float *y = (float *)b->y + values_at(c, l, b->all, b->m);
        dense_forward(b->bf16, b->M, c->sizes[l], c->sizes[l + 1], x, ldx, b->w + weights_at(c, l), c->activations[l], y,
                      c->pitches[l]);
    }
}

/* pulls dy [M, O] back through all layers: parameters' gradient into g, that of x into dx [M, I] (unless 0) */
static float pull_block(const rows *b, const float *turned, const float *dy, long lddy, float *g, int add, float *dx) {
    const chain *c = b->c;
    long last = c->layers - 1, width = c->sizes[last + 1], ldx;
    float squares = 0;
    if (c->activations[last] != IDENTITY) {
        float *to = scratch(PULLED, b->M * width);
        pull_activation(b->M, width, dy, lddy, b->y + values_at(c, last, b->all, b->m), c->pitches[last],
                        c->activations[last], to, width);
        dy = to, lddy = width;
    }
    for (long l = last; l >= 0; l--) {
        long pitch = l ? c->pitches[l - 1] : c->sizes[0], at = weights_at(c, l);
        const float *x = inputs(b, l, &ldx);
        float *to = l ? scratch(l % 2 ? BETWEEN : BETWEEN2, b->M * pitch) : dx;
        squares += dense_vjp(b->bf16, b->M, c->sizes[l], c->sizes[l + 1], x, ldx, b->w + at,
                             turned && l ? turned + panels_at(c, l) : 0, dy, lddy, g + at, add, to, pitch,
                             l ? c->activations[l - 1] : IDENTITY);
        dy = to, lddy = pitch;
    }
    return squares;
}

/* the change of the last values, out [M, O], when parameters move along v and x along dx (or not: 0); there may be panels of
   w and v already */
static void push_block(const rows *b, const float *v, const float *w_panels, const float *v_panels, const float *dx, long lddx,
                       float *out) {
    const chain *c = b->c;
    for (long l = 0, ldx; l < c->layers; l++) {
        long I = c->sizes[l], O = c->sizes[l + 1], at = weights_at(c, l), pitch = l == c->layers - 1 ? O : c->pitches[l];
        int act = c->activations[l], bf16 = b->bf16 && I > 1 && O > 1;
        const float *x = inputs(b, l, &ldx), *y = b->y + values_at(c, l, b->all, b->m);
        float *to = l == c->layers - 1 ? out : scratch(l % 2 ? BETWEEN : BETWEEN2, b->M * pitch);
        job j = {.act = act, .bias = v + at + I * O, .slope = act == IDENTITY ? 0 : y, .slope_ld = c->pitches[l],
                 .c = to, .c_ld = pitch};
        add_term(&j, bf16, b->M, I, O, x, ldx, v + at, v_panels ? v_panels + panels_at(c, l) : 0);
        if (dx) add_term(&j, bf16, b->M, I, O, dx, lddx, b->w + at, w_panels ? w_panels + panels_at(c, l) : 0);
        product(b->M, O, &j);
        dx = to, lddx = pitch;
    }
}

/* For S runs: x [S, M, I], y [S, M * values], dy and out [S, M, O], dx [S, M, I]. */
void forward(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, float *y) {
    EACH_BLOCK(b, ((rows){c, bf16, M, 0, 0, x, ldx, w, y})) forward_block(&b);
}

float pull_back(const chain *c, int bf16, long M, const float *x, long ldx, const float *w, const float *y, const float *dy,
                long lddy, float *g, float *dx) {
    float squares = 0; /* of the last sum: all of it where M is one block */
    EACH_BLOCK(b, ((rows){c, bf16, M, 0, 0, x, ldx, w, y}))
    squares = pull_block(&b, 0, dy + b.m * lddy, lddy, g, b.m > 0, dx ? dx + b.m * c->sizes[0] : 0);
    return squares;
}

void chain_forward(const chain *c, int bf16, long S, long M, const float *x, long xs, long ldx, const float *w, long ws,
                   float *y) {
    for (long s = 0; s < S; s++) forward(c, bf16, M, x + s * xs, ldx, w + s * ws, y + s * M * c->values);
}

void chain_jvp(const chain *c, int bf16, long S, long M, const float *x, long xs, long ldx, const float *w, long ws,
               const float *y, const float *v, long vs, const float *dx, long dxs, long lddx, float *out) {
    long O = c->sizes[c->layers];
    for (long s = 0; s < S; s++)
        EACH_BLOCK(b, ((rows){c, bf16, M, 0, 0, x + s * xs, ldx, w + s * ws, y + s * M * c->values}))
        push_block(&b, v + s * vs, 0, 0, dx ? dx + s * dxs + b.m * lddx : 0, lddx, out + (s * M + b.m) * O);
}

void chain_vjp(const chain *c, int bf16, long S, long M, const float *x, long xs, long ldx, const float *w, long ws,
               const float *y, const float *dy, long dys, long lddy, float *g, long gs, float *dx) {
    for (long s = 0; s < S; s++)
        pull_back(c, bf16, M, x + s * xs, ldx, w + s * ws, y + s * M * c->values, dy + s * dys, lddy, g + s * gs,
                  dx ? dx + s * M * c->sizes[0] : 0);
}

/* out [S, n] = scale J' F J v + damping v: J the Jacobian of the outputs by the parameters v [S, n], F the Hessian of the mean
   KL over M states in the outputs. That is diag(metric) / M for a Gaussian, with one metric [S, A] = 1 / variance for all
   states; (diag(p) - p p') / M for a categorical, with a metric p [S, M, A] (`each`). The chain's parameters come first in
   v, then n_log_std, in which F is 2; the rest is padding. */
void fisher_product(const chain *c, int bf16, long S, long M, const float *x, long xs, long ldx, const float *w, long ws,
                    const float *y, const float *v, long vs, int each, const float *metric, long n_log_std, long n, float scale,
                    const float *damping, float *out) {
    long A = c->sizes[c->layers], size = weights_at(c, c->layers), room = panels_at(c, c->layers);
    float *w_panels = scratch(WHOLE, 3 * room), *v_panels = w_panels + room, *turned = v_panels + room;
    for (long s = 0; s < S; s++, x += xs, w += ws, y += M * c->values, v += vs, out += n, metric += each ? M * A : A) {
        for (long l = 0; l < c->layers; l++) {
            long I = c->sizes[l], O = c->sizes[l + 1], from = weights_at(c, l), to = panels_at(c, l);
            int pairs = bf16 && I > 1 && O > 1;
            pack(pairs, I, O, v + from, v_panels + to);
            if (l == 0) continue; /* x does not move */
            pack(pairs, I, O, w + from, w_panels + to);
            for (long i = 0; O > 1 && i < I; i += COLS)
                turn_panel(pairs, I, O, w + from, i, turned + to + i * (pairs ? (O + 1) / 2 : O));
        }
        EACH_BLOCK(b, ((rows){c, bf16, M, 0, 0, x, ldx, w, y})) {
            float *d = scratch(PUSHED, b.M * A);
            push_block(&b, v, w_panels, v_panels, 0, 0, d);
            for (long m = 0; m < b.M; m++) {
                const float *p = each ? metric + (b.m + m) * A : metric;
                float mean = 0;
                for (long i = 0; each && i < A; i++) mean += p[i] * d[m * A + i];
                for (long i = 0; i < A; i++) d[m * A + i] = p[i] * (d[m * A + i] - mean) / M;
            }
            pull_block(&b, turned, d, A, out, b.m > 0, 0);
        }
        for (long i = 0; i < size; i++) out[i] = scale * out[i] + damping[s] * v[i];
        for (long i = size; i < n; i++) out[i] = ((i < size + n_log_std ? 2 * scale : 0) + damping[s]) * v[i];
    }
}
