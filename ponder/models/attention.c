// Causal attention over a pack of sequences, forward and backward, for one thread of an x86 CPU.
// `attention.py` compiles this file and calls it.
//
// A segment is a run of own tokens that sees a prefix, another run, and itself causally (`segments.py`). Queries are the
// columns of every product: some tokens of one query head are a panel, and what they see are rows,
//
//     scores (S, queries) = keys (S, E) x queries,    out (E, queries) = values (E, S) x weights,
//
// so that softmax goes down the columns, a vector of queries at a time, and a panel of weights is made as it comes.
// Backward computes the weights again from the normaliser that forward kept (Dao et al., arXiv:2205.14135).
//
// Shapes: N tokens of the pack, H query heads, K key/value heads, E head width, S tokens that a segment sees.

#include <math.h>

#include "lanes.h"

#if PAIR == 2 && !defined(WIDEN)
#define PER_LANE 2  // acts
#else
#define PER_LANE 1
#endif
#define MOST_HEADS 4  // query heads whose part of the gradients of keys and values is one product

typedef struct {
    int64_t start, own, prefix_start, prefix;
} Segment;

typedef struct {
    int64_t H, K, E, window;  // window: tokens that a token sees, itself included
} Shape;

ALWAYS act as_act(number x) {
#ifdef WIDEN
    return widen(x);
#else
    return x;
#endif
}

// ---- how things lie

// One head of row c of what a segment sees; x is (N, K, E).
static long place(const Shape *s, const Segment *segment, long c, long head) {
    const long row = c < segment->prefix ? segment->prefix_start + c : segment->start + c - segment->prefix;
    return (row * s->K + head) * s->E;
}

// -> (max_tokens, E), or (`columns`) (E, max_tokens); what is behind the S rows, up to a block, is 0.
static void gather(
    const Shape *s, const Segment *segment, const number *x, long head, int columns, long max_tokens, act *out
) {
    const long E = s->E, S = segment->prefix + segment->own;
    for (long c = 0; c < up(S, BLOCK); c++) {
        const number *from = c < S ? x + place(s, segment, c, head) : NULL;
        for (long e = 0; e < E; e++) out[columns ? e * max_tokens + c : c * E + e] = from ? as_act(from[e]) : 0;
    }
}

// n rows, `stride` from one to the next, as columns of a panel: (lanes of E, PANEL); the other columns are 0.
static void columns_of(const number *x, long stride, long n, long E, lane *panel) {
    act rows[PANEL * E];
    for (long j = 0; j < n; j++)
        for (long e = 0; e < E; e++) rows[j * E + e] = as_act(x[j * stride + e]);
    memset(rows + n * E, 0, (PANEL - n) * E * sizeof(act));
    transpose(PANEL, E / PER_LANE, rows, E / PER_LANE, panel, PANEL);
}

// The same as rows that are summed over: (lanes of PANEL rows, gap); the other rows are 0.
static void rows_of(const number *x, long stride, long n, long E, long gap, lane *panel) {
    memset(panel, 0, PANEL / PER_LANE * gap * sizeof(lane));
    for (long j = 0; j < n; j += PER_LANE, panel += gap, x += PER_LANE * stride)
        for (long e = 0; e < E; e += W) {
#if PER_LANE == 2
            vi both = __builtin_convertvector(*(const vn *)(x + e), vi);
            if (j + 1 < n) both |= __builtin_convertvector(*(const vn *)(x + stride + e), vi) << 16;
            *(vi_any *)(panel + e) = both;
#else
            put((float *)panel + e, numbers(x + e));
#endif
        }
}

// The first n columns of (E, PANEL), each times its factor -> n rows, `stride` from one to the next.
static void put_columns(const float *tile, const float *factor, long n, long E, number *out, long stride) {
    float rows[PANEL * E];
    transpose(E, PANEL, tile, PANEL, rows, E);
    for (long j = 0; j < n; j++) {
        for (long e = 0; e < E; e += W) put(rows + j * E + e, F(rows + j * E + e) * factor[j]);
        to_numbers(rows + j * E, E, out + j * stride);
    }
}

