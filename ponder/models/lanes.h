// What the C files share: vectors, memory, numbers, and products.
//
// The unit of every product is a lane of 32 bits: one float32, or (-DBF16) two bfloat16 that follow each other along the
// sum. A vector has W lanes. A panel is 2 W columns of a matrix, lane by lane along the sum: (lanes, 2 W), so that no
// product sums across a vector.
//
// Sums are float32. What is multiplied with a panel (`act`) is bfloat16 where the CPU multiplies it (AVX512-BF16, AMX),
// else float32, and so is the panel.

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__AVX512F__)
#define W 16
#define MOST_ROWS 12  // of a block of a product: 24 of 32 registers are sums
#define TWICE
#else
#define W 8
#define MOST_ROWS 6  // 12 of 16
#define TWICE _Pragma("GCC unroll 2")
#endif
#define PANEL (2 * W)
#define BLOCK 32  // tokens that attention takes together

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef vf vf_any __attribute__((aligned(4), may_alias));
typedef vi vi_any __attribute__((aligned(4), may_alias));
#define ALWAYS static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define ZERO ((vf){})
ALWAYS vf F(const void *p) { return *(const vf_any *)p; }
ALWAYS vi I(const void *p) { return *(const vi_any *)p; }
ALWAYS void put(float *p, vf x) { *(vf_any *)p = x; }

static inline long up(long x, long grain) { return (x + grain - 1) / grain * grain; }
static inline long smaller(long a, long b) { return a < b ? a : b; }
static inline long larger(long a, long b) { return a > b ? a : b; }

// ---- memory

typedef struct {
    void **part;
    long size;  // bytes
} Part;

// One piece of memory for all parts, which are set to where they begin; NULL: none left. For free().
static inline void *laid_out(const Part *parts, int count) {
    size_t all = 64;
    for (int i = 0; i < count; i++) all += up(parts[i].size, 64) + 64;
    char *memory = malloc(all), *at = memory + (-(uintptr_t)memory & 63);
    for (int i = 0; memory && i < count; i++) {
        *parts[i].part = at;
        at += up(parts[i].size, 64) + 64;  // a line between them: rows of a power of two would share their cache lines
    }
    return memory;
}

// ---- numbers

typedef int32_t lane;

ALWAYS float of_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

ALWAYS uint16_t to_bf16(float x) {  // to the nearest, ties to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#if !defined(BF16)
#define PAIR 1
typedef float number, act;
ALWAYS float widen(number x) { return x; }
ALWAYS number narrow(float x) { return x; }
ALWAYS vf multiply(vf sum, vi b, const act *a, long k) { return sum + (vf)b * a[k]; }
#else
#define PAIR 2
typedef uint16_t number;
ALWAYS float widen(number x) { return of_bf16(x); }
ALWAYS number narrow(float x) { return to_bf16(x); }
#if defined(__AVX512BF16__) || defined(EMULATE_PAIRS)
typedef uint16_t act;
ALWAYS vf multiply(vf sum, vi b, const act *a, long k) {
    int32_t pair;
    memcpy(&pair, a + 2 * k, 4);
#if defined(EMULATE_PAIRS)  // the same layout on a CPU without the instruction, for tests
    vi both = (vi){} + pair;
    sum = sum + (vf)(b & (int32_t)0xffff0000) * (vf)(both & (int32_t)0xffff0000);
    return sum + (vf)(b << 16) * (vf)(both << 16);
#else
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)b, (__m512bh)_mm512_set1_epi32(pair));
#endif
}
#else
#define WIDEN  // no products of bfloat16: a panel is widened once for all rows
typedef float act;
#endif
#endif

ALWAYS vf exponential(vf x) {  // relative error below 3e-7 (cephes' expf); 0 below -87, exp(88) above 88
    const vi large = x > 88.0f;
    x = (vf)(((vi)x & ~large) | ((vi)(ZERO + 88.0f) & large));
    vf n = x * 1.44269504f + 12582912.0f;
    vi exponent = ((vi)n << 23) + (127 << 23);
    n = n - 12582912.0f;
    vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vf y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = (y * r * r + r + 1.0f) * (vf)exponent;
    return (vf)((vi)y & (x > -87.0f));
}

ALWAYS vf larger_of(vf a, vf b) {
    const vi more = a > b;
    return (vf)(((vi)a & more) | ((vi)b & ~more));
}

