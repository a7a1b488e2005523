// Causal attention over a pack of sequences, forward and backward, in float32, for one thread of an x86 CPU.
// `attention.py` compiles this file and calls it.
//
// A segment is a run of own tokens that sees a prefix, another run, and itself causally (`segments.py`). Forward takes one
// token after the other, as a decoder does; backward computes the weights again from the normaliser that forward kept
// (Dao et al., arXiv:2205.14135), and adds what some rows of queries owe to keys and values at once.
//
// Shapes: N tokens of the pack, H query heads, K key/value heads, E head width, S tokens that a segment sees.

#include <math.h>
#include <stdlib.h>

#include "lanes.h"

#if W == 16
#define MOST_HEADS 4  // query heads that read keys and values together, times 4 vectors
#else
#define MOST_HEADS 3
#endif

typedef struct {
    int64_t start, own, prefix_start, prefix;
} Segment;

typedef struct {
    int64_t H, K, E, window;  // window: tokens that a token sees, itself included
} Shape;

// Rows of one head of x (N, K, E) that a segment sees -> rows (S, E), or blocks as keys lie.
static void gather(const Shape *s, const Segment *segment, const float *x, long head, int blocks, float *out) {
    const long E = s->E, S = segment->prefix + segment->own;
    for (long c = 0; c < S; c++) {
        const long row = c < segment->prefix ? segment->prefix_start + c : segment->start + c - segment->prefix;
        const float *from = x + (row * s->K + head) * E;
        if (!blocks)
            memcpy(out + c * E, from, E * sizeof(float));
        else
            for (long e = 0; e < E; e++) out[c / BLOCK * BLOCK * E + e * BLOCK + c % BLOCK] = from[e];
    }
    if (blocks)  // the rest of the last block is computed with, and thrown away
        for (long c = S; c < up(S, BLOCK); c++)
            for (long e = 0; e < E; e++) out[c / BLOCK * BLOCK * E + e * BLOCK + c % BLOCK] = 0;
}

static void add_back(const Shape *s, const Segment *segment, const float *rows, long head, float *x) {
    for (long c = 0; c < segment->prefix + segment->own; c++) {
        const long row = c < segment->prefix ? segment->prefix_start + c : segment->start + c - segment->prefix;
        float *to = x + (row * s->K + head) * s->E;
        for (long e = 0; e < s->E; e++) to[e] += rows[c * s->E + e];
    }
}

static long first_seen(const Shape *s, long end) { return end > s->window ? end - s->window : 0; }

static long most_seen(const Segment *segments, long n) {
    long most = 0;
    for (long i = 0; i < n; i++) {
        const long S = segments[i].prefix + segments[i].own;
        most = S > most ? S : most;
    }
    return up(most, BLOCK);
}

static float *room(size_t numbers) { return aligned_alloc(64, up(numbers * sizeof(float), 64)); }

// What R query heads make of one key head: scores of tokens from..to, `stride` from head to head.
ALWAYS void score(const int R, const float *keys, long from, long to, const float *q, long E, float *scores,
                  long stride) {
    for (long c = from / BLOCK * BLOCK; c < to; c += BLOCK) {
        vf sum[MOST_HEADS][BLOCK / W];
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < BLOCK / W; v++) sum[r][v] = ZERO;
        for (long e = 0; e < E; e++)
            UNROLL for (int v = 0; v < BLOCK / W; v++) {
                const vf b = F(keys + c * E + e * BLOCK + v * W);
                UNROLL for (int r = 0; r < R; r++) sum[r][v] += b * q[r * E + e];
            }
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < BLOCK / W; v++) put(scores + r * stride + c + v * W, sum[r][v]);
    }
}

// out (R, E) += weights (R, stride) of tokens from..to times their rows; for V vectors from number e
ALWAYS void read_some(const int R, const int V, const float *rows, long from, long to, const float *weights, long stride,
                      long E, float *out) {
    vf sum[MOST_HEADS][4];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++) sum[r][v] = F(out + r * E + v * W);
    for (long c = from; c < to; c++)
        UNROLL for (int v = 0; v < V; v++) {
            const vf b = F(rows + c * E + v * W);
            UNROLL for (int r = 0; r < R; r++) sum[r][v] += b * weights[r * stride + c];
        }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < V; v++) put(out + r * E + v * W, sum[r][v]);
}

