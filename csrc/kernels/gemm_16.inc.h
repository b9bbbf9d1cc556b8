/* gemm_16.inc.h: the exact int16 product, over one step that the including file defines (gemm.inc.h has the meanings):
 * the types s16_left, s16_right and s16_sum, the functions s16_load_right, s16_load_left, s16_step, s16_first and
 * s16_store, and GEMM_16_MR, GEMM_16_COLUMNS.  A step is two neighbours in k; `option` is the number of steps.
 */
#define TILE(name) s16_##name
#define TILE_C int64_t
#define TILE_MR GEMM_16_MR
#define TILE_COLUMNS GEMM_16_COLUMNS
#define TILE_LEFT_BYTES 4
#define TILE_STEP_BYTES (TILE_COLUMNS * sizeof(s16_right))
#define TILE_KEEP(x)
#define TILE_SPLIT 0
#define TILE_TWO_ROWS 0
#include "gemm.inc.h"

QLM_KERNEL(void, gemm_16)
(size_t m, size_t k2, const int16_t *a, size_t lda, const int16_t *b, int64_t *c, size_t ldc)
{ s16_run(m, k2, (const char *)a, lda * sizeof *a, (const char *)b, c, ldc, k2); }
