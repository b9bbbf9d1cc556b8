/* test_memory.c: every allocation of the library made to fail, one after the other: QLM_NO_MEMORY or the right result,
 * nothing leaked, and the next call works.  And calls that allocate nothing once they are warm. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "common.h"
#include "test.h"

#define ROWS 200
#define K 96
#define N 70
#define HEADS 3

/* ---- what is computed ------------------------------------------------------------------------------------------ */

enum weight { INT8, GROUPS, OFFSETS, INT16, FLOATS, WEIGHTS };

static struct {
    float x[ROWS * K], values[N * K], params[N * 3], bias[N];
    int32_t zeros[N * 3];
    int8_t codes[N * K];
    int16_t wide[N * K];
    struct qlm_packed weights[WEIGHTS]; /* for the kernels in use */
    float out[3][ROWS * N];
    int64_t exact[ROWS * N];
} scene;

static const struct qlm_type int8 = {QLM_S8, 8, -128, 127}, uint8 = {QLM_U8, 8, 0, 255},
                             int16 = {QLM_S16, 16, -32768, 32767};

static enum qlm_status pack(struct qlm_packed *packed, enum weight weight)
{
    if (weight == FLOATS) return qlm_pack(packed, scene.values, &(struct qlm_type){0}, N, K, 0, 1, NULL, NULL, NULL);
    int groups = weight == GROUPS;
    return qlm_pack(packed, weight == INT16 ? (void *)scene.wide : scene.codes, weight == INT16 ? &int16 : &int8, N, K,
                    groups ? 32 : 0, 0, scene.params, groups ? scene.zeros : NULL,
                    weight == OFFSETS ? scene.params : NULL);
}

static void set_scene(void)
{
    struct rng rng = {7};
    fill_floats(&rng, PLAIN, 0, scene.x, ROWS * K);
    fill_floats(&rng, PLAIN, 0, scene.values, N * K);
    fill_floats(&rng, PLAIN, 0, scene.bias, N);
    fill_codes(&rng, &int8, scene.codes, N * K);
    fill_codes(&rng, &int16, scene.wide, N * K);
    fill_ints(&rng, -128, 127, scene.zeros, N * 3);
    for (size_t i = 0; i < N * 3; i++) scene.params[i] = rng_scale(&rng);
}

static enum qlm_status linear(enum qlm_input_kind kind, size_t rows, const struct qlm_type *type, size_t group,
                              const struct qlm_packed *const *weights, size_t count)
{
    static const float scale = 0.05f;
    static const int32_t zero = 3;
    struct qlm_linear_input input = {.kind = kind, .x = scene.x, .m = rows, .k = K, .type = *type, .group = group};
    struct qlm_linear_output outputs[3];
    size_t bad;
    if (kind == QLM_INPUT_STATIC || kind == QLM_INPUT_CODES) {
        input.codes = scene.codes;
        input.scale = &scale;
        input.zero = &zero;
        input.per_tensor = 1;
    }
    for (size_t i = 0; i < count; i++)
        outputs[i] = (struct qlm_linear_output){
            .weight = weights[i], .bias = scene.bias, .activation = QLM_GELU, .out = scene.out[i]};
    return qlm_linear(&input, outputs, count, 0, input.m, &bad);
}

static enum qlm_status linear_of(enum weight weight, enum qlm_input_kind kind, size_t rows, const struct qlm_type *type,
                                 size_t group)
{ return linear(kind, rows, type, group, (const struct qlm_packed *[]){&scene.weights[weight]}, 1); }

static enum qlm_status pack_and_multiply(enum weight weight, enum qlm_input_kind kind)
{
    struct qlm_packed packed;
    enum qlm_status status = pack(&packed, weight);
    if (status == QLM_OK) status = linear(kind, 5, &uint8, 0, (const struct qlm_packed *[]){&packed}, 1);
    qlm_packed_free(&packed);
    return status;
}

