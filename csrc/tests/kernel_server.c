/* kernel_server.c: calls kernels by name for a test that runs elsewhere (tests/kernels, NEON under qemu-user).
 *
 * "tables" is answered by a line for each table, "ISA LEFT_TYPE K_STEP NR MR_8 MR_16 MR_F32 ROWS_8
 * LEFT_4 MR_4", and an empty line.
 *
 * Any other request on standard input is a line, a line for each argument, and raw bytes after the line of an array:
 *
 *   call ISA KERNEL i|f left|right COUNT   i, f: what it returns; left, right: the side of each array that touches
 *                                        an inaccessible page
 *   i DECIMAL                            integer
 *   f HEX                                float, its bits
 *   n                                    null pointer
 *   a BYTES r|w                          array, read-only or writable; BYTES bytes follow
 *
 * The answer is "ok INTEGER FLOAT", both in hexadecimal (the one that is not returned is 0), then
 * the bytes of the writable arrays in order; or "fault SIGNAL ARGUMENT OFFSET" (ARGUMENT -1: outside of all), after
 * which the server ends; or "error TEXT", after which it ends. */
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../qlm.h"

enum { MAX_INTEGERS = 28, MAX_FLOATS = 6, POISON = 0xA5 };

struct field {
    const char *name;
    size_t offset;
};

#define FIELD(ret, name, args) {#name, offsetof(struct qlm_kernels, name)},
static const struct field fields[] = {QLM_COMMON_KERNELS(FIELD) QLM_INT16_KERNELS(FIELD) QLM_INT8_KERNELS(FIELD)};

/* An array: [pages, pages + room) is accessible, an inaccessible page lies on either side. */
struct operand {
    unsigned char *pages, *start;
    size_t room, bytes;
    int writable, argument;
};

struct call {
    uint64_t integers[MAX_INTEGERS];
    float floats[MAX_FLOATS];
    size_t integer_count, float_count;
    struct operand operands[MAX_INTEGERS];
    size_t operand_count;
};

static struct call current;
static size_t page_size;

static _Noreturn void fail(const char *text, const char *word)
{
    printf("error %s %s\n", text, word);
    fflush(stdout);
    exit(1);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    const unsigned char *address = info->si_addr;
    int argument = -1;
    ptrdiff_t offset = 0;
    for (size_t i = 0; i < current.operand_count; i++) {
        const struct operand *o = &current.operands[i];
        if (address < o->pages - page_size || address >= o->pages + o->room + page_size) continue;
        argument = o->argument;
        offset = address - o->start;
    }
    char line[96];
    int length = snprintf(line, sizeof line, "fault %d %d %td\n", number, argument, offset);
    ssize_t written = write(STDOUT_FILENO, line, (size_t)length);
    _exit(written == length ? 2 : 3);
}

static void catch_faults(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}

static const struct qlm_kernels *find_table(const char *isa)
{
    const struct qlm_kernels *table;
    for (size_t i = 0; (table = qlm_kernels_at(i)); i++) {
        if (!strcmp(table->isa, isa)) return table;
    }
    fail("no instruction set", isa);
}

typedef void (*any_function)(void);

static any_function find_kernel(const char *isa, const char *kernel)
{
    const struct qlm_kernels *table = find_table(isa);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(fields[i].name, kernel)) continue;
        any_function function;
        memcpy(&function, (const char *)table + fields[i].offset, sizeof function);
        return function;
    }
    fail("no kernel", kernel);
}

static void push(uint64_t integer)
{
    if (current.integer_count == MAX_INTEGERS) fail("too many", "integers");
    current.integers[current.integer_count++] = integer;
}

/* Reads an array flush against the inaccessible page on one side; the rest of its pages is poisoned. */
static void read_array(size_t bytes, int writable, int right, int argument)
{
    size_t room = (bytes + page_size - 1) / page_size * page_size;
    if (room == 0) room = page_size;
    unsigned char *all = mmap(NULL, room + 2 * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) fail("no memory for", "an array");
    unsigned char *pages = all + page_size, *start = pages + (right ? room - bytes : 0);
    mprotect(pages, room, PROT_READ | PROT_WRITE);
    memset(pages, POISON, room);
    if (fread(start, 1, bytes, stdin) != bytes) fail("short", "array");
    if (!writable) mprotect(pages, room, PROT_READ);
    current.operands[current.operand_count++] = (struct operand){pages, start, room, bytes, writable, argument};
    push((uint64_t)(uintptr_t)start);
}