// Vectors of consecutive rows into one of lanes.
ALWAYS void put_lanes(lane *out, const vf *x) {
#if PER_LANE == 2
    const vi low = __builtin_convertvector(vector_to_bf16(x[0]), vi);
    *(vi_any *)out = low | __builtin_convertvector(vector_to_bf16(x[1]), vi) << 16;
#else
    put((float *)out, x[0]);
#endif
}

// ---- products

// `rows` of a times a panel, added to out; `tile` is room for some rows.
static void add_times(long rows, long lanes, const act *a, long width, const lane *panel, long step, float *out, long gap,
                      float *tile) {
    for (long i = 0; i < rows; i += AT_ONCE) {
        const long R = smaller(rows - i, AT_ONCE);
        some_rows(R, lanes, a + i * width, width, panel, step, tile, PANEL, NULL, 0);
        for (long r = 0; r < R; r++)
            for (long v = 0; v < PANEL; v += W) {
                float *to = out + (i + r) * gap + v;
                put(to, F(to) + F(tile + r * PANEL + v));
            }
    }
}

// ---- who sees whom

typedef struct {
    long queries;  // own tokens t.. of the segment, a panel of them at most
    long from, to;  // keys that any of them sees, whole blocks
    long inner_from, inner_to;  // keys that all of them see
    vi first[2], last[2];  // the keys that each sees
} Seen;

static Seen what_is_seen(const Shape *s, const Segment *segment, long t) {
    const long at = segment->prefix + t, window = smaller(s->window, 1 << 30);
    Seen x = {.queries = smaller(segment->own - t, PANEL), .inner_to = at + 1};
    x.from = at < window ? 0 : (at + 1 - window) / BLOCK * BLOCK;
    x.to = up(at + x.queries, BLOCK);
    x.inner_from = at + PANEL < window ? 0 : at + PANEL - window;
    int32_t own[PANEL];
    for (long j = 0; j < PANEL; j++) own[j] = (int32_t)(at + j);
    for (int v = 0; v < 2; v++) {
        x.last[v] = *(const vi_any *)(own + v * W);
        x.first[v] = x.last[v] - (int32_t)window + 1;
    }
    return x;
}

// Scores of key c, those of queries that do not see it very low.
ALWAYS vf visible(const Seen *x, long c, int v, vf score) {
    if (c >= x->inner_from && c < x->inner_to) return score;
    const vi key = (vi){} + (int32_t)c, hidden = (key > x->last[v]) | (key < x->first[v]);
    return (vf)(((vi)score & ~hidden) | ((vi)(ZERO - 1e30f) & hidden));
}

static long max_seen(const Segment *segments, long n) {
    long max_tokens = 0;
    for (long i = 0; i < n; i++) max_tokens = larger(max_tokens, segments[i].prefix + segments[i].own);
    return up(max_tokens, BLOCK);
}

// ---- forward

// Scores (keys from..to, PANEL) -> weights as a panel, with the largest of a column as 1; the largest, and the sums.
static void weigh_columns(const Seen *x, float *scores, lane *weights, float *largest, float *sums) {
    const long rows = x->to - x->from;
    for (int v = 0; v < 2; v++) {
        vf maximum = ZERO - 1e30f, sum = ZERO;
        for (long c = 0; c < rows; c++) {
            const vf z = visible(x, x->from + c, v, F(scores + c * PANEL + v * W));
            put(scores + c * PANEL + v * W, z);
            maximum = larger_of(z, maximum);
        }
        for (long c = 0; c < rows; c += PER_LANE) {
            vf y[PER_LANE];
            UNROLL for (long i = 0; i < PER_LANE; i++) {
                y[i] = exponential(F(scores + (c + i) * PANEL + v * W) - maximum);
                sum += y[i];
            }
            put_lanes(weights + c / PER_LANE * PANEL + v * W, y);
        }
        put(largest + v * W, maximum);
        put(sums + v * W, sum);
    }
}

