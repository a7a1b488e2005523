// One pass of a decoder over rows of tokens, for one thread of an x86 CPU. `native.py` compiles this file and calls it.
//
// A row is one token: of a running sequence, or of a prompt that is being read. Its bits depend on its own tokens only
// (in a model whose numbers are finite):
// every sum runs over them in one order, whatever other rows are there.
//
// Lanes and panels: models/lanes.h. A matrix is its panels of output columns one after the other, (panels, lanes, 2 W).
// Keys are blocks of 32 tokens, (blocks, lanes of E, 32), so that a vector holds one lane of W tokens and a block is a
// panel of queries' scores; values are (lanes of tokens, E). The residual stream and softmax are float32.
//
// Shapes: D width, H query heads, K key/value heads, E head width, C capacity of a strip in tokens (a multiple of 32).

#include <math.h>

#ifdef INT8  // the products with weights; all else as without
#include "int8.h"
#else
#include "lanes.h"
#endif

// Rows that go through all layers together. With few of them the activations stay in the cache; with many the weights are
// read from memory less often, which is what matrix units wait for.
#ifdef __AMX_BF16__
#define CHUNK 512
#else
#define CHUNK 96
#endif
#define GROUP 32  // queries that read one strip together

// ---- products: a (rows, lanes) times a panel

typedef struct {
    const lane *weights;
    const float *scales;  // (panels, blocks, 2 W) of int8, else NULL
    const float *bias;  // (panels, 2 W), or NULL
    long size, columns;  // numbers of an input, columns of the output
} Matrix;

#ifdef WIDEN
#define STEP(step) PANEL
static const lane *ready(const lane *panel, long lanes, long step, lane *room) {  // a panel in float32
    for (long k = 0; k < lanes; k++)
        for (long v = 0; v < PANEL; v += W) {
            const vi b = I(panel + k * step + v);
            *(vi_any *)(room + 2 * k * PANEL + v) = b << 16;
            *(vi_any *)(room + (2 * k + 1) * PANEL + v) = b & (int32_t)0xffff0000;
        }
    return room;
}
#else
#define STEP(step) (step)
static const lane *ready(const lane *panel, long lanes, long step, lane *room) {
    (void)lanes, (void)step, (void)room;
    return panel;
}
#endif

enum { STORE, ADD, GATE };  // into float32; onto float32; silu(first half) * second half, as act

// One row of a tile to where it belongs: `n` columns of `out`.
ALWAYS void finish(int kind, const float *tile, const float *bias, long n, void *out) {
    float sums[PANEL];
    for (int v = 0; v < PANEL; v += W) put(sums + v, bias ? F(tile + v) + F(bias + v) : F(tile + v));
    if (kind == GATE) {
        act row[W];
        put_acts(row, F(sums) / (1.0f + exponential(-F(sums))) * F(sums + W));
        if (n == W)
            memcpy(out, row, sizeof(row));
        else
            memcpy(out, row, n * sizeof(act));
        return;
    }
    float *to = out;
    if (n == PANEL)
        for (int v = 0; v < PANEL; v += W) put(to + v, kind == ADD ? F(to + v) + F(sums + v) : F(sums + v));
    else
        for (long i = 0; i < n; i++) to[i] = kind == ADD ? to[i] + sums[i] : sums[i];
}

// What a product needs beside its numbers.
typedef struct {
    lane *panel;  // one, in float32
    char *rows;  // in int8, `row_bytes` each
} Room;

// Rows `row`.. of `rows` that are multiplied with a panel together, where all are dealt to `pieces` and `left` remain.
#define PIECE(rows, row, left) smaller(up(((rows) - (row) + (left) - 1) / (left), SPLIT), (rows) - (row))

#ifdef INT8
#define TOGETHER MOST_ROWS8
#define READY(weights, m, room) (weights)
#define SPLIT 1

static long panel_lanes(const Matrix *m) { return blocks_of(m->size) * BLOCK_LANES; }

static void take(const Matrix *m, const act *a, long rows, long pieces, Room *room) {  // a (rows, size), in int8
    for (long row = 0, R; row < rows; row += R, pieces--) {
        R = PIECE(rows, row, pieces);
        const Rows8 to = rows8(room->rows, row, R, m->size);
        for (long r = 0; r < R; r++) row_to_int8(a + (row + r) * m->size, m->size, &to, r, R);
    }
}

static void some(const Matrix *m, long p, const lane *panel, const act *a, long row, long R, const Room *room, float *tile,
                 const char *next, long lines) {
    (void)a;
    const Rows8 in = rows8(room->rows, row, R, m->size);
    some_rows8(R, blocks_of(m->size), &in, panel, m->scales + p * blocks_of(m->size) * PANEL, tile, next, lines);
}
#else
#define TOGETHER AT_ONCE
#define READY(weights, m, room) ready(weights, panel_lanes(m), PANEL, room)
#define SPLIT GRAIN

