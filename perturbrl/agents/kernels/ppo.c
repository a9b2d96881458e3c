/* The Gaussian policy, gradient clipping, Adam, and whole minibatch steps of PPO, for S runs. Twins of reference.py, optim.py
   and PPOUpdate.step. */
#include "kernels.h"

enum { POLICY, VALUE };
#define HALF_LOG_2PI 0.9189385332046727f

/* z [M, A] = (action - mean) / std, and log pi(a|s) [M] = sum of -z^2 / 2 - log_std - log(2 pi) / 2; inverse [A] = 1 / std */
static void log_prob_of(long M, long A, const float *mean, const float *action, const float *log_std, float *inverse,
                        float *z, float *log_prob) {
    float constant = 0;
    for (long i = 0; i < A; i++) inverse[i] = expf(-log_std[i]), constant -= log_std[i] + HALF_LOG_2PI;
    for (long m = 0; m < M; m++, mean += A, action += A, z += A) {
        vec sum = splat(0.0f);
        float rest = 0;
        long i = 0;
        for (; i + LANES <= A; i += LANES) {
            vec d = (load(action + i) - load(mean + i)) * load(inverse + i);
            store(z + i, d);
            sum += d * d;
        }
        for (; i < A; i++) {
            z[i] = (action[i] - mean[i]) * inverse[i];
            rest += z[i] * z[i];
        }
        log_prob[m] = constant - 0.5f * (total(sum) + rest);
    }
}

/* gradient of sum_m weight_m log pi(a_m|s_m): to the mean [M, A], and to log_std [A] */
static void pull_log_prob(long M, long A, const float *z, const float *inverse, const float *weight, float *to_mean,
                          float *to_log_std) {
    for (long i = 0; i < A; i++) to_log_std[i] = 0;
    for (long m = 0; m < M; m++)
        for (long i = 0; i < A; i++) {
            float one = z[m * A + i];
            to_mean[m * A + i] = weight[m] * one * inverse[i];
            to_log_std[i] += weight[m] * (one * one - 1);
        }
}

void gaussian_log_prob(long S, long M, long A, const float *mean, long ms, const float *action, long as,
                       const float *log_std, long lss, float *z, float *log_prob) {
    float *inverse = scratch(SPREAD, A);
    for (long s = 0; s < S; s++)
        log_prob_of(M, A, mean + s * ms, action + s * as, log_std + s * lss, inverse, z + s * M * A, log_prob + s * M);
}

void gaussian_vjp(long S, long M, long A, const float *z, const float *log_std, long lss, const float *weight,
                  float *to_mean, float *to_log_std) {
    float *inverse = scratch(SPREAD, A);
    for (long s = 0; s < S; s++) {
        for (long i = 0; i < A; i++) inverse[i] = expf(-log_std[s * lss + i]);
        pull_log_prob(M, A, z + s * M * A, inverse, weight + s * M, to_mean + s * M * A, to_log_std + s * A);
    }
}

/* min(1, limit / (norm + 1e-6)) of a gradient, from the sum of its squares; NaN stays NaN */
static float clip_factor(float squares, float limit) {
    float factor = limit / (sqrtf(squares) + 1e-6f);
    return factor > 1.0f ? 1.0f : factor;
}

void clip_scale(long S, long n, const float *g, long gs, const float *limit, float *scale) {
    for (long s = 0; s < S; s++) scale[s] = clip_factor(squares_of(n, g + s * gs), limit[s]);
}

/* one step of Adam along f * g; t counts steps */
static void adam_step(long n, float *restrict theta, float *restrict m, float *restrict v, const float *restrict g, float f,
                      float lr, float *t, float b1, float b2, float eps) {
    *t += 1;
    float step = (float)(lr / (1 - pow(b1, *t))), unbias = (float)(1 / sqrt(1 - pow(b2, *t)));
    for (long i = 0; i < n; i++) {
        float d = f * g[i];
        m[i] += (1 - b1) * (d - m[i]);
        v[i] = b2 * v[i] + (1 - b2) * d * d;
        theta[i] -= step * m[i] / (sqrtf(v[i]) * unbias + eps);
    }
}

/* in the runs where `on` (all, if 0) */
void adam(long S, long n, float *theta, long thetas, float *m, float *v, const float *g, long gs, const float *scale,
          const float *lr, float *t, float b1, float b2, float eps, const unsigned char *on) {
    for (long s = 0; s < S; s++)
        if (!on || on[s])
            adam_step(n, theta + s * thetas, m + s * n, v + s * n, g + s * gs, scale ? scale[s] : 1.0f, lr[s], t + s, b1, b2,
                      eps);
}

