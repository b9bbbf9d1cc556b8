/* dispatch.c: the tables of kernels, one a tier, and which of them is in use.  The file to open first.
 *
 *   table        common   int16       int8        the CPU must have
 *   scalar       scalar   scalar      scalar      nothing
 *   avx2         avx2     avx2        avx2        AVX2, FMA, F16C
 *   avxvnni      avx2     avxvnni     avxvnni     these and AVX-VNNI
 *   avx512       avx512   avx512      avx512      those of avx2 and AVX-512 F BW VL DQ
 *   avx512vnni   avx512   avx512vnni  avx512vnni  these and VNNI
 *   avx512vbmi   avx512   avx512vnni  avx512vbmi  these and VBMI, VBMI2
 *   neon         neon     neon        neon        NEON
 *   neondot      neon     neon        neondot     NEON, dot product
 *   neoni8mm     neon     neon        neoni8mm    NEON, dot product, int8 matrix product
 *
 * A CPU that has several runs the last of them: avxvnni comes before avx512, since CPUs with AVX-512 and AVX-VNNI but
 * not AVX512-VNNI do not exist.
 *
 * All tables give the same bits, so which one runs is a matter of speed alone.  It is chosen once, at start: a packed
 * weight remembers the table that laid it out.
 */
#include <string.h>

#include "cpu.h"
#include "kernels/shapes.h"
#include "qlm.h"

#define SLOT_scalar(ret, name, args) .name = qlm_##name##_scalar,
#define SLOT_avx2(ret, name, args) .name = qlm_##name##_avx2,
#define SLOT_avxvnni(ret, name, args) .name = qlm_##name##_avxvnni,
#define SLOT_avx512(ret, name, args) .name = qlm_##name##_avx512,
#define SLOT_avx512vnni(ret, name, args) .name = qlm_##name##_avx512vnni,
#define SLOT_avx512vbmi(ret, name, args) .name = qlm_##name##_avx512vbmi,
#define SLOT_neon(ret, name, args) .name = qlm_##name##_neon,
#define SLOT_neondot(ret, name, args) .name = qlm_##name##_neondot,
#define SLOT_neoni8mm(ret, name, args) .name = qlm_##name##_neoni8mm,

/* The constants of shapes.h under the names of the table's fields. */
#define SHAPE(TIER)                                                                                                    \
    .left_type = QLM_##TIER##_LEFT, .k_step = QLM_##TIER##_K_STEP, .nr = QLM_##TIER##_NR, .mr_8 = QLM_##TIER##_MR_8,   \
    .rows_8 = QLM_##TIER##_ROWS_8, .mr_16 = QLM_##TIER##_MR_16, .mr_f32 = QLM_##TIER##_MR_F32,                         \
    .left_4 = QLM_##TIER##_LEFT_4, .mr_4 = QLM_##TIER##_MR_4, .expand_rows = QLM_##TIER##_EXPAND_ROWS,                 \
    .fold_4 = QLM_##TIER##_FOLD_4