static enum qlm_status packed_codes(void) { return pack_and_multiply(GROUPS, QLM_INPUT_DYNAMIC); }
static enum qlm_status packed_floats(void) { return pack_and_multiply(FLOATS, QLM_INPUT_FLOAT); }
static enum qlm_status one_row(void) { return linear_of(INT8, QLM_INPUT_DYNAMIC, 1, &uint8, 0); }
static enum qlm_status few_rows(void) { return linear_of(INT8, QLM_INPUT_DYNAMIC, 13, &int8, 0); }
static enum qlm_status many_rows(void) { return linear_of(INT8, QLM_INPUT_DYNAMIC, ROWS, &uint8, 0); }
static enum qlm_status grouped(void) { return linear_of(GROUPS, QLM_INPUT_DYNAMIC, ROWS, &uint8, 0); }
static enum qlm_status grouped_both(void) { return linear_of(GROUPS, QLM_INPUT_DYNAMIC, 40, &uint8, 32); }
static enum qlm_status offsets(void) { return linear_of(OFFSETS, QLM_INPUT_DYNAMIC, 40, &uint8, 0); }
static enum qlm_status fixed(void) { return linear_of(INT8, QLM_INPUT_STATIC, 40, &uint8, 0); }
static enum qlm_status codes(void) { return linear_of(INT8, QLM_INPUT_CODES, 40, &int8, 0); }
static enum qlm_status wide(void) { return linear_of(INT16, QLM_INPUT_DYNAMIC, 40, &int16, 0); }
static enum qlm_status floats(void) { return linear_of(FLOATS, QLM_INPUT_FLOAT, ROWS, &uint8, 0); }
static enum qlm_status weight_only(void) { return linear_of(GROUPS, QLM_INPUT_FLOAT, ROWS, &uint8, 0); }
static enum qlm_status finer_groups(void) { return linear_of(INT8, QLM_INPUT_DYNAMIC, 40, &uint8, 32); }
static enum qlm_status wider_input(void) { return linear_of(GROUPS, QLM_INPUT_DYNAMIC, 40, &int16, 0); }

static enum qlm_status outputs_alike(void)
{
    const struct qlm_packed *same = &scene.weights[INT8];
    return linear(QLM_INPUT_DYNAMIC, 40, &uint8, 0, (const struct qlm_packed *[]){same, same, same}, 3);
}

static enum qlm_status outputs_of_any_layout(void)
{
    const struct qlm_packed *w = scene.weights;
    return linear(QLM_INPUT_DYNAMIC, 40, &uint8, 0, (const struct qlm_packed *[]){&w[INT8], &w[GROUPS], &w[INT16]}, 3);
}

static enum qlm_status exact(void)
{ return qlm_matmul_codes(scene.codes, &int8, N, &scene.weights[INT16], 1, 0, N, scene.exact); }

static enum qlm_status attention(void)
{
    static const size_t starts[] = {0, 61, 122, 183}; /* alike: a block grows with the longest */
    return qlm_attention(scene.x, scene.x + K / 3, scene.x + 2 * K / 3, K, starts, 0, 3, HEADS, K / 3 / HEADS, 0.3f, 0,
                         scene.out[0]);
}

