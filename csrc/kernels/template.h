/* What the template sources (*.inc.h) need besides a vec_<isa>.h: the names of kernels.
 *
 * A file of an instruction set defines QLM_ISA, includes its vec_<isa>.h and then the templates.  Each vec_<isa>.h
 * offers the same 16 lanes of float32 (v16f), int32 (v16i) and their masks (v16m), and means the same bits:
 *
 *   v16_f_min(a, b)    a < b ? a : b, so b where a lane is NaN or both are zeros; v16_f_max alike with >
 *   v16_f_fma(a, b, c) a b + c rounded once; v16_f_fnma: c - a b
 *   comparisons        false where a lane is NaN; v16_f_not_lt is true there
 *   v16_f_minus_abs    -|a|
 *   v16_f_load_half     16 finite float16, exactly
 *   _part(p, n)        touches only the n < 16 first elements; the other lanes are zero
 *   _n(p, n)           the same for n <= 16: with a constant 16 just the full load or store
 *   v16_f_lookup(t, i)  t[i mod 8] of eight floats t
 *   v16_f_load_once    a load that the compiler does not repeat for each use
 *   v16_i_keep(v)      nothing: keeps compilers from having a loop's sum in two registers, moved on each step
 *   SPAN_AHEAD         floats that long spans of codes ask ahead for
 *   store_low8/16      the low byte or the low two bytes of each lane
 *   v16_f_canonical    x, but any NaN becomes 0x7fc00000, the one that is stored on every CPU
 *   v16_i_from_f       for values in the range of int32; halves go to even
 *   v16_i_min_u        unsigned; v16_i_max_s, v16_i_max_u alike
 *   v64_b_stream       a store past the caches, to an address that is a multiple of 16; v16_f_stream alike; streams_end
 *                      before another thread may read
 *   v16_i_fixed        rounded to int32, halves to even; where that is no int32 the low 16 bits are zero
 *   v16_store_high16   the high 16 bits of each lane, signed, as the nearest of least .. most
 *   v64_any_low        whether the low 16 bits of a lane of four vectors are, unsigned, below those of `bound`, whose
 *                      high bits are zero
 *   v64_high8          64 bytes: the high 16 bits of each lane of four vectors, signed, as the nearest of 0 .. 255, of
 *                      -128 .. 127 where `signed_bytes`; v64_b_min, v64_b_max compare as bytes of that kind
 *   v64_low8           64 bytes: the low 16 bits of each lane of four vectors, which are 0 .. 255
 *   v16_i_greatest     lane l: the greatest, in that order, of the bits of the n floats from x + l n on; n is a
 *                      multiple of 32; with AS_MAGNITUDES NaN may be passed over
 *   reduce             lanes l and l + 8, then l + 4, l + 2, l + 1
 */
#ifndef QLM_TEMPLATE_H
#define QLM_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#ifndef QLM_INLINE
#define QLM_INLINE static inline __attribute__((always_inline)) QLM_TARGET
#endif

#ifndef QLM_OUTLINE
#define QLM_OUTLINE static __attribute__((noinline, unused)) QLM_TARGET
#endif

#define QLM_NAME_PASTE(name, isa) qlm_##name##_##isa
#define QLM_NAME_EXPAND(name, isa) QLM_NAME_PASTE(name, isa)
#define QLM_NAME(name) QLM_NAME_EXPAND(name, QLM_ISA)
#define QLM_KERNEL(ret, name) QLM_TARGET ret QLM_NAME(name)

/* How the bits of floats are compared: as integers, or as unsigned ones without the sign. */
enum order { AS_SIGNED, AS_UNSIGNED, AS_MAGNITUDES };

/* Where vectors have no better way. */
#define QLM_GREATEST_BY_REDUCE                                                                                         \
    QLM_INLINE v16i v16_greater(v16i a, v16i b, enum order order)                                                      \
    { return order == AS_SIGNED ? v16_i_max_s(a, b) : v16_i_max_u(a, b); }                                             \
                                                                                                                       \
    QLM_INLINE v16i v16_ordered(v16f x, enum order order)                                                              \
    { return order == AS_MAGNITUDES ? v16_i_and(v16_f_as_i(x), v16_i_set1(INT32_MAX)) : v16_f_as_i(x); }               \
                                                                                                                       \
    QLM_INLINE v16i v16_i_greatest(const float *x, size_t n, enum order order)                                         \
    {                                                                                                                  \
        int32_t greatest[16];                                                                                          \
        for (int l = 0; l < 16; l++, x += n) {                                                                         \
            v16i lanes = v16_ordered(v16_f_load(x), order);                                                            \
            for (size_t i = 16; i < n; i += 16)                                                                        \
                lanes = v16_greater(lanes, v16_ordered(v16_f_load(x + i), order), order);                              \
            greatest[l] = order == AS_SIGNED ? v16_i_reduce_max_s(lanes) : (int32_t)v16_i_reduce_max_u(lanes);         \
        }                                                                                                              \
        return v16_i_load(greatest);                                                                                   \
    }

/* The loads and stores of at most 16 elements, from those that each vec_<isa>.h defines. */
#define QLM_LOAD_N(name, type, lanes)                                                                                  \
    QLM_INLINE lanes name##_n(const type *p, size_t n) { return n < 16 ? name##_part(p, n) : name(p); }
#define QLM_STORE_N(name, type, lanes)                                                                                 \
    QLM_INLINE void name##_n(type *p, size_t n, lanes v)                                                               \
    {                                                                                                                  \
        if (n < 16)                                                                                                    \
            name##_part(p, n, v);                                                                                      \
        else                                                                                                           \
            name(p, v);                                                                                                \
    }
#define QLM_LOADS_AND_STORES_N                                                                                         \
    QLM_LOAD_N(v16_f_load, float, v16f)                                                                                \
    QLM_LOAD_N(v16_i_load, int32_t, v16i)                                                                              \
    QLM_LOAD_N(v16_load_s8, int8_t, v16i)                                                                              \
    QLM_LOAD_N(v16_load_u8, uint8_t, v16i)                                                                             \
    QLM_LOAD_N(v16_load_s16, int16_t, v16i)                                                                            \
    QLM_LOAD_N(v16_load_u16, uint16_t, v16i)                                                                           \
    QLM_STORE_N(v16_f_store, float, v16f)                                                                              \
    QLM_STORE_N(v16_i_store, int32_t, v16i)                                                                            \
    QLM_STORE_N(v16_store_low8, uint8_t, v16i)                                                                         \
    QLM_STORE_N(v16_store_low16, uint16_t, v16i)

#define QLM_CANONICAL_BY_SELECT                                                                                        \
    QLM_INLINE v16f v16_f_canonical(v16f x)                                                                            \
    { return v16_f_select(v16_f_is_nan(x), v16_i_as_f(v16_i_set1(0x7fc00000)), x); }

#endif