ALWAYS void read_rows(const int R, const float *rows, long from, long to, const float *weights, long stride, long E,
                      float *out) {
    long e = 0;
    for (; e + 4 * W <= E; e += 4 * W) read_some(R, 4, rows + e, from, to, weights, stride, E, out + e);
    for (; e + 2 * W <= E; e += 2 * W) read_some(R, 2, rows + e, from, to, weights, stride, E, out + e);
    for (; e < E; e += W) read_some(R, 1, rows + e, from, to, weights, stride, E, out + e);
}

static void score_heads(long R, const float *keys, long from, long to, const float *q, long E, float *scores,
                        long stride) {
    switch (R) {
#define SCORE(n) case n: score(n, keys, from, to, q, E, scores, stride); break;
        SCORE(1) SCORE(2) SCORE(3)
#if MOST_HEADS > 3
        SCORE(4)
#endif
    }
}

static void read_heads(long R, const float *rows, long from, long to, const float *weights, long stride, long E,
                       float *out) {
    switch (R) {
#define READ(n) case n: read_rows(n, rows, from, to, weights, stride, E, out); break;
        READ(1) READ(2) READ(3)
#if MOST_HEADS > 3
        READ(4)
#endif
    }
}

// q (N, H, E), turned and scaled; k turned, v (N, K, E) -> out (N, H, E), normaliser (N, H). 1: no memory.
int attention_forward(const Shape *s, const Segment *segments, int64_t n, const float *q, const float *k, const float *v,
                      float *out, float *normaliser) {
    const long E = s->E, r = s->H / s->K, most = most_seen(segments, n);
    float *memory = room(2 * most * E + 2 * MOST_HEADS * most);
    if (!memory) return 1;
    float *keys = memory, *values = keys + most * E, *scores = values + most * E, *weights = scores + MOST_HEADS * most;
    for (const Segment *segment = segments; segment < segments + n; segment++)
        for (long head = 0; head < s->K; head++) {
            gather(s, segment, k, head, 1, keys);
            gather(s, segment, v, head, 0, values);
            for (long t = 0; t < segment->own; t++) {
                const long to = segment->prefix + t + 1, from = first_seen(s, to), size = up(to, BLOCK);
                const long bounds[4] = {from, to, to, to}, row = (segment->start + t) * s->H + head * r;
                for (long at = 0, R; at < r; at += R) {
                    R = r - at < MOST_HEADS ? r - at : MOST_HEADS;
                    float *read = out + (row + at) * E;
                    score_heads(R, keys, from, to, q + (row + at) * E, E, scores, size);
                    float sums[MOST_HEADS];
                    for (long i = 0; i < R; i++) {
                        float largest;
                        sums[i] = weigh(scores + i * size, size, bounds, weights + i * size, &largest);
                        normaliser[row + at + i] = largest + logf(sums[i]);
                    }
                    memset(read, 0, R * E * sizeof(float));
                    read_heads(R, values, from, to, weights, size, E, read);
                    for (long i = 0; i < R; i++)
                        for (long e = 0; e < E; e++) read[i * E + e] /= sums[i];
                }
            }
        }
    free(memory);
    return 0;
}

// out (S, E) += weights (J, stride) transposed, times rows (J, E); for `V` vectors from number e
ALWAYS void spread_some(const int J, const int V, const float *weights, long stride, long from, long to,
                        const float *rows, long E, float *out) {
    vf row[MOST_ROWS][2];
    UNROLL for (int j = 0; j < J; j++) UNROLL for (int v = 0; v < V; v++) row[j][v] = F(rows + j * E + v * W);
    for (long c = from; c < to; c++) {
        vf sum[2];
        UNROLL for (int v = 0; v < V; v++) sum[v] = F(out + c * E + v * W);
        UNROLL for (int j = 0; j < J; j++)
            UNROLL for (int v = 0; v < V; v++) sum[v] += row[j][v] * weights[j * stride + c];
        UNROLL for (int v = 0; v < V; v++) put(out + c * E + v * W, sum[v]);
    }
}

ALWAYS void spread(const int J, const float *weights, long stride, long from, long to, const float *rows, long E,
                   float *out) {
    long e = 0;
    for (; e + 2 * W <= E; e += 2 * W) spread_some(J, 2, weights, stride, from, to, rows + e, E, out + e);
    for (; e < E; e += W) spread_some(J, 1, weights, stride, from, to, rows + e, E, out + e);
}