static long row_bytes(long size) { return 0 * size; }
static long panel_lanes(const Matrix *m) { return m->size / PAIR; }

static void take(const Matrix *m, const act *a, long rows, long pieces, Room *room) {
    (void)m, (void)a, (void)rows, (void)pieces, (void)room;
}

static void some(const Matrix *m, long p, const lane *panel, const act *a, long row, long R, const Room *room, float *tile,
                 const char *next, long lines) {
    (void)p, (void)room;
    some_rows(R, panel_lanes(m), a + row * m->size, m->size, panel, PANEL, tile, PANEL, next, lines);
}
#endif

// a (rows, size) times a matrix -> out (rows, columns)
static void product(int kind, const Matrix *m, const act *a, long rows, void *out, Room *room) {
    const long pieces = (rows + TOGETHER - 1) / TOGETHER, per = kind == GATE ? W : PANEL;
    const long size = panel_lanes(m) * PANEL, lines = (size / 16 + pieces - 1) / pieces;
    const long number = kind == GATE ? sizeof(act) : sizeof(float);
    float tile[TOGETHER * PANEL] __attribute__((aligned(64)));
    take(m, a, rows, pieces, room);
    for (long p = 0; p * per < m->columns; p++) {
        const lane *weights = m->weights + p * size, *panel = READY(weights, m, room->panel);
        const char *next = (const char *)(weights + size);  // fetched while this panel is computed with
        const float *bias = m->bias ? m->bias + p * PANEL : NULL;
        const long left = m->columns - p * per, n = left < per ? left : per;
        for (long i = 0, row = 0, R; i < pieces; i++, row += R, next += 64 * lines) {
            R = PIECE(rows, row, pieces - i);
            some(m, p, panel, a, row, R, room, tile, next, lines);
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
    lane *prompt;  // the strip that comes before, and how many of its tokens; NULL and 0 without one
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
ALWAYS lane *strip_part(const Model *m, lane *strip, long capacity, long layer, long head, int values) {
    return strip + (((layer * m->K + head) * 2 + values) * capacity * m->E) / PAIR;
}

static void keep(const Model *m, const Row *row, long layer, const float *k, const float *v) {
    const long E = m->E, c = row->index;
    number numbers[2][E];
    const uint32_t shift = c % PAIR * 16, others = PAIR == 1 ? 0 : 0xffff0000u >> shift;
    for (long head = 0; head < m->K; head++, k += E, v += E) {
        lane *keys = strip_part(m, row->own, row->capacity, layer, head, 0) + c / BLOCK * BLOCK * E / PAIR + c % BLOCK;
        lane *values = strip_part(m, row->own, row->capacity, layer, head, 1) + c / PAIR * E;
        to_numbers(k, E, numbers[0]);
        to_numbers(v, E, numbers[1]);
        for (long e = 0; e < E / PAIR; e++) memcpy(keys + e * BLOCK, (const lane *)numbers[0] + e, sizeof(lane));
        if (PAIR == 1)
            memcpy(values, numbers[1], E * sizeof(lane));
        else
            for (long e = 0; e < E; e++) values[e] = (values[e] & others) | (uint32_t)numbers[1][e] << shift;
    }
}

typedef struct {
    float *x, *qkv, *scores, *read, *own;
    act *in, *wide, *q, *queries, *weights;
    Room room;
    long *order;  // rows that read one strip, one after the other
} Scratch;

// Some queries (N, E) and the keys of a strip's tokens from..to -> scores (N, stride). `from` is the first of a block.
static void score_strip(long N, const lane *keys, long from, long to, const act *q, long E, float *scores, long stride,
                        lane *room) {
    for (long c = from; c < to; c += BLOCK)
        for (long v = 0; v < BLOCK; v += PANEL) {
            const lane *panel = ready(keys + c * E / PAIR + v, E / PAIR, BLOCK, room);
            times(N, E / PAIR, q, E, panel, STEP(BLOCK), scores + c + v, stride);
        }
}

// Weights (N, stride) of a strip's tokens from..to, whole blocks, and their values -> what is read (N, E up to a panel)
static void read_strip(long N, const lane *values, long from, long to, const act *weights, long stride, long E,
                       float *out, lane *room) {
    const long gap = up(E, PANEL), lanes = (to - from) / PAIR;
    for (long e = 0; e < E; e += PANEL) {
        const lane *panel = ready(values + from / PAIR * E + e, lanes, E, room);
        times(N, lanes, weights + from, stride, panel, STEP(E), out + e, gap);
    }
}

// Scores -> weights that add up to what is returned, as act, with the largest score as 1; 0 outside bounds[0..1] and
// bounds[2..3].
static float weigh(float *scores, long size, const long bounds[4], act *weights) {
    const long edges[6] = {0, bounds[0], bounds[1], bounds[2], bounds[3], size};
    for (int i = 0; i < 6; i += 2)
        for (long c = edges[i]; c < edges[i + 1]; c++) scores[c] = -1e30f;
    vf maximum = ZERO - 1e30f, sum = ZERO;
    for (long c = 0; c < size; c += W) maximum = larger_of(F(scores + c), maximum);
    const float highest = largest_of(maximum);
    for (long c = 0; c < size; c += W) {
        const vf y = exponential(F(scores + c) - highest);
        sum += y;
        put_acts(weights + c, y);
    }
    return total(sum);
}

// The strip that a row may share with others: its prompt's, or (while a prompt is read) its own.
static lane *shared(const Row *row) { return row->prompt_length ? row->prompt : row->own; }

// What rows which[0..n-1], which share a strip, read by query heads at..at + R - 1 of a key head.
static void attend(const Model *m, const Row *rows, const long *which, long n, long layer, long head, long at, long R,
                   Scratch *s) {
    const long E = m->E, H = m->H, first_head = head * (H / m->K) + at, window = m->layers[layer].window;
    const long gap = up(E, PANEL);
    const Row *one = rows + which[0];
    const long capacity = one->prompt_length ? one->prompt_capacity : one->capacity;
    long from = INT64_MAX, to = 0, own = 0;  // tokens of the strip that any of the rows sees; of its own, the most
    long bounds[GROUP][4];
    for (long j = 0; j < n; j++) {
        const Row *row = rows + which[j];
        const long first = row->position >= window ? row->position - window + 1 : 0;  // the first token seen
        const long before = row->position - row->index, end = row->index + 1;  // of the own strip
        long *b = bounds[j];
        b[0] = first;
        b[1] = row->prompt_length ? row->prompt_length : end;
        b[2] = row->prompt_length && first > before ? first - before : 0;
        b[3] = row->prompt_length ? end : 0;
        if (b[0] > b[1]) b[0] = b[1];
        from = b[0] < from ? b[0] : from;
        to = b[1] > to ? b[1] : to;
        own = b[3] > own ? b[3] : own;
        memcpy(s->queries + j * R * E, s->q + (which[j] * H + first_head) * E, R * E * sizeof(act));
    }
    from = from / BLOCK * BLOCK;
    to = up(to, BLOCK);
    const long stride = to + up(own, BLOCK);
    score_strip(n * R, strip_part(m, shared(one), capacity, layer, head, 0), from, to, s->queries, E, s->scores, stride,
                s->room.panel);
    float sums[GROUP];
    for (long j = 0; j < n; j++) {
        const Row *row = rows + which[j];
        long *b = bounds[j];
        const lane *keys = strip_part(m, row->own, row->capacity, layer, head, 0);
        score_strip(R, keys, b[2] / BLOCK * BLOCK, b[3], s->queries + j * R * E, E, s->scores + j * R * stride + to,
                    stride, s->room.panel);
        b[2] += to;
        b[3] += to;
        for (long i = j * R; i < (j + 1) * R; i++)
            sums[i] = weigh(s->scores + i * stride, stride, b, s->weights + i * stride);
    }
    read_strip(n * R, strip_part(m, shared(one), capacity, layer, head, 1), from, to, s->weights, stride, E, s->read,
               s->room.panel);
    for (long j = 0; j < n; j++) {
        const Row *row = rows + which[j];
        const lane *values = strip_part(m, row->own, row->capacity, layer, head, 1);
        read_strip(R, values, (bounds[j][2] - to) / BLOCK * BLOCK, up(bounds[j][3] - to, BLOCK),
                   s->weights + j * R * stride + to, stride, E, s->own, s->room.panel);
        for (long i = 0; i < R; i++) {
            float *read = s->read + (j * R + i) * gap;
            const float scale = 1 / sums[j * R + i];
            for (long e = 0; e < E; e++) read[e] = (read[e] + s->own[i * gap + e]) * scale;
            to_acts(read, E, s->wide + (which[j] * H + first_head + i) * E);
        }
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
        for (long j = 0; j < H * E; j++) q[j] *= scale;
        to_acts(q, H * E, s->q + i * H * E);
        keep(m, rows + i, layer, k, v);
    }
    for (long head = 0; head < K; head++)
        for (long pieces = (r + GROUP - 1) / GROUP, at = 0, R; at < r; at += R, pieces--) {
            R = (r - at + pieces - 1) / pieces;
            for (long first = 0, some; first < n; first += some) {
                const lane *strip = shared(rows + s->order[first]);
                for (some = 1; first + some < n && (some + 1) * R <= GROUP; some++)
                    if (shared(rows + s->order[first + some]) != strip) break;
                attend(m, rows, s->order + first, some, layer, head, at, R, s);
            }
        }
}

// Rows that share a strip one after the other, each time in the order they came in.
static void ordered(const Row *rows, long n, long *order) {
    for (long i = 0; i < n; i++) order[i] = i;
    for (long done = 0; done < n;) {
        const lane *strip = shared(rows + order[done]);
        for (long i = done; i < n; i++) {
            const long row = order[i];
            if (shared(rows + row) != strip) continue;
            memmove(order + done + 1, order + done, (i - done) * sizeof(long));
            order[done++] = row;
        }
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
    ordered(rows, n, s->order);
    for (long i = 0; i < n; i++)
        for (long d = 0; d < m->D; d++) s->x[i * m->D + d] = widen(m->embed[rows[i].token * m->D + d]);
    for (long layer = 0; layer < m->num_layers; layer++) {
        const Layer *l = m->layers + layer;
        normed_rows(m, l->input_norm, n, s);
        product(STORE, &l->qkv, s->in, n, s->qkv, &s->room);
        heads(m, rows, n, layer, s);
        product(ADD, &l->o, s->wide, n, s->x, &s->room);
        normed_rows(m, l->post_norm, n, s);
        product(GATE, &l->gate_up, s->in, n, s->wide, &s->room);
        product(ADD, &l->down, s->wide, n, s->x, &s->room);
    }
    for (long i = 0; i < n; i++) normed(s->x + i * m->D, m->norm, m->D, m->eps, out + i * m->D);
}

// Rows (n,) -> their final hidden states (n, D). Rows of one strip come in the order of their index. 1: no memory.
int forward(const Model *m, const Row *rows, int64_t n, float *out) {
    long longest = 0;
    for (long i = 0; i < n; i++)
        longest = larger(longest, up(rows[i].prompt_length, BLOCK) + up(rows[i].index + 1, BLOCK));
    const long D = m->D, HE = m->H * m->E, widest = larger(larger(D, HE), m->inner);
    const long max_rows = n < CHUNK ? up(n, GRAIN) : CHUNK;
    Scratch s;
    const Part parts[] = {
        {(void **)&s.x, max_rows * D * sizeof(float)},
        {(void **)&s.qkv, max_rows * (HE + 2 * m->K * m->E) * sizeof(float)},
        {(void **)&s.scores, GROUP * longest * sizeof(float)},
        {(void **)&s.read, GROUP * up(m->E, PANEL) * sizeof(float)},
        {(void **)&s.own, GROUP * up(m->E, PANEL) * sizeof(float)},
        {(void **)&s.in, max_rows * D * sizeof(act)},
        {(void **)&s.wide, max_rows * larger(HE, m->inner) * sizeof(act)},
        {(void **)&s.q, max_rows * HE * sizeof(act)},
        {(void **)&s.queries, (GROUP + GRAIN) * m->E * sizeof(act)},
        {(void **)&s.weights, (GROUP + GRAIN) * longest * sizeof(act)},
        {(void **)&s.room.panel, larger(widest, longest) * PANEL * sizeof(float)},
        {(void **)&s.room.rows, max_rows * row_bytes(widest)},
        {(void **)&s.order, max_rows * sizeof(long)},
    };
    void *memory = laid_out(parts, sizeof(parts) / sizeof(*parts));
    if (!memory) return 1;
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
    act *in;
    Room room;
    const Part parts[] = {
        {(void **)&in, up(n, GRAIN) * m->D * sizeof(act)},
        {(void **)&room.panel, m->D * PANEL * sizeof(float)},
        {(void **)&room.rows, smaller(n, CHUNK) * row_bytes(m->D)},
    };
    void *memory = laid_out(parts, sizeof(parts) / sizeof(*parts));
    if (!memory) return 1;
    begin();
    to_acts(hidden, n * m->D, in);
    for (long first = 0; first < n; first += CHUNK)
        product(STORE, &m->head, in + first * m->D, smaller(n - first, CHUNK), out + first * m->vocabulary, &room);
    end();
    free(memory);
    return 0;
}

// A matrix (columns, size) -> its panels in int8 and their scales; nothing without int8.
void quantise(const number *weights, int64_t columns, int64_t size, uint32_t *panels, float *scales) {
#ifdef INT8
    panels8(weights, columns, size, panels, scales);
#else
    (void)weights, (void)columns, (void)size, (void)panels, (void)scales;
#endif
}

int int8_block(void) {  // numbers that share a scale; 0: no int8
#ifdef INT8
    return INT8_BLOCK;
#else
    return 0;
#endif
}

int vector_lanes(void) { return W; }
int model_size(void) { return sizeof(Model); }
