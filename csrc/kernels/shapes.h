/* shapes.h: the tile of each table's matrix kernels: what dispatch.c puts into struct qlm_kernels and what the kernels
 * are compiled for.
 *
 * LEFT and K_STEP say how the int8 product reads its left operand, NR is the width of every panel of the table, and
 * MR_* are the rows that a call takes at most; linear_8 takes ROWS_8.  NR is one number for the int8, the int16 and the
 * float panel, so tables that share kernels (avxvnni with avx2) share it.  MR_* are the most accumulators that still
 * leave registers for the operands (x86 AVX2 has 16, AVX-512 and NEON have 32), but AVX2's MR_4, which its kernel cuts.
 */
#ifndef QLM_SHAPES_H
#define QLM_SHAPES_H

#include "kernels.h"

#define QLM_SCALAR_LEFT QLM_LEFT_U8
#define QLM_SCALAR_K_STEP 4
#define QLM_SCALAR_NR 16
#define QLM_SCALAR_MR_8 4
#define QLM_SCALAR_ROWS_8 QLM_SCALAR_MR_8
#define QLM_SCALAR_LEFT_4 QLM_LEFT_U8
#define QLM_SCALAR_MR_4 4
#define QLM_SCALAR_EXPAND_ROWS 8
#define QLM_SCALAR_FOLD_4 1
#define QLM_SCALAR_MR_16 4
#define QLM_SCALAR_MR_F32 4

/* 6 x 16: 12 accumulators of 8, two registers of weights, one of activations, one for the product. */
#define QLM_AVX2_LEFT QLM_LEFT_S16
#define QLM_AVX2_K_STEP 2
#define QLM_AVX2_NR 16
#define QLM_AVX2_MR_8 6
#define QLM_AVX2_ROWS_8 32
#define QLM_AVX2_LEFT_4 QLM_LEFT_U8
#define QLM_AVX2_MR_4 16
#define QLM_AVX2_EXPAND_ROWS 8
#define QLM_AVX2_FOLD_4 0
#define QLM_AVX2_MR_16 6
#define QLM_AVX2_MR_F32 6

/* The float and int16 kernels are avx2's. */
#define QLM_AVXVNNI_LEFT QLM_LEFT_U8
#define QLM_AVXVNNI_K_STEP 4
#define QLM_AVXVNNI_NR QLM_AVX2_NR
#define QLM_AVXVNNI_MR_8 6
#define QLM_AVXVNNI_ROWS_8 QLM_AVXVNNI_MR_8
#define QLM_AVXVNNI_LEFT_4 QLM_AVXVNNI_LEFT
#define QLM_AVXVNNI_MR_4 QLM_AVXVNNI_MR_8
#define QLM_AVXVNNI_EXPAND_ROWS 24
#define QLM_AVXVNNI_FOLD_4 1
#define QLM_AVXVNNI_MR_16 QLM_AVX2_MR_16
#define QLM_AVXVNNI_MR_F32 QLM_AVX2_MR_F32

/* 12 x 32: 24 accumulators of 16, two registers of weights; activations are broadcast from memory. */
#define QLM_AVX512_LEFT QLM_LEFT_S16
#define QLM_AVX512_K_STEP 2
#define QLM_AVX512_NR 32
#define QLM_AVX512_MR_8 12
#define QLM_AVX512_ROWS_8 QLM_AVX512_MR_8
#define QLM_AVX512_LEFT_4 QLM_LEFT_U8
#define QLM_AVX512_MR_4 6
#define QLM_AVX512_EXPAND_ROWS 12
#define QLM_AVX512_FOLD_4 0
#define QLM_AVX512_MR_16 12
#define QLM_AVX512_MR_F32 12