static void spread_rows(long J, const float *weights, long stride, long from, long to, const float *rows, long E,
                        float *out) {
    switch (J) {
#define SPREAD(n) case n: spread(n, weights, stride, from, to, rows, E, out); break;
        SPREAD(1) SPREAD(2) SPREAD(3) SPREAD(4) SPREAD(5) SPREAD(6)
#if MOST_ROWS > 6
        SPREAD(7) SPREAD(8) SPREAD(9) SPREAD(10) SPREAD(11) SPREAD(12)
#endif
    }
}

// Gradient of out -> dq (N, H, E), as q was given; dk and dv (N, K, E) are added to. 1: no memory.
int attention_backward(const Shape *s, const Segment *segments, int64_t n, const float *q, const float *k, const float *v,
                       const float *out, const float *normaliser, const float *dout, float *dq, float *dk, float *dv) {
    const long E = s->E, r = s->H / s->K, most = most_seen(segments, n), wide = most * E;
    const long heads = r < MOST_ROWS ? r : MOST_ROWS, tokens = MOST_ROWS / heads;  // rows taken together
    float *memory = room(5 * wide + MOST_ROWS * (2 * most + 2 * E));
    if (!memory) return 1;
    float *keys = memory, *values = keys + wide, *key_rows = values + wide, *dkeys = key_rows + wide;
    float *dvalues = dkeys + wide, *weights = dvalues + wide, *slopes = weights + MOST_ROWS * most;
    float *q_rows = slopes + MOST_ROWS * most, *dout_rows = q_rows + MOST_ROWS * E;
    for (const Segment *segment = segments; segment < segments + n; segment++)
        for (long head = 0; head < s->K; head++) {
            gather(s, segment, k, head, 1, keys);
            gather(s, segment, v, head, 1, values);
            gather(s, segment, k, head, 0, key_rows);
            memset(dkeys, 0, 2 * wide * sizeof(float));
            for (long t = 0; t < segment->own; t += tokens)
                for (long first = 0; first < r; first += heads) {
                    const long end = segment->prefix + (t + tokens < segment->own ? t + tokens : segment->own);
                    const long size = up(end, BLOCK), R = r - first < heads ? r - first : heads;
                    long J = 0;
                    for (long u = t; u < t + tokens && u < segment->own; u++) {
                        const long to = segment->prefix + u + 1, from = first_seen(s, to);
                        for (long at = 0, some; at < R; at += some, J += some) {
                            some = R - at < MOST_HEADS ? R - at : MOST_HEADS;
                            const long row = (segment->start + u) * s->H + head * r + first + at;
                            float *p = weights + J * size, *d = slopes + J * size;
                            memset(d, 0, some * size * sizeof(float));
                            score_heads(some, keys, from, to, q + row * E, E, p, size);
                            score_heads(some, values, from, to, dout + row * E, E, d, size);
                            memcpy(q_rows + J * E, q + row * E, some * E * sizeof(float));
                            memcpy(dout_rows + J * E, dout + row * E, some * E * sizeof(float));
                            for (long i = 0; i < some; i++, p += size, d += size) {
                                for (long c = 0; c < from; c++) p[c] = -1e30f;
                                for (long c = to; c < size; c++) p[c] = -1e30f;
                                float owed = 0;
                                for (long e = 0; e < E; e++) owed += dout[(row + i) * E + e] * out[(row + i) * E + e];
                                for (long c = 0; c < size; c += W) {
                                    const vf weight = exponential(F(p + c) - normaliser[row + i]);
                                    put(p + c, weight);
                                    put(d + c, weight * (F(d + c) - owed));
                                }
                            }
                            memset(dq + row * E, 0, some * E * sizeof(float));
                            read_heads(some, key_rows, from, to, slopes + J * size, size, E, dq + row * E);
                        }
                    }
                    const long from = first_seen(s, segment->prefix + t + 1);
                    spread_rows(J, slopes, size, from, end, q_rows, E, dkeys);
                    spread_rows(J, weights, size, from, end, dout_rows, E, dvalues);
                }
            add_back(s, segment, dkeys, head, dk);
            add_back(s, segment, dvalues, head, dv);
        }
    free(memory);
    return 0;
}
