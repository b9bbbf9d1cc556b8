/* blocks.c: memory of weights that are smaller than a huge page, several on one.
 *
 * A model's weights are read from L2 and L3 again for each block of rows.  On pages of 4 KiB translations miss, and
 * hardware prefetch stops at each page's end.  MiniLM, a Zen 4 in a virtual machine, by turns with another model: 8.34
 * ms for 128 tokens, now 8.13, for 32 x 128 262 and 256; with nothing in between it gains up to 1 %.
 *
 * Blocks are carved one behind the other out of chunks, and are not used again until all of a chunk are freed, but for
 * the last one: weights are made once and live long.  An empty chunk is kept for what is packed for one call: a new one
 * would cost each such call a huge page (192 x 192 floats, matmul of 4 rows: 106 us for 53).
 */
#include "blocks.h"

#include <pthread.h>

#include "common.h"

#if defined(__linux__) && defined(MADV_HUGEPAGE)

/* Smaller ones would fill a chunk only together with many others; of larger ones a chunk holds one, and what is freed
 * between others would be lost for as long as they live. */
#define SHARED_LEAST (QLM_HUGE_PAGE / 16)
#define SHARED_MOST (QLM_HUGE_PAGE / 2)

struct chunk {
    struct chunk *next;
    size_t used, live; /* bytes, this included, and blocks */
};

#define CHUNK_HEAD QLM_CACHE_LINE

_Static_assert(sizeof(struct chunk) <= CHUNK_HEAD, "blocks start on cache lines");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chunk *chunks;
static struct chunk *empty; /* one of them, or NULL */
static int forks_handled;

static void before_fork(void) { pthread_mutex_lock(&lock); }

static void after_fork(void) { pthread_mutex_unlock(&lock); }

static void handle_forks(void) { forks_handled = pthread_atfork(before_fork, after_fork, after_fork) == 0; }

/* The same answer for a block's whole life. */
static int is_shared(size_t bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (bytes < SHARED_LEAST || bytes > SHARED_MOST) return 0;
    pthread_once(&once, handle_forks);
    return forks_handled;
}

static struct chunk *chunk_with_room(size_t padded)
{
    for (struct chunk *chunk = chunks; chunk; chunk = chunk->next)
        if (QLM_HUGE_PAGE - chunk->used >= padded) return chunk;
    struct chunk *chunk = qlm_aligned_alloc(QLM_HUGE_PAGE);
    if (!chunk) return NULL;
    *chunk = (struct chunk){chunks, CHUNK_HEAD, 0};
    return chunks = chunk;
}

static void drop(const struct chunk *chunk)
{
    struct chunk **link = &chunks;
    while (*link != chunk) link = &(*link)->next;
    *link = chunk->next;
}

void *qlm_block_alloc(size_t bytes)
{
    if (!is_shared(bytes)) return qlm_aligned_alloc(bytes);
    size_t padded = qlm_size_lines(bytes);
    char *block = NULL;
    pthread_mutex_lock(&lock);
    struct chunk *chunk = chunk_with_room(padded);
    if (chunk) {
        if (chunk == empty) empty = NULL;
        block = (char *)chunk + chunk->used;
        chunk->used += padded;
        chunk->live++;
    }
    pthread_mutex_unlock(&lock);
    return block;
}

void qlm_block_free(void *block, size_t bytes)
{
    if (!block || !is_shared(bytes)) {
        qlm_aligned_free(block);
        return;
    }
    size_t at = (uintptr_t)block % QLM_HUGE_PAGE, padded = qlm_size_lines(bytes);
    struct chunk *chunk = (struct chunk *)((char *)block - at);
    pthread_mutex_lock(&lock);
    if (at + padded == chunk->used) chunk->used = at;
    struct chunk *useless = NULL;
    if (!--chunk->live) {
        chunk->used = CHUNK_HEAD;
        if (empty)
            drop(useless = chunk);
        else
            empty = chunk;
    }
    pthread_mutex_unlock(&lock);
    qlm_aligned_free(useless);
}

#else

void *qlm_block_alloc(size_t bytes) { return qlm_aligned_alloc(bytes); }

void qlm_block_free(void *block, size_t bytes)
{
    (void)bytes;
    qlm_aligned_free(block);
}

#endif
