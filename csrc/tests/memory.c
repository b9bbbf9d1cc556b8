/* memory.c: the library's allocations, watched: how many there are, which are still held, and one that fails.
 *
 * The test is linked with --wrap (csrc/build.mk), so that malloc and its like come here first. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "test.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **block, size_t alignment, size_t bytes);
void __real_free(void *block);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **block, size_t alignment, size_t bytes);
void __wrap_free(void *block);

#define HELD_MAX 256

static struct {
    atomic_int on;
    atomic_size_t count;
    size_t fail_at;
    int for_ever;
    pthread_mutex_t lock; /* of those held */
    void *held[HELD_MAX];
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

void memory_watch(size_t fail_at, int for_ever)
{
    watch.fail_at = fail_at;
    watch.for_ever = for_ever;
    atomic_store(&watch.count, 0);
    atomic_store(&watch.on, 1);
}

size_t memory_unwatch(void)
{
    atomic_store(&watch.on, 0);
    return atomic_load(&watch.count);
}

size_t memory_held(void)
{
    size_t held = 0;
    for (size_t i = 0; i < HELD_MAX; i++) held += watch.held[i] != NULL;
    return held;
}

/* Whether this allocation has to fail. */
static int is_refused(void)
{
    if (!atomic_load(&watch.on)) return 0;
    size_t number = atomic_fetch_add(&watch.count, 1);
    return number == watch.fail_at || (watch.for_ever && number > watch.fail_at);
}

static void replace(void *from, void *to)
{
    pthread_mutex_lock(&watch.lock);
    size_t i = 0;
    while (i < HELD_MAX && watch.held[i] != from) i++;
    if (i < HELD_MAX) watch.held[i] = to;
    pthread_mutex_unlock(&watch.lock);
}

static void *held(void *block)
{
    if (block && atomic_load(&watch.on)) replace(NULL, block);
    return block;
}

void *__wrap_malloc(size_t bytes) { return is_refused() ? NULL : held(__real_malloc(bytes)); }

void *__wrap_calloc(size_t count, size_t bytes) { return is_refused() ? NULL : held(__real_calloc(count, bytes)); }

void *__wrap_realloc(void *block, size_t bytes)
{
    if (is_refused()) return NULL;
    if (block) replace(block, NULL);
    return held(__real_realloc(block, bytes));
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{ return is_refused() ? NULL : held(__real_aligned_alloc(alignment, bytes)); }

int __wrap_posix_memalign(void **block, size_t alignment, size_t bytes)
{
    if (is_refused()) return ENOMEM;
    int error = __real_posix_memalign(block, alignment, bytes);
    if (!error) held(*block);
    return error;
}

void __wrap_free(void *block)
{
    if (block) replace(block, NULL);
    __real_free(block);
}
