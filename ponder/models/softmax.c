// Softmax over rows of logits, with what a loss wants to know of each row, for one thread of an x86 CPU.
// `softmax.py` compiles this file and calls it.
//
// A row is read from memory once; what is between stays in the cache. Sums are float32.

#include <math.h>
#include <stdlib.h>

#include "lanes.h"

// logits (rows, V) become the probabilities of logits times scale; -> their normaliser, the logarithm of the sum of
// exponentials, and entropy, (rows,) each. 1: no memory.
int softmax_rows(number *logits, int64_t rows, int64_t V, float scale, float *normaliser, float *entropy) {
    const long whole = V / W * W, padded = up(V, W);
    float *z = aligned_alloc(64, up(padded * sizeof(float), 64));
    if (!z) return 1;
    for (long i = 0; i < rows; i++, logits += V) {
        vf maximum = ZERO - 1e30f, sum = ZERO, product = ZERO;
        vi broken = {};
        for (long c = whole; c < padded; c++) z[c] = c < V ? widen(logits[c]) * scale : -1e30f;
        for (long c = 0; c < padded; c += W) {
            if (c < whole) put(z + c, numbers(logits + c) * scale);
            maximum = larger_of(F(z + c), maximum);
            broken |= F(z + c) != F(z + c);
        }
        // one NaN makes the row NaN: comparisons would lose it, and with it that a model has diverged
        const float largest = total((vf)broken) != 0 ? NAN : largest_of(maximum);
        for (long c = 0; c < padded; c += W) {
            const vf below = F(z + c) - largest, y = exponential(below);
            sum += y;
            product += y * larger_of(below, ZERO - 1e30f);  // 0 for -inf, not NaN
            put(z + c, y);
        }
        const float all = total(sum), each = 1 / all;
        normaliser[i] = largest + logf(all);
        entropy[i] = logf(all) - total(product) / all;
        for (long c = 0; c < padded; c += W) put(z + c, F(z + c) * each);
        to_numbers(z, V, logits);
    }
    free(z);
    return 0;
}
