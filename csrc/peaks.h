/* peaks.h: what this CPU can do at most, as loops to be timed: a kernel's speed is read as a share of theirs.
 *
 * Loops on registers alone carry out a tier's multiply-adds without loading anything.  Loops over memory read it, or
 * convert it the plainest way (one multiply, one conversion, no check), with ordinary or with streaming stores.
 * They are no kernels: nothing but a measurement calls them, and only their speed is of interest.
 */
#ifndef QLM_PEAKS_H
#define QLM_PEAKS_H

#include <stddef.h>
#include <stdint.h>

/* Memory loops take a multiple of this many bytes of float32 (a row of 4096), or of bytes read. */
#define QLM_PEAK_STEP 16384

/* what:
 *   int8, int4, int16   exact products of codes of these types (a tier may have several schemes, or none)
 *   float32             fused multiply-adds
 *   read                every byte of `source`
 *   quantize            target[i] = int8(source[i] * 12.7), saturated
 *   dequantize          target[i] = float(source[i]) * 0.03125f
 *   rows                for each row of 4096: quantize by 127 over its largest magnitude
 *   ... stream          the same with stores that pass the caches by
 * run: `rounds` times; `bytes` are those of the float32 side, or those read.  target is 64-byte aligned. */
struct qlm_peak {
    const char *what, *scheme;
    double operations; /* of a round on registers; 0: the work is `bytes` a round */
    void (*run)(const void *source, void *target, size_t bytes, size_t rounds);
};

/* A tier's loops: for tables whose features include these. */
struct qlm_peak_list {
    uint32_t features;
    const struct qlm_peak *peaks; /* ended by what == NULL */
};
extern const struct qlm_peak_list qlm_peak_lists[]; /* best first; ended by peaks == NULL */

/* Of the table in use; NULL past the last. */
const struct qlm_peak *qlm_peak_at(size_t index);

/* `rounds` on each of qlm_threads() threads; loops over memory share `bytes` between them. */
void qlm_peak_run(const struct qlm_peak *peak, const void *source, void *target, size_t bytes, size_t rounds);

#endif
