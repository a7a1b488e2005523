// One pass of a decoder over rows of tokens, for one thread of an x86 CPU. `native.py` compiles this file and calls it.
//
// A row is one token: of a running sequence, or of a prompt that is being read. Its bits depend on its own tokens only:
// every sum runs over them in one order, whatever other rows are there.
//
// Lanes, panels, and how keys and values lie: models/lanes.h. A matrix is its panels of output columns one after the
// other, (panels, lanes, 2 W). The residual stream and softmax are float32.
//
// Shapes: D width, H query heads, K key/value heads, E head width, C capacity of a strip in tokens (a multiple of 32).

#include <math.h>
#include <stdlib.h>

#include "lanes.h"

#define CHUNK 96  // rows that go through all layers together: their activations stay in the cache

// ---- products: a (rows, lanes) times a panel

typedef struct {
    const lane *weights;
    const float *bias;  // (panels, 2 W), or NULL
    long lanes, columns;  // columns of the output
} Matrix;

#ifdef WIDEN
static void widened(const lane *panel, long lanes, lane *out) {
    for (long k = 0; k < lanes; k++)
        for (long v = 0; v < PANEL; v += W) {
            const vi b = I(panel + k * PANEL + v);
            *(vi_any *)(out + 2 * k * PANEL + v) = b << 16;
            *(vi_any *)(out + (2 * k + 1) * PANEL + v) = b & (int32_t)0xffff0000;
        }
}
#endif

enum { STORE, ADD, GATE };  // into float32; onto float32; silu(first half) * second half, as act

// One row of a tile to where it belongs: `n` columns of `out`.
ALWAYS void finish(int kind, const float *tile, const float *bias, long n, void *out) {
    float sums[PANEL];
    for (int v = 0; v < PANEL; v += W) put(sums + v, bias ? F(tile + v) + F(bias + v) : F(tile + v));
    if (kind == GATE) {
        put(sums, F(sums) / (1.0f + exponential(-F(sums))) * F(sums + W));
        to_acts(sums, n, out);
        return;
    }
    float *to = out;
    if (n == PANEL)
        for (int v = 0; v < PANEL; v += W) put(to + v, kind == ADD ? F(to + v) + F(sums + v) : F(sums + v));
    else
        for (long i = 0; i < n; i++) to[i] = kind == ADD ? to[i] + sums[i] : sums[i];
}

// a (rows, lanes) times a matrix -> out (rows, columns). `room` is for one panel in float32.
static void product(int kind, const Matrix *m, const act *a, long rows, void *out, lane *room) {
    const long pieces = (rows + AT_ONCE - 1) / AT_ONCE, per = kind == GATE ? W : PANEL;
    const long size = m->lanes * PANEL, lines = (size / 16 + pieces - 1) / pieces;
    const long number = kind == GATE ? sizeof(act) : sizeof(float);
    float tile[AT_ONCE * PANEL] __attribute__((aligned(64)));
    for (long p = 0; p * per < m->columns; p++) {
        const lane *panel = m->weights + p * size;
        const char *next = (const char *)(panel + size);  // fetched while this panel is computed with
        const float *bias = m->bias ? m->bias + p * PANEL : NULL;
        const long left = m->columns - p * per, n = left < per ? left : per;
#ifdef WIDEN
        widened(panel, m->lanes, room);
        panel = room;
#else
        (void)room;
#endif
        for (long i = 0, row = 0, R; i < pieces; i++, row += R, next += 64 * lines) {
            R = up((rows - row + pieces - i - 1) / (pieces - i), GRAIN);
            if (R > rows - row) R = rows - row;
            rows_times_panel(R, m->lanes, a + row * m->lanes * PAIR, panel, tile, next, lines);
            for (long r = 0; r < R; r++)
                finish(kind, tile + r * PANEL, bias, n, (char *)out + ((row + r) * m->columns + p * per) * number);
        }
    }
}

// ---- the network

typedef struct {
    Matrix qkv, o, gate_up, down;
    const float *input_norm, *post_norm, *q_norm, *k_norm;  // the last two may be NULL
    int64_t window;  // tokens a token sees, itself included
} Layer;

typedef struct {
    int64_t num_layers, D, inner, H, K, E, vocabulary;
    double eps;
    const number *embed;  // (vocabulary, D)
    const float *norm, *cos, *sin;  // (D,), (positions, E) each
    const Layer *layers;
    Matrix head;
} Model;

typedef struct {
    int64_t token, position;
    lane *own;  // the strip of keys and values that this row's token goes to, as number `index`
    int64_t capacity, index;
    const lane *prompt;  // the strip that comes before, and how many of its tokens; NULL and 0 without one
    int64_t prompt_capacity, prompt_length;
} Row;

