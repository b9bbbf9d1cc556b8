/* For bochs.py: what the wheel bochscpu-python 0.4.0 (cp311, Bochs 3.0 of February 2025) needs to run right.
 *
 * 1. Two symbols of glibc 2.38 that its shared object wants, for an older glibc.
 * 2. Corrections: VPEXPANDB/W under a mask with a memory operand loads the wrong bytes; VPCOMPRESSB/W of a ZMM
 *    register under a mask of all ones writes nothing.
 * 3. What it computes wrongly and an int8 kernel hardly needs becomes #UD rather than a wrong result: VPSHUFBITQMB,
 *    VPCONFLICTD/Q, VPBROADCASTMB2Q/MW2D, and VPMULTISHIFTQB and VGF2P8AFFINE(INV)QB under a mask.
 *
 * An instruction is an opaque struct (class bxInstruction_c); the offsets below are those of this very wheel. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int fields = vsscanf(text, format, arguments);
    va_end(arguments);
    return fields;
}

unsigned long long __isoc23_strtoull(const char *text, char **end, int base) { return strtoull(text, end, base); }

typedef uint8_t instruction;
typedef void (*handler)(instruction *);

enum { META_INFO = 0x13, VECTOR_LENGTH = 0x21, OPMASK = 0x23, IS_REGISTER_FORM = 16, OPCODE_BYTES = 24 };

/* The handlers of Bochs by the order of bochs.py's FIXED; those from BROKEN on end in #UD. */
enum {
    LOAD_B,
    LOAD_W,
    EXPAND_B,
    EXPAND_W,
    COMPRESS_B,
    COMPRESS_W,
    MOVE_REGISTER,
    MOVE_MEMORY,
    ERROR,
    AFFINE,
    AFFINE_INVERSE,
    BROKEN,
    HANDLERS = BROKEN + 6
};

static handler original[HANDLERS];
static uint64_t *masks; /* k0 .. k7 of the CPU */
static uint64_t saved_mask;

static int is_register_form(const instruction *i) { return i[META_INFO] & IS_REGISTER_FORM; }

static uint64_t *mask_of(const instruction *i) { return &masks[i[OPMASK]]; }

/* An expanding load reads only as many elements as the mask has ones, from the first on. */
static void load_compact(instruction *i, handler load, int unit) {
    int lanes = 16 * i[VECTOR_LENGTH] / unit;
    uint64_t *mask = mask_of(i);
    saved_mask = *mask;
    int count = __builtin_popcountll(lanes < 64 ? saved_mask & ((1ull << lanes) - 1) : saved_mask);
    *mask = count < 64 ? (1ull << count) - 1 : ~0ull;
    load(i); /* goes on to execute2: the expand functions below */
}

static void load_compact_b(instruction *i) { load_compact(i, original[LOAD_B], 1); }
static void load_compact_w(instruction *i) { load_compact(i, original[LOAD_W], 2); }

static void expand(instruction *i, handler next) {
    if (!is_register_form(i)) *mask_of(i) = saved_mask;
    next(i);
}

static void expand_b(instruction *i) { expand(i, original[EXPAND_B]); }
static void expand_w(instruction *i) { expand(i, original[EXPAND_W]); }

/* A ZMM compressed under a full mask is a move. */
static void compress(instruction *i, handler next, uint64_t full) {
    int whole = i[VECTOR_LENGTH] == 4 && (*mask_of(i) & full) == full;
    if (whole) next = original[is_register_form(i) ? MOVE_REGISTER : MOVE_MEMORY];
    next(i);
}

static void compress_b(instruction *i) { compress(i, original[COMPRESS_B], ~0ull); }
static void compress_w(instruction *i) { compress(i, original[COMPRESS_W], 0xffffffffull); }

static void affine(instruction *i) { original[i[OPMASK] ? ERROR : AFFINE](i); }
static void affine_inverse(instruction *i) { original[i[OPMASK] ? ERROR : AFFINE_INVERSE](i); }

/* Mends one entry {execute1, execute2, ...} of Bochs's opcode table; 1 where it did. */
static int mend(handler entry[2]) {
    handler first = entry[0], second = entry[1];
    if (first == original[LOAD_B] && second == original[EXPAND_B])
        entry[0] = load_compact_b, entry[1] = expand_b;
    else if (first == original[LOAD_W] && second == original[EXPAND_W])
        entry[0] = load_compact_w, entry[1] = expand_w;
    else if (first == original[COMPRESS_B] && second == first)
        entry[0] = entry[1] = compress_b;
    else if (first == original[COMPRESS_W] && second == first)
        entry[0] = entry[1] = compress_w;
    else if (second == original[AFFINE])
        entry[1] = affine;
    else if (second == original[AFFINE_INVERSE])
        entry[1] = affine_inverse;
    else {
        int broken = BROKEN;
        while (broken < HANDLERS && second != original[broken]) broken++;
        if (broken == HANDLERS) return 0;
        entry[0] = entry[1] = original[ERROR];
    }
    return 1;
}

/* Returns the number of entries mended: 14 in the wheel this was written for. */
int mend_bochs(uint64_t *opmasks, uint8_t *table, size_t bytes, const handler *handlers) {
    int mended = 0;
    masks = opmasks;
    for (int j = 0; j < HANDLERS; j++) original[j] = handlers[j];
    for (size_t at = 0; at + OPCODE_BYTES <= bytes; at += OPCODE_BYTES) mended += mend((handler *)(void *)(table + at));
    return mended;
}
