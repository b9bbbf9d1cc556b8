/* Every kernel but the matrix products in plain C: their definition. */
#define QLM_ISA scalar
#include "vec_scalar.h"

#include "kernels.h"

#include "functions.inc.h"
#include "quantize.inc.h"
#include "elementwise.inc.h"
#include "groups.inc.h"
#include "rows.inc.h"
#include "epilogue.inc.h"