// A vector into one number, halves onto halves.
#define FOLD(name, both)                              \
    ALWAYS float name(vf x) {                         \
        float part[W];                                \
        put(part, x);                                 \
        UNROLL for (int w = W / 2; w > 0; w /= 2) {   \
            UNROLL for (int i = 0; i < w; i++) {      \
                const float a = part[i], b = part[i + w]; \
                part[i] = both;                       \
            }                                         \
        }                                             \
        return part[0];                               \
    }
FOLD(total, a + b)
FOLD(largest_of, a > b ? a : b)
#undef FOLD

#if PAIR == 2
typedef uint16_t vn __attribute__((vector_size(2 * W), aligned(2), may_alias));

ALWAYS vn vector_to_bf16(vf x) {  // as to_bf16
#if defined(__AVX512BF16__) && !defined(EMULATE_PAIRS)
    return (vn)_mm512_cvtneps_pbh((__m512)x);  // numbers below 1e-38 become 0
#else
    const vi bits = (vi)x, nan = x != x;
    const vi rounded = (vi)((vu)(bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    return __builtin_convertvector((rounded & ~nan) | (0x7fc0 & nan), vn);
#endif
}
#endif

ALWAYS vf numbers(const number *p) {
#if PAIR == 2
    return (vf)(__builtin_convertvector(*(const vn *)p, vi) << 16);
#else
    return F(p);
#endif
}

ALWAYS void to_numbers(const float *x, long size, number *out) {
    long i = 0;
#if PAIR == 2
    for (; i + W <= size; i += W) *(vn *)(out + i) = vector_to_bf16(F(x + i));
#endif
    for (; i < size; i++) out[i] = narrow(x[i]);
}

ALWAYS void put_acts(act *out, vf x) {
#if PAIR == 2 && !defined(WIDEN)
    *(vn *)out = vector_to_bf16(x);
#else
    put(out, x);
#endif
}

ALWAYS void to_acts(const float *x, long size, act *out) {
    if (sizeof(act) == sizeof(number))
        to_numbers(x, size, (number *)out);
    else
        memcpy(out, x, size * sizeof(act));
}

// 32 bits each: (rows, columns), `width` from row to row -> (columns, rows), `gap`. Both in multiples of 8.
static inline void transpose(long rows, long columns, const void *from, long width, void *to, long gap) {
    for (long r = 0; r < rows; r += 8)
        for (long c = 0; c < columns; c += 8) {
            __m256 a[8], b[8];
            UNROLL for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps((const float *)from + (r + i) * width + c);
            UNROLL for (int i = 0; i < 8; i += 2) {
                b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
                b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
            }
            UNROLL for (int i = 0; i < 8; i += 4) UNROLL for (int h = 0; h < 2; h++) {
                a[i + 2 * h] = _mm256_shuffle_ps(b[i + h], b[i + 2 + h], 0x44);
                a[i + 2 * h + 1] = _mm256_shuffle_ps(b[i + h], b[i + 2 + h], 0xee);
            }
            UNROLL for (int i = 0; i < 4; i++) {
                _mm256_storeu_ps((float *)to + (c + i) * gap + r, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
                _mm256_storeu_ps((float *)to + (c + i + 4) * gap + r, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
            }
        }
}

// ---- products

// R rows, `width` numbers from one to the next, times a panel, `step` lanes from one row to the next -> out (R, 2 W), `gap`
// numbers from row to row. `next` is what to fetch meanwhile, a line of memory a step.
ALWAYS void block(const int R, long lanes, const act *a, long width, const lane *panel, long step, float *out, long gap,
                  const char *next, long lines) {
    vf sum[MOST_ROWS][2];
    UNROLL for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = ZERO;
#ifdef WIDEN
    TWICE for (long k = 0; k < lanes * PAIR; k++) {
        if (k < lines) _mm_prefetch(next + 64 * k, _MM_HINT_T0);
        const vf b0 = F(panel + k * step), b1 = F(panel + k * step + W);
        UNROLL for (int r = 0; r < R; r++) {
            sum[r][0] += b0 * a[r * width + k];
            sum[r][1] += b1 * a[r * width + k];
        }
    }
#else
    TWICE for (long k = 0; k < lanes; k++) {
        if (k < lines) _mm_prefetch(next + 64 * k, _MM_HINT_T0);
        const vi b0 = I(panel + k * step), b1 = I(panel + k * step + W);
        UNROLL for (int r = 0; r < R; r++) {
            sum[r][0] = multiply(sum[r][0], b0, a + r * width, k);
            sum[r][1] = multiply(sum[r][1], b1, a + r * width, k);
        }
    }
#endif
    UNROLL for (int r = 0; r < R; r++) {
        put(out + r * gap, sum[r][0]);
        put(out + r * gap + W, sum[r][1]);
    }
}

static void few_rows(long R, long lanes, const act *a, long width, const lane *panel, long step, float *out, long gap,
                     const char *next, long lines) {
    switch (R) {
#define CASE(n) case n: block(n, lanes, a, width, panel, step, out, gap, next, lines); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if MOST_ROWS > 6
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
}

#ifndef __AMX_BF16__
#define AT_ONCE MOST_ROWS  // rows that are multiplied with a panel together
#define GRAIN 1  // rows of `a` can be read up to a multiple of this
static inline void begin(void) {}
static inline void end(void) {}

static inline void some_rows(long R, long lanes, const act *a, long width, const lane *panel, long step, float *out,
                             long gap, const char *next, long lines) {
    few_rows(R, lanes, a, width, panel, step, out, gap, next, lines);
}
#else  // matrix units: a tile is 16 rows of 16 lanes
#define AT_ONCE 32
#define GRAIN 16

static void begin(void) {  // before the products of a call; the kernel wants to be asked once a process
    static int asked;
    if (!asked) syscall(SYS_arch_prctl, 0x1023, 18);  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    asked = 1;
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&shape);
}

static void end(void) { _tile_release(); }  // gives the tiles back

// 16 or (`both`) 32 rows: sums are tiles 0 to 3, rows 4 and 5, columns 6 and 7. The last rows may be of no use.
ALWAYS void tiles(const int both, long R, long lanes, const act *a, long width, const lane *panel, long step, float *out,
                  long gap, const char *next, long lines) {
    const long each = (lines + lanes / 16 - 1) / (lanes / 16);
    __asm__ volatile("" ::: "memory");  // the compiler does not know what tiles are loaded from
    _tile_zero(0);
    _tile_zero(1);
    if (both) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (long k = 0; k + 16 <= lanes; k += 16) {
        for (long i = 0; i < each; i++, next += 64) _mm_prefetch(next, _MM_HINT_T1);
        _tile_loadd(6, panel + k * step, 4 * step);
        _tile_loadd(7, panel + k * step + W, 4 * step);
        _tile_loadd(4, a + 2 * k, 2 * width);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (both) {
            _tile_loadd(5, a + 16 * width + 2 * k, 2 * width);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    float room[AT_ONCE * PANEL] __attribute__((aligned(64)));
    float *to = R % 16 ? room : out;
    const long across = R % 16 ? PANEL : gap;
    _tile_stored(0, to, 4 * across);
    _tile_stored(1, to + W, 4 * across);
    if (both) {
        _tile_stored(2, to + 16 * across, 4 * across);
        _tile_stored(3, to + 16 * across + W, 4 * across);
    }
    if (R % 16)
        for (long r = 0; r < R; r++) memcpy(out + r * gap, room + r * PANEL, PANEL * sizeof(float));
}

static void some_rows(long R, long lanes, const act *a, long width, const lane *panel, long step, float *out, long gap,
                      const char *next, long lines) {
    const long whole = lanes / 16 * 16;
    if (!whole)
        for (long r = 0; r < R; r++) memset(out + r * gap, 0, PANEL * sizeof(float));
    else if (R > 16)
        tiles(1, R, whole, a, width, panel, step, out, gap, next, lines);
    else
        tiles(0, R, whole, a, width, panel, step, out, gap, next, lines);
    float rest[MOST_ROWS * PANEL] __attribute__((aligned(64)));
    for (long row = 0, some; whole < lanes && row < R; row += some) {
        some = R - row < MOST_ROWS ? R - row : MOST_ROWS;
        few_rows(some, lanes - whole, a + row * width + 2 * whole, width, panel + whole * step, step, rest, PANEL, next, 0);
        for (long r = 0; r < some; r++)
            for (int v = 0; v < PANEL; v += W) {
                float *to = out + (row + r) * gap + v;
                put(to, F(to) + F(rest + r * PANEL + v));
            }
    }
}
#endif

// Rows of `a`, as many as there are, times a panel.
static inline void times(long rows, long lanes, const act *a, long width, const lane *panel, long step, float *out,
                         long gap) {
    for (long i = 0; i < rows; i += AT_ONCE)
        some_rows(rows - i < AT_ONCE ? rows - i : AT_ONCE, lanes, a + i * width, width, panel, step, out + i * gap, gap,
                  NULL, 0);
}