static void normed(const float *x, const float *weight, long size, double eps, float *out) {
    vf squares = {};
    for (long i = 0; i < size; i += W) squares += F(x + i) * F(x + i);
    const float scale = (float)(1 / sqrt(total(squares) / size + eps));
    for (long i = 0; i < size; i += W) put(out + i, F(x + i) * scale * F(weight + i));
}

static void turned(float *x, const float *cos, const float *sin, long E) {  // rotary embedding, in place
    const long half = E / 2;
    for (long j = 0; j < half; j++) {
        const float a = x[j], b = x[half + j];
        x[j] = a * cos[j] - b * sin[j];
        x[half + j] = b * cos[half + j] + a * sin[half + j];
    }
}

// a strip: (layers, K, 2, C * E numbers), keys and values of one prompt or one sequence
ALWAYS const lane *strip_part(const Model *m, const lane *strip, long capacity, long layer, long head, int values) {
    return strip + (((layer * m->K + head) * 2 + values) * capacity * m->E) / PAIR;
}

static void keep(const Model *m, const Row *row, long layer, const float *k, const float *v) {
    const long E = m->E, c = row->index;
    for (long head = 0; head < m->K; head++, k += E, v += E) {
        number *keys = (number *)strip_part(m, row->own, row->capacity, layer, head, 0) + c / BLOCK * BLOCK * E;
        number *values = (number *)strip_part(m, row->own, row->capacity, layer, head, 1) + c / PAIR * PAIR * E;
        for (long e = 0; e < E; e++) {
            keys[(e / PAIR * BLOCK + c % BLOCK) * PAIR + e % PAIR] = narrow(k[e]);
            values[e * PAIR + c % PAIR] = narrow(v[e]);
        }
    }
}

typedef struct {
    float *x, *qkv, *scores, *read;
    act *in, *wide, *q, *weights;
    lane *room;
} Scratch;

// What the query heads of one key head of one row read. q (r, E) as act.
static void attend(const Model *m, const Row *row, long layer, long head, Scratch *s, const act *q, act *out) {
    const long E = m->E, r = m->H / m->K, window = m->layers[layer].window;
    const long first = row->position >= window ? row->position - window + 1 : 0;  // the first token seen
    const long before = row->position - row->index;  // the position of the strip's first token
    const long prompt = up(row->prompt_length, BLOCK), size = prompt + up(row->index + 1, BLOCK);
    long bounds[4] = {first, row->prompt_length, first - before, row->index + 1};
    if (bounds[0] > bounds[1]) bounds[0] = bounds[1];
    if (bounds[2] < 0) bounds[2] = 0;
    const lane *own_keys = strip_part(m, row->own, row->capacity, layer, head, 0);
    const lane *own_values = strip_part(m, row->own, row->capacity, layer, head, 1);
    for (long pieces = (r + MOST_HEADS - 1) / MOST_HEADS, at = 0, R; at < r; at += R, pieces--) {
        R = (r - at + pieces - 1) / pieces;
        memset(s->read, 0, R * E * sizeof(float));
        if (row->prompt_length)
            score_heads(R, strip_part(m, row->prompt, row->prompt_capacity, layer, head, 0), bounds[0], bounds[1],
                        q + at * E, E, s->scores, size);
        score_heads(R, own_keys, bounds[2], bounds[3], q + at * E, E, s->scores + prompt, size);
        long shifted[4] = {bounds[0], bounds[1], bounds[2] + prompt, bounds[3] + prompt};
        float sums[MOST_HEADS], largest;
        for (long i = 0; i < R; i++) sums[i] = weigh(s->scores + i * size, size, shifted, s->weights + i * size, &largest);
        if (row->prompt_length)
            read_heads(R, strip_part(m, row->prompt, row->prompt_capacity, layer, head, 1), bounds[0], bounds[1],
                       s->weights, size, E, s->read);
        read_heads(R, own_values, bounds[2], bounds[3], s->weights + prompt, size, E, s->read);
        for (long i = 0; i < R; i++)
            for (long e = 0; e < E; e++) out[(at + i) * E + e] = to_act(s->read[i * E + e] / sums[i]);
    }
}