/* gradient of weight * E[(V - ret)^2] on M rows, into g; V into values [M]; returns the sum of g's squares */
static float pull_value_loss(const chain *c, int bf16, long M, const float *obs, const float *ret, float weight,
                            const float *w, float *g, float *values) {
    float *y = scratch(VALUES, M * c->values), *v = y + M * (c->values - 1), *dv = scratch(SPREAD, M);
    forward(c, bf16, M, obs, c->sizes[0], w, y);
    memcpy(values, v, M * 4);
    for (long m = 0; m < M; m++) dv[m] = (v[m] - ret[m]) * (2.0f / M) * weight;
    return pull_back(c, bf16, M, obs, c->sizes[0], w, y, dv, 1, g, 0);
}

/* Steps of Adam on E[(V - ret)^2], on minibatches of M rows of obs [S, n, G] and ret [S, n], one after another */
void value_steps(const chain *c, int bf16, long S, long M, long n, const float *obs, const float *ret, float *theta,
                 long thetas, float *g, long gs, float *m, float *v, long ms, const float *lr, float *t, float b1, float b2,
                 float eps) {
    long size = 0;
    float *values = scratch(HEAD, M);
    for (long l = 0; l < c->layers; l++) size += (c->sizes[l] + 1) * c->sizes[l + 1];
    for (long s = 0; s < S; s++)
        for (long i = s * n; i < (s + 1) * n; i += M) {
            pull_value_loss(c, bf16, M, obs + i * c->sizes[0], ret + i, 1.0f, theta + s * thetas, g + s * gs, values);
            adam_step(size, theta + s * thetas, m + s * ms, v + s * ms, g + s * gs, 1.0f, lr[s], t + s, b1, b2, eps);
        }
}

/* What stays the same from minibatch to minibatch. Parameters of run s: row s of theta [S, width], first the policy chain,
   log_std, padding to `split`, then the value chain. Coefficients and rates have one number a run. */
typedef struct {
    const chain *chain[2];
    long runs, width, split, log_std;
    float *theta, *grad;
    float *m[2], *v[2], *t[2];
    const float *lr[2], *clip, *vf_coef, *ent_coef, *max_norm;
    float b1, b2, eps;
} ppo;

/* One step of eq. 8 for one run on M rows, as in ppo_steps below */
static void ppo_step(const ppo *p, int bf16, long s, long M, const float *obs, const float *action, const float *old_log_prob,
                     const float *advantage, const float *ret, float *ratio, float *values) {
    const chain *policy = p->chain[POLICY], *value = p->chain[VALUE];
    long G = policy->sizes[0], A = policy->sizes[policy->layers];
    float *theta = p->theta + s * p->width, *grad = p->grad + s * p->width;
    float *y = scratch(VALUES, M * policy->values), *mean = y + M * (policy->values - A); /* the last */
    float *z = scratch(HEAD, 2 * M * A + A + M), *to_mean = z + M * A, *inverse = to_mean + M * A, *weight = inverse + A;
    float low = 1 - p->clip[s], high = 1 + p->clip[s];

    forward(policy, bf16, M, obs, G, theta, y);
    log_prob_of(M, A, mean, action, theta + p->log_std, inverse, z, ratio);
    for (long m = 0; m < M; m++) {
        float r = ratio[m] = expf(ratio[m] - old_log_prob[m]), clipped = r < low ? low : r > high ? high : r;
        float weighted = r * advantage[m]; /* times 0 where clipped: what is not finite must stay so, and be noticed */
        weight[m] = clipped * advantage[m] >= weighted ? -weighted / M : 0 * weighted;
    }
    pull_log_prob(M, A, z, inverse, weight, to_mean, grad + p->log_std);
    for (long i = 0; i < A; i++) grad[p->log_std + i] -= p->ent_coef[s];
    float squares = squares_of(A, grad + p->log_std) + pull_back(policy, bf16, M, obs, G, theta, y, to_mean, A, grad, 0);

    squares += pull_value_loss(value, bf16, M, obs, ret, p->vf_coef[s], theta + p->split, grad + p->split, values);

    float f = clip_factor(squares, p->max_norm[s]);
    for (int k = POLICY; k <= VALUE; k++) {
        long at = k == POLICY ? 0 : p->split, size = k == POLICY ? p->split : p->width - p->split;
        adam_step(size, theta + at, p->m[k] + s * size, p->v[k] + s * size, grad + at, f, p->lr[k][s], p->t[k] + s, p->b1,
                  p->b2, p->eps);
    }
}

/* Steps of eq. 8 on minibatches of M rows of obs [S, n, G], action [S, n, A] and the others [S, n], one after another; gives
   ratio and values [S, n] as they were before each. Run by run, so that one run's parameters stay in the cache. */
void ppo_steps(const ppo *p, int bf16, long M, long n, const float *obs, const float *action, const float *old_log_prob,
               const float *advantage, const float *ret, float *ratio, float *values) {
    long G = p->chain[POLICY]->sizes[0], A = p->chain[POLICY]->sizes[p->chain[POLICY]->layers];
    for (long s = 0; s < p->runs; s++)
        for (long i = s * n; i < (s + 1) * n; i += M)
            ppo_step(p, bf16, s, M, obs + i * G, action + i * A, old_log_prob + i, advantage + i, ret + i, ratio + i,
                     values + i);
}
