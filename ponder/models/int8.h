// Products of int8: a lane of 32 bits is four numbers that follow each other along the sum.
//
// The sum is cut into blocks. A block of a row and a block of a column each have one float32 scale, its largest number
// over 127 (arXiv:2208.07339 scales whole rows and columns; in blocks an outlier does not cost its whole row). Inside a
// block sums are integers, so every CPU has the same; blocks are added up in float32, in their order.
//
// The instruction (VNNI) multiplies unsigned with signed numbers: weights are stored with 128 added, and a row's block
// begins its sums at -128 times the sum of its numbers. Without VNNI the numbers are multiplied in 16 bits, two of a lane's
// four at a time, with equal results: a product is at most 255 * 127, so no sum leaves 32 bits.

#pragma once

#include "lanes.h"

#ifndef INT8_BLOCK
#define INT8_BLOCK 64  // numbers
#endif
#if W == 16
#define MOST_ROWS8 8  // of a block of a product: 16 of 32 registers are sums of integers, the rest those of float32
#elif defined(__AVXVNNI__)
#define MOST_ROWS8 4
#else
#define MOST_ROWS8 6  // 12 of 16 registers are sums of integers
#endif
#define FOUR 4  // numbers in a lane
#define BLOCK_LANES (INT8_BLOCK / FOUR)
#define TINY 1e-30f  // a block whose numbers are all smaller is zeros

typedef int8_t vb __attribute__((vector_size(W), aligned(1), may_alias));

ALWAYS long blocks_of(long size) { return (size + INT8_BLOCK - 1) / INT8_BLOCK; }

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#define HALVES 1  // that a lane is multiplied in
ALWAYS vi unsigned_half(vi lanes, int half) { return half ? (vi){} : lanes; }
ALWAYS vi signed_half(vi lanes, int half) { return half ? (vi){} : lanes; }

ALWAYS vi dot(vi sum, vi w, vi a) {  // + four products of unsigned (w) and signed (a) numbers in every lane
#if W == 16
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)a);
#else
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)w, (__m256i)a);
#endif
}
#else
#define HALVES 2  // a lane's first and third number, and its second and fourth, in 16 bits each
typedef int16_t vs __attribute__((vector_size(4 * W)));
typedef uint16_t vus __attribute__((vector_size(4 * W)));
ALWAYS vi unsigned_half(vi lanes, int half) { return half ? (vi)((vus)lanes >> 8) : lanes & 0x00ff00ff; }
ALWAYS vi signed_half(vi lanes, int half) { return (vi)((half ? (vs)lanes : (vs)lanes << 8) >> 8); }

ALWAYS vi dot(vi sum, vi w, vi a) {  // + two products of 16 bits in every lane
#if W == 16
    sum += (vi)_mm512_madd_epi16((__m512i)w, (__m512i)a);
#else
    sum += (vi)_mm256_madd_epi16((__m256i)w, (__m256i)a);
#endif
    __asm__("" : "+v"(sum));  // added here: gcc delays some, which then wait in memory (up to 5 % slower)
    return sum;
}
#endif

// A block (INT8_BLOCK,) -> its numbers; returns their scale. `sum` is theirs.
ALWAYS float to_int8(const float *x, int8_t *out, int32_t *sum) {
    vi most = {}, sums = {};
    for (int i = 0; i < INT8_BLOCK; i += W) {  // sizes compared as their bits: those of NaN are the largest
        const vi bits = I(x + i) & 0x7fffffff, more = bits > most;
        most = (bits & more) | (most & ~more);
    }
    int32_t bits = 0;
    for (int i = 0; i < W; i++) bits = most[i] > bits ? most[i] : bits;
    float highest;
    memcpy(&highest, &bits, 4);
    const int is_tiny = highest <= TINY;
    const float inverse = is_tiny ? 0 : 127 / highest;
    for (int i = 0; i < INT8_BLOCK; i += W) {
        const vi q = (vi)(F(x + i) * inverse + 12582912.0f) - 0x4b400000;  // to the nearest, ties to even
        sums += q;
        *(vb *)(out + i) = __builtin_convertvector(q, vb);
    }
    *sum = 0;
    for (int i = 0; i < W; i++) *sum += sums[i];
    return is_tiny ? 0 : highest / 127;
}

// Some rows, at most MOST_ROWS8, side by side: lane by lane, so that a product walks through memory.
typedef struct {
    lane *numbers;  // (blocks * BLOCK_LANES, HALVES, rows)
    float *scales;  // (blocks, rows)
    int32_t *begins;  // (blocks, rows): where their sums begin
} Rows8;

static long row_bytes(long size) { return blocks_of(size) * (HALVES * INT8_BLOCK + sizeof(float) + sizeof(int32_t)); }

// Where rows first.. of a batch lie in `memory`, row_bytes(size) for each row of the batch.
static Rows8 rows8(char *memory, long first, long R, long size) {
    lane *numbers = (lane *)(memory + first * row_bytes(size));
    const long blocks = blocks_of(size);
    float *scales = (float *)(numbers + R * blocks * BLOCK_LANES * HALVES);
    return (Rows8){numbers, scales, (int32_t *)(scales + R * blocks)};
}