#define QLM_AVX512VNNI_LEFT QLM_LEFT_U8
#define QLM_AVX512VNNI_K_STEP 4
#define QLM_AVX512VNNI_NR QLM_AVX512_NR
#define QLM_AVX512VNNI_MR_8 12
#define QLM_AVX512VNNI_ROWS_8 QLM_AVX512VNNI_MR_8
#define QLM_AVX512VNNI_LEFT_4 QLM_AVX512VNNI_LEFT
#define QLM_AVX512VNNI_MR_4 QLM_AVX512VNNI_MR_8
#define QLM_AVX512VNNI_EXPAND_ROWS 64
#define QLM_AVX512VNNI_FOLD_4 1
#define QLM_AVX512VNNI_MR_16 QLM_AVX512_MR_16
#define QLM_AVX512VNNI_MR_F32 QLM_AVX512_MR_F32

#define QLM_AVX512VBMI_LEFT QLM_AVX512VNNI_LEFT
#define QLM_AVX512VBMI_K_STEP QLM_AVX512VNNI_K_STEP
#define QLM_AVX512VBMI_NR QLM_AVX512_NR
#define QLM_AVX512VBMI_MR_8 QLM_AVX512VNNI_MR_8
#define QLM_AVX512VBMI_ROWS_8 QLM_AVX512VBMI_MR_8
#define QLM_AVX512VBMI_LEFT_4 QLM_AVX512VNNI_LEFT_4
#define QLM_AVX512VBMI_MR_4 QLM_AVX512VNNI_MR_4
#define QLM_AVX512VBMI_EXPAND_ROWS QLM_AVX512VNNI_EXPAND_ROWS
#define QLM_AVX512VBMI_FOLD_4 2
#define QLM_AVX512VBMI_MR_16 QLM_AVX512_MR_16
#define QLM_AVX512VBMI_MR_F32 QLM_AVX512_MR_F32

/* 6 x 16: 24 accumulators of 4, four registers of weights, four of activations. */
#define QLM_NEON_LEFT QLM_LEFT_S8
#define QLM_NEON_K_STEP 2
#define QLM_NEON_NR 16
#define QLM_NEON_MR_8 6
#define QLM_NEON_ROWS_8 QLM_NEON_MR_8
#define QLM_NEON_LEFT_4 QLM_LEFT_S8
#define QLM_NEON_MR_4 4
#define QLM_NEON_EXPAND_ROWS 8
#define QLM_NEON_FOLD_4 0
#define QLM_NEON_MR_16 6
#define QLM_NEON_MR_F32 6

#define QLM_NEONDOT_LEFT QLM_LEFT_S8
#define QLM_NEONDOT_K_STEP 4
#define QLM_NEONDOT_NR QLM_NEON_NR
#define QLM_NEONDOT_MR_8 6
#define QLM_NEONDOT_ROWS_8 QLM_NEONDOT_MR_8
#define QLM_NEONDOT_LEFT_4 QLM_NEONDOT_LEFT
#define QLM_NEONDOT_MR_4 QLM_NEONDOT_MR_8
#define QLM_NEONDOT_EXPAND_ROWS 24
#define QLM_NEONDOT_FOLD_4 1
#define QLM_NEONDOT_MR_16 QLM_NEON_MR_16
#define QLM_NEONDOT_MR_F32 QLM_NEON_MR_F32

/* 3 pairs of rows x 8 pairs of outputs: 24 accumulators of 2 x 2. */
#define QLM_NEONI8MM_LEFT QLM_LEFT_S8
#define QLM_NEONI8MM_K_STEP 8
#define QLM_NEONI8MM_NR QLM_NEON_NR
#define QLM_NEONI8MM_MR_8 6
#define QLM_NEONI8MM_ROWS_8 QLM_NEONI8MM_MR_8
#define QLM_NEONI8MM_LEFT_4 QLM_LEFT_S8
#define QLM_NEONI8MM_MR_4 QLM_NEONI8MM_MR_8
#define QLM_NEONI8MM_EXPAND_ROWS 24
#define QLM_NEONI8MM_FOLD_4 1
#define QLM_NEONI8MM_MR_16 QLM_NEON_MR_16
#define QLM_NEONI8MM_MR_F32 QLM_NEON_MR_F32

#endif
