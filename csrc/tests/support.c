/* support.c: numbers, guarded memory and records for the C tests. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"
#include "test.h"

/* ---- results -------------------------------------------------------------------------------------------------- */

size_t tests_passed, tests_failed;

#define MESSAGES_MAX 40

void check(int passed, const char *format, ...)
{
    va_list arguments;
    if (passed) {
        tests_passed++;
        return;
    }
    if (++tests_failed > MESSAGES_MAX) return;
    va_start(arguments, format);
    fputs("FAILED ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* ---- numbers -------------------------------------------------------------------------------------------------- */

const struct qlm_type test_types[TYPE_COUNT] = {{QLM_S8, 8, -128, 127},       {QLM_U8, 8, 0, 255},
                                                {QLM_S8, 4, -8, 7},           {QLM_U8, 4, 0, 15},
                                                {QLM_S16, 16, -32768, 32767}, {QLM_U16, 16, 0, 65535}};

/* splitmix64 */
uint64_t rng_next(struct rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

size_t rng_below(struct rng *rng, size_t n) { return (size_t)(rng_next(rng) % n); }

int64_t rng_between(struct rng *rng, int64_t lo, int64_t hi)
{ return lo + (int64_t)(rng_next(rng) % (uint64_t)(hi - lo + 1)); }

size_t rng_length(struct rng *rng) { return rng_below(rng, 12) ? rng_below(rng, 71) : rng_below(rng, 700); }

static float unit(struct rng *rng) { return (float)(rng_next(rng) >> 40) * 0x1p-24f; }

float rng_scale(struct rng *rng) { return ldexpf(1.0f + unit(rng), (int)rng_between(rng, -20, 4)); }

enum flavour rng_flavour(struct rng *rng) { return (enum flavour)rng_below(rng, FLAVOURS); }

static float plain(struct rng *rng) { return ldexpf(unit(rng) * 2 - 1, (int)rng_between(rng, -4, 4)); }

static float extreme(struct rng *rng)
{
    static const float values[] = {0.0f,       -0.0f,   FLT_MAX, -FLT_MAX, FLT_MIN, -FLT_MIN, 0x1p-149f,
                                   -0x1p-140f, 1.0f,    -1.0f,   0.5f,     -0.5f,   88.0f,    -88.0f,
                                   1e30f,      -1e-30f, 9.0f,    -127.5f,  127.5f,  1e-3f};
    return values[rng_below(rng, sizeof values / sizeof values[0])];
}

static float nonfinite(struct rng *rng)
{
    static const uint32_t bits[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffffffffu};
    return rng_below(rng, 8) ? plain(rng) : qlm_float_from_bits(bits[rng_below(rng, 6)]);
}

/* A half multiple of step, exact or one unit off either way. */
static float tie(struct rng *rng, float step)
{
    float x = ((float)rng_between(rng, -300, 300) + 0.5f) * step;
    uint32_t bits = qlm_float_bits(x);
    return bits & 0x7fffffffu ? qlm_float_from_bits(bits + (uint32_t)rng_between(rng, 0, 2) - 1) : x;
}

void fill_floats(struct rng *rng, enum flavour flavour, float step, float *x, size_t n)
{
    float constant = plain(rng);
    for (size_t i = 0; i < n; i++) {
        switch (flavour) {
        case EXTREME:
            x[i] = extreme(rng);
            break;
        case NONFINITE:
            x[i] = nonfinite(rng);
            break;
        case TIES:
            x[i] = tie(rng, step);
            break;
        case CONSTANT:
            x[i] = constant;
            break;
        default:
            x[i] = plain(rng);
        }
    }
}

void fill_ints(struct rng *rng, int64_t lo, int64_t hi, int32_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (int32_t)rng_between(rng, lo, hi);
}

size_t code_size(const struct qlm_type *type) { return type->bits > 8 ? 2 : 1; }

void fill_codes(struct rng *rng, const struct qlm_type *type, void *codes, size_t n)
{
    int ends_only = rng_below(rng, 4) == 0;
    for (size_t i = 0; i < n; i++) {
        int64_t code = rng_between(rng, type->min, type->max);
        if (ends_only) code = rng_below(rng, 2) ? type->min : type->max;
        if (type->bits > 8)
            ((uint16_t *)codes)[i] = (uint16_t)code;
        else
            ((uint8_t *)codes)[i] = (uint8_t)code;
    }
}

int32_t code_at(const struct qlm_type *type, const void *codes, size_t i)
{
    switch (type->code) {
    case QLM_S8:
        return ((const int8_t *)codes)[i];
    case QLM_U8:
        return ((const uint8_t *)codes)[i];
    case QLM_S16:
        return ((const int16_t *)codes)[i];
    default:
        return ((const uint16_t *)codes)[i];
    }
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

#define SLOTS 40
#define SLOT_BYTES ((size_t)256 << 10)
#define WATCHED 64
#define POISON 0xa5

static struct {
    unsigned char *memory[SLOTS]; /* SLOT_BYTES each, between two pages that cannot be touched */
    const unsigned char *watched[SLOTS];
    size_t used;
    enum side side;
} slots;

static unsigned char *map_slot(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *map = mmap(NULL, SLOT_BYTES + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + page, SLOT_BYTES, PROT_READ | PROT_WRITE) != 0) {
        perror("mmap");
        exit(2);
    }
    return map + page;
}

void operands_reset(enum side side)
{
    for (size_t i = 0; i < slots.used; i++) {
        int clean = 1;
        for (size_t j = 0; j < WATCHED; j++) clean &= slots.watched[i][j] == POISON;
        check(clean, "operand %zu: bytes beside it were written", i);
    }
    slots.used = 0;
    slots.side = side;
}

void *operand(size_t bytes)
{
    if (slots.used == SLOTS || bytes > SLOT_BYTES - WATCHED) {
        fprintf(stderr, "a test asks for too much memory\n");
        exit(2);
    }
    size_t slot = slots.used++;
    if (!slots.memory[slot]) slots.memory[slot] = map_slot();
    unsigned char *start = slots.memory[slot], *watched = start + bytes;
    if (slots.side == FLUSH_RIGHT) {
        start += SLOT_BYTES - bytes;
        watched = start - WATCHED;
    }
    memset(start, POISON, bytes);
    memset(watched, POISON, WATCHED);
    slots.watched[slot] = watched;
    return start;
}

void *must_alloc(size_t bytes)
{
    void *block = malloc(bytes ? bytes : 1);
    if (!block) {
        perror("malloc");
        exit(2);
    }
    return block;
}

/* ---- records -------------------------------------------------------------------------------------------------- */

void record_bytes(struct record *record, const void *bytes, size_t n)
{
    if (record->size + n > record->capacity) {
        record->capacity = 2 * (record->size + n);
        record->bytes = realloc(record->bytes, record->capacity);
        if (!record->bytes) exit(2);
    }
    if (n) memcpy(record->bytes + record->size, bytes, n);
    record->size += n;
}

void record_int(struct record *record, int64_t value) { record_bytes(record, &value, sizeof value); }

void record_ints(struct record *record, const int32_t *x, size_t n) { record_bytes(record, x, n * sizeof *x); }

void record_floats(struct record *record, const float *x, size_t n) { record_bytes(record, x, n * sizeof *x); }

void record_numbers(struct record *record, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float value = x[i] != x[i] ? NAN : x[i];
        record_bytes(record, &value, sizeof value);
    }
}

void record_clear(struct record *record)
{
    free(record->bytes);
    *record = (struct record){NULL, 0, 0};
}

void check_records(const struct record *want, const struct record *got, const char *what, const char *isa,
                   uint64_t seed, const char *how)
{
    size_t size = qlm_min_size(want->size, got->size), at = 0;
    while (at < size && want->bytes[at] == got->bytes[at]) at++;
    int same = at == size && want->size == got->size;
    uint32_t a = 0, b = 0;
    if (!same && at / 4 * 4 + 4 <= size) {
        memcpy(&a, want->bytes + at / 4 * 4, 4);
        memcpy(&b, got->bytes + at / 4 * 4, 4);
    }
    check(same, "%s %s seed %llu %s: byte %zu of %zu (%zu): want %08x, got %08x", what, isa, (unsigned long long)seed,
          how, at, want->size, got->size, a, b);
}