/* warm: no allocation once it has run; the others lay a weight out again in each call (qlm.h). */
static const struct scenario {
    const char *name;
    enum qlm_status (*run)(void);
    int warm;
} scenarios[] = {
    {"packed codes", packed_codes, 0},
    {"packed floats", packed_floats, 0},
    {"one row", one_row, 1},
    {"few rows", few_rows, 1},
    {"many rows", many_rows, 1},
    {"groups", grouped, 1},
    {"groups on both sides", grouped_both, 1},
    {"float offsets", offsets, 1},
    {"static input", fixed, 1},
    {"codes", codes, 1},
    {"16 bits", wide, 1},
    {"floats", floats, 1},
    {"weight-only", weight_only, 1},
    {"finer groups of the input", finer_groups, 0},
    {"an input of more bits", wider_input, 0},
    {"three outputs", outputs_alike, 1},
    {"three outputs of different layouts", outputs_of_any_layout, 0},
    {"an exact product", exact, 0},
    {"attention", attention, 1},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

/* ---- runs on a thread that has no memory of its own yet --------------------------------------------------------- */

struct run {
    const struct scenario *scenario;
    const char *isa;
    unsigned threads;
    size_t fail_at;
    int for_ever;
    /* what came of it */
    enum qlm_status status;
    size_t allocations;
    unsigned char *results; /* of a run in which nothing failed */
};

#define RESULT_BYTES (sizeof scene.out + sizeof scene.exact)

static enum qlm_status compute(const struct scenario *scenario)
{
    memset(scene.out, 0xee, sizeof scene.out);
    memset(scene.exact, 0xee, sizeof scene.exact);
    return scenario->run();
}

static int results_are(const unsigned char *wanted)
{
    return memcmp(wanted, scene.out, sizeof scene.out) == 0 &&
           memcmp(wanted + sizeof scene.out, scene.exact, sizeof scene.exact) == 0;
}

static void *failing_run(void *context)
{
    struct run *run = context;
    memory_watch(run->fail_at, run->for_ever);
    run->status = compute(run->scenario);
    run->allocations = memory_unwatch();
    int right = run->status == QLM_OK && results_are(run->results);
    check(right || (run->status == QLM_NO_MEMORY && run->allocations > run->fail_at),
          "%s %s, %u threads, allocation %zu fails: status %d", run->scenario->name, run->isa, run->threads,
          run->fail_at, (int)run->status);
    memory_watch(SIZE_MAX, 0); /* what it takes now belongs to this thread, or is freed with the workers */
    enum qlm_status again = compute(run->scenario);
    memory_unwatch();
    check(again == QLM_OK && results_are(run->results), "%s %s, %u threads, after allocation %zu failed: status %d",
          run->scenario->name, run->isa, run->threads, run->fail_at, (int)again);
    return NULL;
}

static void on_fresh_threads(void *(*body)(void *), struct run *run)
{
    pthread_t thread;
    qlm_set_threads(run->threads);
    if (pthread_create(&thread, NULL, body, run) != 0 || pthread_join(thread, NULL) != 0) abort();
    qlm_set_threads(1); /* the workers end, and their memory with them */
}

/* What the library keeps for good: blocks.c an empty chunk. */
static size_t kept;

/* How many runs ended for want of memory. */
static size_t fail_each_allocation(struct run *run)
{
    size_t refused = 0;
    for (run->for_ever = 0; run->for_ever < 2; run->for_ever++)
        for (run->fail_at = 0, run->allocations = 1; run->allocations > run->fail_at; run->fail_at++) {
            now_running(run->scenario->name, run->isa, run->fail_at);
            on_fresh_threads(failing_run, run);
            check(memory_held() == kept, "%s %s, %u threads, allocation %zu fails: %zu blocks leak",
                  run->scenario->name, run->isa, run->threads, run->fail_at, memory_held() - kept);
            refused += run->status == QLM_NO_MEMORY;
            if (run->fail_at > 100) break; /* checked below */
        }
    check(run->fail_at <= 100, "%s allocates without end", run->scenario->name);
    return refused;
}

/* ---- warm calls ------------------------------------------------------------------------------------------------- */

/* A worker takes memory in the first task that it gets, and again in the first larger one, and nobody knows when that
 * is.
 */
#define SIZES 4
static void *warm_run(void *context)
{
    struct run *run = context;
    size_t calls = run->threads == 1 ? 5 : 40;
    for (size_t i = 0; i < 3; i++) run->scenario->run();
    memory_watch(SIZE_MAX, 0);
    for (size_t i = 0; i < calls; i++) run->scenario->run();
    run->allocations = memory_unwatch();
    check(run->allocations <= (run->threads - 1) * SIZES, "%s %s, %u threads: %zu allocations in %zu warm calls",
          run->scenario->name, run->isa, run->threads, run->allocations, calls);
    return NULL;
}

/* ---- blocks that share pages ------------------------------------------------------------------------------------- */

#define BLOCKS 40

struct held_block {
    unsigned char *bytes;
    size_t size;
};

static struct held_block new_block(struct rng *rng, unsigned char mark)
{
    static const size_t sizes[] = {1,
                                   100,
                                   200000,
                                   700001,
                                   QLM_HUGE_PAGE / 16 - 1,
                                   QLM_HUGE_PAGE / 16,
                                   QLM_HUGE_PAGE / 2,
                                   QLM_HUGE_PAGE / 2 + 1,
                                   QLM_HUGE_PAGE + 1};
    struct held_block block = {NULL, sizes[rng_below(rng, sizeof sizes / sizeof *sizes)]};
    block.bytes = qlm_block_alloc(block.size);
    check(block.bytes && (uintptr_t)block.bytes % QLM_CACHE_LINE == 0, "a block of %zu bytes", block.size);
    if (block.bytes) memset(block.bytes, mark, block.size);
    return block;
}

static void free_block(struct held_block *block, unsigned char mark)
{
    size_t wrong = 0;
    for (size_t i = 0; i < block->size; i++) wrong += block->bytes[i] != mark;
    check(!wrong, "%zu bytes of a block of %zu are another's", wrong, block->size);
    qlm_block_free(block->bytes, block->size);
    block->bytes = NULL;
}

/* Blocks of all sizes come and go; each keeps its bytes, and one empty chunk is left in the end. */
static void test_blocks(void)
{
    struct held_block blocks[BLOCKS] = {{NULL, 0}};
    struct rng rng = {11};
    memory_watch(SIZE_MAX, 0);
    for (size_t turn = 0; turn < 10 * BLOCKS; turn++) {
        size_t i = rng_below(&rng, BLOCKS);
        if (blocks[i].bytes)
            free_block(&blocks[i], (unsigned char)i);
        else
            blocks[i] = new_block(&rng, (unsigned char)i);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (blocks[i].bytes) free_block(&blocks[i], (unsigned char)i);
    memory_unwatch();
    kept = memory_held();
    check(kept == 1, "%zu chunks are left", kept);
    void *most = qlm_block_alloc(QLM_HUGE_PAGE / 2);
    memory_watch(0, 1);
    check(!qlm_block_alloc(QLM_HUGE_PAGE / 2), "a block without memory");
    memory_unwatch();
    qlm_block_free(most, QLM_HUGE_PAGE / 2);
    qlm_block_free(NULL, QLM_HUGE_PAGE / 2);
}

/* ---- all ------------------------------------------------------------------------------------------------------- */

static size_t test_scenario(const struct scenario *scenario, const char *isa)
{
    static unsigned char results[RESULT_BYTES];
    size_t refused = 0;
    check(compute(scenario) == QLM_OK, "%s %s", scenario->name, isa);
    memcpy(results, scene.out, sizeof scene.out);
    memcpy(results + sizeof scene.out, scene.exact, sizeof scene.exact);
    unsigned most = getenv("QLM_TEST_EMULATED") ? 1 : 3; /* threads that wait for each other take qemu for ever */
    for (unsigned threads = 1; threads <= most; threads += 2) {
        struct run run = {.scenario = scenario, .isa = isa, .threads = threads, .results = results};
        refused += fail_each_allocation(&run);
        if (scenario->warm) on_fresh_threads(warm_run, &run);
    }
    return refused;
}

void test_memory(void)
{
    unsigned before = qlm_threads();
    size_t refused = 0;
    test_blocks();
    set_scene();
    qlm_set_threads(1);
    for (size_t i = 0; qlm_kernels_at(i); i++) {
        if (!qlm_kernels_usable(qlm_kernels_at(i))) continue;
        qlm_kernels_use(qlm_kernels_at(i));
        for (int w = 0; w < WEIGHTS; w++) check(pack(&scene.weights[w], (enum weight)w) == QLM_OK, "qlm_pack");
        for (size_t s = 0; s < SCENARIOS; s++) refused += test_scenario(&scenarios[s], qlm_kernels_at(i)->isa);
        for (int w = 0; w < WEIGHTS; w++) qlm_packed_free(&scene.weights[w]);
    }
    check(refused > SCENARIOS, "only %zu runs were refused memory: is it watched?", refused);
    qlm_kernels_use(qlm_kernels_best());
    qlm_set_threads(before);
}