#define SHAPE_FITS(TIER)                                                                                               \
    _Static_assert(QLM_##TIER##_NR % 16 == 0 && QLM_##TIER##_NR <= QLM_MAX_NR, "panel width");                         \
    _Static_assert(QLM_##TIER##_MR_8 <= QLM_MAX_MR && QLM_##TIER##_MR_16 <= QLM_MAX_MR &&                              \
                       QLM_##TIER##_MR_F32 <= QLM_MAX_MR && QLM_##TIER##_MR_4 <= QLM_MAX_MR,                           \
                   "tile height");                                                                                     \
    _Static_assert(QLM_##TIER##_ROWS_8 <= QLM_MAX_ROWS, "rows of a call")

/* The tables read as lists. */
/* clang-format off */

SHAPE_FITS(SCALAR);
static const struct qlm_kernels scalar_table = {
    .isa = "scalar",
    .features = 0,
    SHAPE(SCALAR),
    QLM_COMMON_KERNELS(SLOT_scalar)
    QLM_INT16_KERNELS(SLOT_scalar)
    QLM_INT8_KERNELS(SLOT_scalar)
};

#if defined(__x86_64__)

#define FEATURES_AVX2 (QLM_CPU_AVX2 | QLM_CPU_FMA | QLM_CPU_F16C)
#define FEATURES_AVX512 (QLM_CPU_AVX512F | QLM_CPU_AVX512BW | QLM_CPU_AVX512VL | QLM_CPU_AVX512DQ)

SHAPE_FITS(AVX2);
static const struct qlm_kernels avx2_table = {
    .isa = "avx2",
    .features = FEATURES_AVX2,
    SHAPE(AVX2),
    QLM_COMMON_KERNELS(SLOT_avx2)
    QLM_INT16_KERNELS(SLOT_avx2)
    QLM_INT8_KERNELS(SLOT_avx2)
};

SHAPE_FITS(AVXVNNI);
static const struct qlm_kernels avxvnni_table = {
    .isa = "avxvnni",
    .features = FEATURES_AVX2 | QLM_CPU_AVXVNNI,
    SHAPE(AVXVNNI),
    QLM_COMMON_KERNELS(SLOT_avx2)
    QLM_INT16_KERNELS(SLOT_avxvnni)
    QLM_INT8_KERNELS(SLOT_avxvnni)
};

SHAPE_FITS(AVX512);
static const struct qlm_kernels avx512_table = {
    .isa = "avx512",
    .features = FEATURES_AVX2 | FEATURES_AVX512,
    SHAPE(AVX512),
    QLM_COMMON_KERNELS(SLOT_avx512)
    QLM_INT16_KERNELS(SLOT_avx512)
    QLM_INT8_KERNELS(SLOT_avx512)
};

SHAPE_FITS(AVX512VNNI);
static const struct qlm_kernels avx512vnni_table = {
    .isa = "avx512vnni",
    .features = FEATURES_AVX2 | FEATURES_AVX512 | QLM_CPU_AVX512VNNI,
    SHAPE(AVX512VNNI),
    QLM_COMMON_KERNELS(SLOT_avx512)
    QLM_INT16_KERNELS(SLOT_avx512vnni)
    QLM_INT8_KERNELS(SLOT_avx512vnni)
};

SHAPE_FITS(AVX512VBMI);
static const struct qlm_kernels avx512vbmi_table = {
    .isa = "avx512vbmi",
    .features = FEATURES_AVX2 | FEATURES_AVX512 | QLM_CPU_AVX512VNNI | QLM_CPU_AVX512VBMI | QLM_CPU_AVX512VBMI2,
    SHAPE(AVX512VBMI),
    QLM_COMMON_KERNELS(SLOT_avx512)
    QLM_INT16_KERNELS(SLOT_avx512vnni)
    QLM_INT8_KERNELS(SLOT_avx512vbmi)
};

static const struct qlm_kernels *const tables[] = {&scalar_table, &avx2_table,       &avxvnni_table,
                                                   &avx512_table, &avx512vnni_table, &avx512vbmi_table};

#elif defined(__aarch64__)

SHAPE_FITS(NEON);
static const struct qlm_kernels neon_table = {
    .isa = "neon",
    .features = QLM_CPU_NEON,
    SHAPE(NEON),
    QLM_COMMON_KERNELS(SLOT_neon)
    QLM_INT16_KERNELS(SLOT_neon)
    QLM_INT8_KERNELS(SLOT_neon)
};

SHAPE_FITS(NEONDOT);
static const struct qlm_kernels neondot_table = {
    .isa = "neondot",
    .features = QLM_CPU_NEON | QLM_CPU_DOTPROD,
    SHAPE(NEONDOT),
    QLM_COMMON_KERNELS(SLOT_neon)
    QLM_INT16_KERNELS(SLOT_neon)
    QLM_INT8_KERNELS(SLOT_neondot)
};

SHAPE_FITS(NEONI8MM);
static const struct qlm_kernels neoni8mm_table = {
    .isa = "neoni8mm",
    .features = QLM_CPU_NEON | QLM_CPU_DOTPROD | QLM_CPU_I8MM,
    SHAPE(NEONI8MM),
    QLM_COMMON_KERNELS(SLOT_neon)
    QLM_INT16_KERNELS(SLOT_neon)
    QLM_INT8_KERNELS(SLOT_neoni8mm)
};

static const struct qlm_kernels *const tables[] = {&scalar_table, &neon_table, &neondot_table, &neoni8mm_table};

#else

static const struct qlm_kernels *const tables[] = {&scalar_table};

#endif

/* clang-format on */

#define TABLE_COUNT (sizeof tables / sizeof tables[0])

const struct qlm_kernels *qlm_kernels_in_use = &scalar_table;

const struct qlm_kernels *qlm_kernels_at(size_t index) { return index < TABLE_COUNT ? tables[index] : NULL; }

int qlm_kernels_usable(const struct qlm_kernels *table)
{ return (qlm_cpu_features() & table->features) == table->features; }

const struct qlm_kernels *qlm_kernels_named(const char *isa)
{
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (strcmp(tables[i]->isa, isa) == 0) return qlm_kernels_usable(tables[i]) ? tables[i] : NULL;
    return NULL;
}

const struct qlm_kernels *qlm_kernels_best(void)
{
    size_t best = TABLE_COUNT - 1;
    while (best > 0 && !qlm_kernels_usable(tables[best])) best--;
    return tables[best];
}

void qlm_kernels_use(const struct qlm_kernels *table) { qlm_kernels_in_use = table; }
