/* The target attributes of the NEON files that need more than NEON.  To be included before arm_neon.h.
 *
 * clang before 17 knows no "arch=" there, and its arm_neon.h hides the intrinsics of an extension unless the whole file
 * is compiled for it: the macro that says so is defined here, and the attribute sees to the rest.
 */
#ifndef QLM_TARGET_NEON_H
#define QLM_TARGET_NEON_H

#if defined(__clang__)
#define QLM_TARGET_DOTPROD __attribute__((target("dotprod")))
#define QLM_TARGET_I8MM __attribute__((target("dotprod,i8mm")))
#if __clang_major__ < 17
#ifndef __ARM_FEATURE_DOTPROD
#define __ARM_FEATURE_DOTPROD 1
#endif
#ifndef __ARM_FEATURE_MATMUL_INT8
#define __ARM_FEATURE_MATMUL_INT8 1
#endif
#endif
#else
#define QLM_TARGET_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define QLM_TARGET_I8MM __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#endif

#endif