_Static_assert(BLOCK_LANES % W == 0, "a block is whole vectors of lanes");

static void row_to_int8(const act *x, long size, const Rows8 *to, long row, long R) {
    float part[INT8_BLOCK];
    int8_t numbers[INT8_BLOCK];
    lane lanes[HALVES][BLOCK_LANES], *out = to->numbers + row;
    for (long b = 0; b * INT8_BLOCK < size; b++) {
        const long n = smaller(size - b * INT8_BLOCK, INT8_BLOCK);
        memset(part + n, 0, (INT8_BLOCK - n) * sizeof(float));
        for (long i = 0; i < n; i++, x++) part[i] = sizeof(act) == 2 ? of_bf16(*x) : *x;
        int32_t sum;
        to->scales[b * R + row] = to_int8(part, numbers, &sum);
        to->begins[b * R + row] = -128 * sum;
        for (int half = 0; half < HALVES; half++)
            for (long k = 0; k < BLOCK_LANES; k += W)
                *(vi_any *)(lanes[half] + k) = signed_half(I(numbers + FOUR * k), half);
        for (long k = 0; k < BLOCK_LANES; k++)
            for (int half = 0; half < HALVES; half++, out += R) *out = lanes[half][k];
    }
}

// R rows times a panel (blocks * BLOCK_LANES, 2 W) with scales (blocks, 2 W) -> out (R, 2 W). `next`: as in `block`.
ALWAYS void block8(const int R, long blocks, const Rows8 *rows, const lane *panel, const float *scales, float *out,
                   const char *next, long lines) {
    const lane *numbers = rows->numbers;
    const float *row_scales = rows->scales;
    const int32_t *begins = rows->begins;
    vf total[MOST_ROWS8][2];
    UNROLL for (int r = 0; r < R; r++) total[r][0] = total[r][1] = ZERO;
    for (long b = 0; b < blocks; b++, scales += PANEL, row_scales += R, begins += R) {
        vi sum[MOST_ROWS8][2];
        UNROLL for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = (vi){} + begins[r];
        for (long k = 0; k < BLOCK_LANES; k++, panel += PANEL, next += 64) {
            if (b * BLOCK_LANES + k < lines) _mm_prefetch(next, _MM_HINT_T0);
            UNROLL for (int half = 0; half < HALVES; half++, numbers += R) {
                const vi b0 = unsigned_half(I(panel), half), b1 = unsigned_half(I(panel + W), half);
                UNROLL for (int r = 0; r < R; r++) {
                    const vi both = (vi){} + numbers[r];
                    sum[r][0] = dot(sum[r][0], b0, both);
                    sum[r][1] = dot(sum[r][1], b1, both);
                }
            }
        }
        const vf s0 = F(scales), s1 = F(scales + W);
        UNROLL for (int r = 0; r < R; r++) {
            const float scale = row_scales[r];
            total[r][0] += __builtin_convertvector(sum[r][0], vf) * s0 * scale;
            total[r][1] += __builtin_convertvector(sum[r][1], vf) * s1 * scale;
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        put(out + r * PANEL, total[r][0]);
        put(out + r * PANEL + W, total[r][1]);
    }
}

static void some_rows8(long R, long blocks, const Rows8 *rows, const lane *panel, const float *scales, float *out,
                       const char *next, long lines) {
    switch (R) {
#define CASE8(n) case n: block8(n, blocks, rows, panel, scales, out, next, lines); break;
        CASE8(1) CASE8(2) CASE8(3) CASE8(4)
#if MOST_ROWS8 > 4
        CASE8(5) CASE8(6)
#endif
#if MOST_ROWS8 > 6
        CASE8(7) CASE8(8)
#endif
    }
}

// A matrix (columns, size) -> panels (panels, blocks * BLOCK_LANES, 2 W), 128 added, and scales (panels, blocks, 2 W)
static void panels8(const number *weights, long columns, long size, uint32_t *panels, float *scales) {
    const long blocks = blocks_of(size);
    int8_t row[INT8_BLOCK];
    float part[INT8_BLOCK];
    for (long c = 0; c < up(columns, PANEL); c++)
        for (long b = 0; b < blocks; b++) {
            const long n = c < columns ? smaller(size - b * INT8_BLOCK, INT8_BLOCK) : 0;
            const long at = (c / PANEL * blocks + b) * PANEL + c % PANEL;
            int32_t sum;
            memset(part + n, 0, (INT8_BLOCK - n) * sizeof(float));
            for (long i = 0; i < n; i++) part[i] = widen(weights[c * size + b * INT8_BLOCK + i]);
            scales[at] = to_int8(part, row, &sum);
            uint32_t *to = panels + (c / PANEL * blocks + b) * BLOCK_LANES * PANEL + c % PANEL;
            for (long k = 0; k < BLOCK_LANES; k++) {
                uint32_t four;
                memcpy(&four, row + FOUR * k, FOUR);
                to[k * PANEL] = four ^ 0x80808080u;  // 128 added to each
            }
        }
}
