/* blocks.h: long-lived memory, on huge pages where the system has them (blocks.c). */
#ifndef QLM_BLOCKS_H
#define QLM_BLOCKS_H

#include <stddef.h>

/* 64-byte aligned; NULL: no memory. */
void *qlm_block_alloc(size_t bytes);
/* With the size that it was allocated with; NULL is nothing. */
void qlm_block_free(void *block, size_t bytes);

#endif
