// What a training pass does between its products, row by row: norm, gate, rotary embedding, and their gradients, for one
// thread of an x86 CPU. `rowwise.py` compiles this file and calls it.
//
// Each reads its input from memory once. Between reading and writing numbers are float32. Widths are whole vectors.

#include <math.h>

#include "lanes.h"

// x (rows, D) -> x / rms(x) * weight, and what x was multiplied with, (rows,).
void norm_forward(const number *x, const number *weight, int64_t rows, int64_t D, float eps, number *out, float *scale) {
    float row[D];
    for (long i = 0; i < rows; i++, x += D, out += D) {
        vf squares = ZERO;
        for (long d = 0; d < D; d += W) squares += numbers(x + d) * numbers(x + d);
        const float each = scale[i] = 1 / sqrtf(total(squares) / D + eps);
        for (long d = 0; d < D; d += W) put(row + d, numbers(x + d) * each * numbers(weight + d));
        to_numbers(row, D, out);
    }
}

// Gradient of out -> of x; that of weight, (D,) float32, is added to, unless it is NULL.
void norm_backward(const number *x, const number *weight, const float *scale, const number *grad, int64_t rows, int64_t D,
                   number *dx, float *dweight) {
    float row[D];
    for (long i = 0; i < rows; i++, x += D, grad += D, dx += D) {
        const float each = scale[i];
        vf along = ZERO;
        for (long d = 0; d < D; d += W) {
            const vf normed = numbers(x + d) * each, g = numbers(grad + d);
            along += normed * g * numbers(weight + d);
            if (dweight) put(dweight + d, F(dweight + d) + g * normed);
        }
        const float shared = total(along) / D;
        for (long d = 0; d < D; d += W)
            put(row + d, (numbers(grad + d) * numbers(weight + d) - numbers(x + d) * each * shared) * each);
        to_numbers(row, D, dx);
    }
}

// Added to out, (size,) float32.
void add_to(const number *x, int64_t size, float *out) {
    const long whole = size / W * W;
    for (long i = 0; i < whole; i += W) put(out + i, F(out + i) + numbers(x + i));
    for (long i = whole; i < size; i++) out[i] += widen(x[i]);
}

ALWAYS vf sigmoid(vf x) { return 1.0f / (1.0f + exponential(-x)); }

ALWAYS void put_numbers(number *out, vf x) {
#if PAIR == 2
    *(vn *)out = vector_to_bf16(x);
#else
    put(out, x);
#endif
}

// silu(gate) * x
void gate_forward(const number *gate, const number *x, int64_t size, number *out) {
    for (long i = 0; i < size; i += W) {
        const vf g = numbers(gate + i);
        put_numbers(out + i, g * sigmoid(g) * numbers(x + i));
    }
}

void gate_backward(const number *gate, const number *x, const number *grad, int64_t size, number *dgate, number *dx) {
    for (long i = 0; i < size; i += W) {
        const vf g = numbers(gate + i), s = sigmoid(g), d = numbers(grad + i);
        put_numbers(dgate + i, d * numbers(x + i) * s * (1.0f + g * (1.0f - s)));
        put_numbers(dx + i, d * g * s);
    }
}

// x (rows, heads, E), halves of a head as pairs, turned by cos and sin (rows, E), or back (sign -1), times scale.
void turn(const number *x, const number *cos, const number *sin, int64_t rows, int64_t heads, int64_t E, float sign,
          float scale, number *out) {
    const long half = E / 2;
    float c[E], s[E], from[E], to[E];
    for (long i = 0; i < rows; i++, cos += E, sin += E) {
        for (long e = 0; e < E; e += W) {
            put(c + e, numbers(cos + e) * scale);
            put(s + e, numbers(sin + e) * (sign * scale));
        }
        for (long h = 0; h < heads; h++, x += E, out += E) {
            for (long e = 0; e < E; e += W) put(from + e, numbers(x + e));
            for (long e = 0; e < half; e++) {
                to[e] = from[e] * c[e] - from[half + e] * s[e];
                to[half + e] = from[half + e] * c[half + e] + from[e] * s[half + e];
            }
            to_numbers(to, E, out);
        }
    }
}