static void read_argument(int argument, int right)
{
    char line[96], access;
    long long integer;
    uint32_t bits;
    size_t bytes;
    if (!fgets(line, sizeof line, stdin)) fail("short", "call");
    if (sscanf(line, "i %lld", &integer) == 1)
        push((uint64_t)integer);
    else if (sscanf(line, "f %" SCNx32, &bits) == 1 && current.float_count < MAX_FLOATS)
        memcpy(&current.floats[current.float_count++], &bits, sizeof bits);
    else if (line[0] == 'n')
        push(0);
    else if (sscanf(line, "a %zu %c", &bytes, &access) == 2)
        read_array(bytes, access == 'w', right, argument);
    else
        fail("bad argument", line);
}

/* Integers and pointers go to the integer registers and then to the stack in words, floats to the vector registers,
 * on AArch64 and x86-64 alike, whatever their order: so a function of fewer parameters ignores the rest. */
#define INTEGERS                                                                                                       \
    i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9], i[10], i[11], i[12], i[13], i[14], i[15], i[16],       \
        i[17], i[18], i[19], i[20], i[21], i[22], i[23], i[24], i[25], i[26], i[27]
#define WORDS4 W, W, W, W
#define WORDS28 WORDS4, WORDS4, WORDS4, WORDS4, WORDS4, WORDS4, WORDS4
#define W uint64_t
typedef uint64_t integer_function(WORDS28, float, float, float, float, float, float);
typedef float float_function(WORDS28, float, float, float, float, float, float);

static void run(any_function function, int gives_float, uint64_t *integer_result, float *float_result)
{
    const uint64_t *i = current.integers;
    const float *f = current.floats;
    *integer_result = 0;
    *float_result = 0;
    if (gives_float)
        *float_result = ((float_function *)function)(INTEGERS, f[0], f[1], f[2], f[3], f[4], f[5]);
    else
        *integer_result = ((integer_function *)function)(INTEGERS, f[0], f[1], f[2], f[3], f[4], f[5]);
}

static int padding_is_whole(const struct operand *o)
{
    for (const unsigned char *p = o->pages; p < o->start; p++) {
        if (*p != POISON) return 0;
    }
    for (const unsigned char *p = o->start + o->bytes; p < o->pages + o->room; p++) {
        if (*p != POISON) return 0;
    }
    return 1;
}

static void answer(uint64_t integer, float real)
{
    uint32_t bits;
    memcpy(&bits, &real, sizeof bits);
    for (size_t i = 0; i < current.operand_count; i++) {
        if (!padding_is_whole(&current.operands[i])) fail("a write outside", "an array, in its pages");
    }
    printf("ok %" PRIx64 " %" PRIx32 "\n", integer, bits);
    for (size_t i = 0; i < current.operand_count; i++) {
        const struct operand *o = &current.operands[i];
        if (o->writable) fwrite(o->start, 1, o->bytes, stdout);
        munmap(o->pages - page_size, o->room + 2 * page_size);
    }
    fflush(stdout);
}

static void list_tables(void)
{
    const struct qlm_kernels *t;
    for (size_t i = 0; (t = qlm_kernels_at(i)); i++)
        printf("%s %d %d %d %d %d %d %d %d %d %d\n", t->isa, t->left_type, t->k_step, t->nr, t->mr_8, t->mr_16,
               t->mr_f32, t->rows_8, t->left_4, t->mr_4, t->fold_4);
    printf("\n");
    fflush(stdout);
}

static void serve_call(const char *request)
{
    char isa[32], kernel[64], result, side[8];
    int count;
    int got = sscanf(request, "call %31s %63s %c %7s %d", isa, kernel, &result, side, &count);
    if (got != 5 || count > MAX_INTEGERS) fail("bad request", request);
    memset(&current, 0, sizeof current);
    any_function function = find_kernel(isa, kernel);
    for (int i = 0; i < count; i++) read_argument(i, !strcmp(side, "right"));
    uint64_t integer;
    float real;
    run(function, result == 'f', &integer, &real);
    answer(integer, real);
}

int main(void)
{
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    catch_faults();
    char request[160];
    while (fgets(request, sizeof request, stdin)) {
        if (strcmp(request, "tables\n"))
            serve_call(request);
        else
            list_tables();
    }
    return 0;
}