// q (N, H, E), turned and scaled; k turned, v (N, K, E) -> out (N, H, E), normaliser (N, H). 1: no memory.
int attention_forward(const Shape *s, const Segment *segments, int64_t n, const number *q, const number *k,
                      const number *v, number *out, float *normaliser) {
    const long E = s->E, H = s->H, r = H / s->K, max_tokens = max_seen(segments, n);
    act *keys, *values;
    lane *queries, *weights;
    float *scores, *read;
    const Part parts[] = {
        {(void **)&keys, max_tokens * E * sizeof(act)}, {(void **)&values, max_tokens * E * sizeof(act)},
        {(void **)&queries, E * PANEL * sizeof(lane)}, {(void **)&weights, max_tokens * PANEL * sizeof(lane)},
        {(void **)&scores, max_tokens * PANEL * sizeof(float)}, {(void **)&read, E * PANEL * sizeof(float)},
    };
    void *memory = laid_out(parts, sizeof(parts) / sizeof(*parts));
    if (!memory) return 1;
    begin();
    for (const Segment *segment = segments; segment < segments + n; segment++)
        for (long head = 0; head < s->K; head++) {
            gather(s, segment, k, head, 0, max_tokens, keys);
            gather(s, segment, v, head, 1, max_tokens, values);
            for (long t = 0; t < segment->own; t += PANEL) {
                const Seen x = what_is_seen(s, segment, t);
                const long rows = x.to - x.from;
                for (long h = head * r; h < (head + 1) * r; h++) {
                    const long row = (segment->start + t) * H + h;
                    float largest[PANEL], sums[PANEL];
                    columns_of(q + row * E, H * E, x.queries, E, queries);
                    times(rows, E / PAIR, keys + x.from * E, E, queries, PANEL, scores, PANEL);
                    weigh_columns(&x, scores, weights, largest, sums);
                    times(E, rows / PAIR, values + x.from, max_tokens, weights, PANEL, read, PANEL);
                    for (long j = 0; j < x.queries; j++) {
                        normaliser[row + j * H] = largest[j] + logf(sums[j]);
                        sums[j] = 1 / sums[j];
                    }
                    put_columns(read, sums, x.queries, E, out + row * E, H * E);
                }
            }
        }
    end();
    free(memory);
    return 0;
}

// ---- backward

// Scores of one head -> weights; their gradients -> the scores'; both (keys from..to, PANEL) as act, `width` from row to
// row, and the latter as a panel too. `owed` is a query's gradient times what it read.
static void slope_columns(const Seen *x, const float *scores, const float *gradients, const float *normaliser,
                          const float *owed, act *weights, act *slopes, long width, lane *panel) {
    for (int v = 0; v < 2; v++) {
        const vf all = F(normaliser + v * W), base = F(owed + v * W);
        for (long c = 0; c < x->to - x->from; c += PER_LANE) {
            vf d[PER_LANE];
            UNROLL for (long i = 0; i < PER_LANE; i++) {
                const long at = (c + i) * PANEL + v * W;
                const vf y = exponential(visible(x, x->from + c + i, v, F(scores + at)) - all);
                d[i] = y * (F(gradients + at) - base);
                put_acts(weights + (c + i) * width + v * W, y);
                put_acts(slopes + (c + i) * width + v * W, d[i]);
            }
            put_lanes(panel + c / PER_LANE * PANEL + v * W, d);
        }
    }
}

