/* Every kernel but the matrix products for NEON. */
#if defined(__aarch64__)

#define QLM_ISA neon
#include "vec_neon.h"

#include "kernels.h"

#include "functions.inc.h"
#include "quantize.inc.h"
#include "elementwise.inc.h"
#include "groups.inc.h"
#include "rows.inc.h"
#include "epilogue.inc.h"

#endif