static void heads(const Model *m, const Row *rows, long n, long layer, Scratch *s) {
    const Layer *l = m->layers + layer;
    const long E = m->E, H = m->H, K = m->K, all = (H + 2 * K) * E, r = H / K;
    const float scale = 1 / sqrtf((float)E);
    for (long i = 0; i < n; i++) {
        float *q = s->qkv + i * all, *k = q + H * E, *v = k + K * E;
        for (long h = 0; h < H + K; h++) {
            float *x = q + h * E;
            if (l->q_norm) normed(x, h < H ? l->q_norm : l->k_norm, E, m->eps, x);
            turned(x, m->cos + rows[i].position * E, m->sin + rows[i].position * E, E);
        }
        for (long j = 0; j < H * E; j++) s->q[i * H * E + j] = to_act(q[j] * scale);
        keep(m, rows + i, layer, k, v);
    }
    for (long head = 0; head < K; head++)  // a prompt's keys of one head stay in the cache for all its samples
        for (long i = 0; i < n; i++) {
            const long at = (i * H + head * r) * E;
            attend(m, rows + i, layer, head, s, s->q + at, s->wide + at);
        }
}

static void normed_rows(const Model *m, const float *weight, long n, Scratch *s) {
    float row[m->D];
    for (long i = 0; i < n; i++) {
        normed(s->x + i * m->D, weight, m->D, m->eps, row);
        to_acts(row, m->D, s->in + i * m->D);
    }
}

static void pass(const Model *m, const Row *rows, long n, Scratch *s, float *out) {
    for (long i = 0; i < n; i++)
        for (long d = 0; d < m->D; d++) s->x[i * m->D + d] = widen(m->embed[rows[i].token * m->D + d]);
    for (long layer = 0; layer < m->num_layers; layer++) {
        const Layer *l = m->layers + layer;
        normed_rows(m, l->input_norm, n, s);
        product(STORE, &l->qkv, s->in, n, s->qkv, s->room);
        heads(m, rows, n, layer, s);
        product(ADD, &l->o, s->wide, n, s->x, s->room);
        normed_rows(m, l->post_norm, n, s);
        product(GATE, &l->gate_up, s->in, n, s->wide, s->room);
        product(ADD, &l->down, s->wide, n, s->x, s->room);
    }
    for (long i = 0; i < n; i++) normed(s->x + i * m->D, m->norm, m->D, m->eps, out + i * m->D);
}

static long larger(long a, long b) { return a > b ? a : b; }

// Rows (n,) -> their final hidden states (n, D). Rows of one strip come in the order of their index. 1: no memory.
int forward(const Model *m, const Row *rows, int64_t n, float *out) {
    long longest = 0;
    for (long i = 0; i < n; i++)
        longest = larger(longest, up(rows[i].prompt_length, BLOCK) + up(rows[i].index + 1, BLOCK));
    const long D = m->D, HE = m->H * m->E;
    const size_t sizes[9] = {
        CHUNK * D * sizeof(float), CHUNK * (HE + 2 * m->K * m->E) * sizeof(float),
        MOST_HEADS * longest * sizeof(float), MOST_HEADS * m->E * sizeof(float),
        CHUNK * D * sizeof(act), CHUNK * larger(HE, m->inner) * sizeof(act), CHUNK * HE * sizeof(act),
        MOST_HEADS * longest * sizeof(act), larger(larger(D, HE), m->inner) * PANEL * sizeof(float),
    };
    size_t all = 0;
    for (int i = 0; i < 9; i++) all += up(sizes[i], 64) + 64;
    char *memory = malloc(all + 64), *at = memory;
    if (!memory) return 1;
    at = (char *)up((long)at, 64);
    void *parts[9];
    for (int i = 0; i < 9; i++) {
        parts[i] = at;
        at += up(sizes[i], 64) + 64;  // a line between them: rows of a power of two would share their cache lines
    }
    Scratch s = {parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], parts[7], parts[8]};
    begin();
    for (long pieces = (n + CHUNK - 1) / CHUNK, first = 0; first < n; pieces--) {
        const long size = (n - first + pieces - 1) / pieces;
        pass(m, rows + first, size, &s, out + first * D);
        first += size;
    }
    end();
    free(memory);
    return 0;
}

// Hidden states (n, D) -> logits (n, vocabulary). 1: no memory.
int logits(const Model *m, const float *hidden, int64_t n, float *out) {
    act *in = malloc(up(n, GRAIN) * m->D * sizeof(act));
    lane *room = aligned_alloc(64, m->D * PANEL * sizeof(float));
    if (in && room) {
        begin();
        to_acts(hidden, n * m->D, in);
        for (long first = 0; first < n; first += CHUNK) {
            const long size = n - first < CHUNK ? n - first : CHUNK;
            product(STORE, &m->head, in + first * m->D, size, out + first * m->vocabulary, room);
        }
        end();
    }
    const int failed = !in || !room;
    free(in);
    free(room);
    return failed;
}

int vector_lanes(void) { return W; }
int model_size(void) { return sizeof(Model); }