// Gradient of out -> dq (N, H, E), as q was given; dk and dv (N, K, E), float32, are added to. 1: no memory.
int attention_backward(const Shape *s, const Segment *segments, int64_t n, const number *q, const number *k,
                       const number *v, const number *out, const float *normaliser, const number *dout, number *dq,
                       float *dk, float *dv) {
    const long E = s->E, H = s->H, r = H / s->K, max_tokens = max_seen(segments, n), gap = up(E, PANEL);
    const long heads = smaller(r, MOST_HEADS), wide = heads * PANEL;
    act *keys, *key_columns, *values, *weights, *slopes;
    lane *columns, *panel, *q_rows, *dout_rows;
    float *scores, *gradients, *read, *tile, *dkeys, *dvalues;
    const Part parts[] = {
        {(void **)&keys, max_tokens * E * sizeof(act)}, {(void **)&key_columns, max_tokens * E * sizeof(act)},
        {(void **)&values, max_tokens * E * sizeof(act)}, {(void **)&weights, max_tokens * wide * sizeof(act)},
        {(void **)&slopes, max_tokens * wide * sizeof(act)}, {(void **)&columns, E * PANEL * sizeof(lane)},
        {(void **)&panel, max_tokens * PANEL * sizeof(lane)}, {(void **)&q_rows, wide * gap * sizeof(lane)},
        {(void **)&dout_rows, wide * gap * sizeof(lane)}, {(void **)&scores, max_tokens * PANEL * sizeof(float)},
        {(void **)&gradients, max_tokens * PANEL * sizeof(float)}, {(void **)&read, E * PANEL * sizeof(float)},
        {(void **)&tile, AT_ONCE * PANEL * sizeof(float)}, {(void **)&dkeys, max_tokens * gap * sizeof(float)},
        {(void **)&dvalues, max_tokens * gap * sizeof(float)},
    };
    void *memory = laid_out(parts, sizeof(parts) / sizeof(*parts));
    if (!memory) return 1;
    float ones[PANEL];
    for (long j = 0; j < PANEL; j++) ones[j] = 1;
    begin();
    for (const Segment *segment = segments; segment < segments + n; segment++)
        for (long head = 0; head < s->K; head++) {
            const long S = segment->prefix + segment->own;
            gather(s, segment, k, head, 0, max_tokens, keys);
            gather(s, segment, k, head, 1, max_tokens, key_columns);
            gather(s, segment, v, head, 0, max_tokens, values);
            memset(dkeys, 0, up(S, BLOCK) * gap * sizeof(float));
            memset(dvalues, 0, up(S, BLOCK) * gap * sizeof(float));
            for (long t = 0; t < segment->own; t += PANEL) {
                const Seen x = what_is_seen(s, segment, t);
                const long rows = x.to - x.from;
                for (long first = 0, R; first < r; first += R) {
                    R = smaller(r - first, heads);
                    for (long i = 0; i < R; i++) {
                        const long row = (segment->start + t) * H + head * r + first + i;
                        float all[PANEL] = {0}, owed[PANEL] = {0};
                        for (long j = 0; j < x.queries; j++) {
                            all[j] = normaliser[row + j * H];
                            vf sum = ZERO;
                            for (long at = (row + j * H) * E, e = 0; e < E; e += W)
                                sum += numbers(dout + at + e) * numbers(out + at + e);
                            owed[j] = total(sum);
                        }
                        columns_of(q + row * E, H * E, x.queries, E, columns);
                        times(rows, E / PAIR, keys + x.from * E, E, columns, PANEL, scores, PANEL);
                        columns_of(dout + row * E, H * E, x.queries, E, columns);
                        times(rows, E / PAIR, values + x.from * E, E, columns, PANEL, gradients, PANEL);
                        slope_columns(&x, scores, gradients, all, owed, weights + i * PANEL, slopes + i * PANEL,
                                      R * PANEL, panel);
                        times(E, rows / PAIR, key_columns + x.from, max_tokens, panel, PANEL, read, PANEL);
                        put_columns(read, ones, x.queries, E, dq + row * E, H * E);
                        rows_of(q + row * E, H * E, x.queries, E, gap, q_rows + i * PANEL / PER_LANE * gap);
                        rows_of(dout + row * E, H * E, x.queries, E, gap, dout_rows + i * PANEL / PER_LANE * gap);
                    }
                    for (long e = 0; e < E; e += PANEL) {
                        const long lanes = R * PANEL / PAIR, at = x.from * gap + e;
                        add_times(rows, lanes, slopes, R * PANEL, q_rows + e, gap, dkeys + at, gap, tile);
                        add_times(rows, lanes, weights, R * PANEL, dout_rows + e, gap, dvalues + at, gap, tile);
                    }
                }
            }
            for (long c = 0; c < S; c++)
                for (long at = place(s, segment, c, head), e = 0; e < E; e++) {
                    dk[at + e] += dkeys[c * gap + e];
                    dv[at + e] += dvalues[c * gap + e];
                }
        }
    end();
    free(memory);
    return 0;
}
