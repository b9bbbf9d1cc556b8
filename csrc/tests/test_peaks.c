/* test_peaks.c: the loops of peaks.h do what they say and stay inside their arrays, for every tier and on several
 * threads.  How fast they are is no matter of tests. */
#include "peaks.h"

#include <math.h>
#include <string.h>

#include "test.h"

#define ROW (QLM_PEAK_STEP / 4)
#define COUNT (3 * (size_t)ROW)

static float source_at(size_t i) { return (float)((int)(i * 37 % 501) - 250) / 16; }

static int8_t code_of(float x) { return (int8_t)fminf(fmaxf(nearbyintf(x), -128), 127); }

static int8_t row_code_at(size_t i)
{
    float max = 0;
    for (size_t j = i / ROW * ROW; j < (i / ROW + 1) * ROW; j++) max = fmaxf(max, fabsf(source_at(j)));
    return code_of(source_at(i) * (127 / max));
}

/* The elements that a loop gets wrong, every 61st looked at. */
static size_t wrong_elements(const struct qlm_peak *peak, const void *target)
{
    const char *what = peak->what;
    size_t wrong = 0;
    if (peak->operations > 0) return 0;
    for (size_t i = 0; i < COUNT; i += 61) {
        if (strncmp(what, "dequantize", 10) == 0) {
            wrong += ((const float *)target)[i] != (float)(int8_t)(i * 29) * 0.03125f;
        } else if (strcmp(what, "read") != 0) {
            int8_t want = strncmp(what, "rows", 4) == 0 ? row_code_at(i) : code_of(source_at(i) * 12.7f);
            wrong += ((const int8_t *)target)[i] != want;
        }
    }
    return wrong;
}

static void test_peak(const struct qlm_peak *peak, const char *isa)
{
    now_running(peak->what, isa, 0);
    operands_reset(FLUSH_RIGHT);
    int reads_codes = strncmp(peak->what, "dequantize", 10) == 0;
    void *source = operand(COUNT * (reads_codes ? 1 : 4)), *target = operand(COUNT * (reads_codes ? 4 : 1));
    for (size_t i = 0; i < COUNT; i++) {
        if (reads_codes)
            ((int8_t *)source)[i] = (int8_t)(i * 29);
        else
            ((float *)source)[i] = source_at(i);
    }
    qlm_peak_run(peak, source, target, 4 * COUNT, 2);
    check(wrong_elements(peak, target) == 0, "peak %s (%s) of %s", peak->what, peak->scheme, isa);
}

void test_peaks(void)
{
    for (size_t i = 0; qlm_kernels_at(i); i++) {
        if (!qlm_kernels_usable(qlm_kernels_at(i))) continue;
        qlm_kernels_use(qlm_kernels_at(i));
        size_t count = 0;
        for (unsigned threads = 1; threads <= 2; threads++) {
            qlm_set_threads(threads);
            for (count = 0; qlm_peak_at(count); count++) test_peak(qlm_peak_at(count), qlm_kernels_at(i)->isa);
        }
        check(i == 0 ? count == 0 : count >= 6, "peaks of %s", qlm_kernels_at(i)->isa);
    }
    operands_reset(FLUSH_RIGHT);
    qlm_kernels_use(qlm_kernels_best());
}
