/* linear_wide.inc.h: linear_8 for more rows than a tile has, where codes of weights are widened before they are
 * multiplied: with AVX2 that takes a slot of the vector pipes for each register of weights, beside two for each row
 * that meets it.  All tiles of rows take a panel before the next one: the first leaves the codes in L1 as it widens
 * them, the others read those.  k is cut into pieces whose codes fit there; between two, sums lie in memory.
 *
 * Loops in L1, a Zen 4, GOP/s by the rows of a tile, widening / reading what the first tile left: 2 rows 143 / 181,
 * 3 155 / 183, 4 166 / 185, 5 171 / 187, 6 176 / 187; the stores of the first tile cost nothing from 4 rows on.  So
 * tiles are of equal height, the first at least as high as the others.
 *
 * Included by linear.inc.h.  The file of the instruction set defines
 *
 *   DOT_ROWS                          rows that linear_8 takes
 *   DOT_WIDE_STEPS                    steps of a piece at most
 *   dot_load_wide(p), dot_store_wide(p, right)   a dot_right as it lies in L1
 */
_Static_assert(MR == 6, "of two and more tiles the first has 4, 5 or 6 rows, the others 3 to 6");

#define WIDE_TILES ((DOT_ROWS + MR - 1) / MR)
#define WIDE_STEP_BYTES (DOT_COLUMNS * sizeof(dot_right))

/* Where the tiles of m > MR rows begin, and their number; steps of a piece of k. */
struct wide_cut {
    size_t begin[WIDE_TILES + 1], count, steps;
};

QLM_INLINE struct wide_cut wide_cut_of(size_t m, size_t kg)
{
    struct wide_cut cut = {{0}, 0, 0};
    if (m <= MR) return cut;
    size_t pieces = (kg + DOT_WIDE_STEPS - 1) / DOT_WIDE_STEPS;
    cut.steps = pieces > 1 ? (kg + pieces - 1) / pieces : kg;
    cut.count = (m + MR - 1) / MR;
    for (size_t i = 0; i <= cut.count; i++) cut.begin[i] = (m * i + cut.count - 1) / cut.count;
    return cut;
}

/* A piece of k of a panel. */
struct wide_piece {
    const char *a, *b;
    size_t lda, steps;
    char *codes;   /* widened */
    int32_t *sums; /* [DOT_ROWS][NR], between pieces */
    int first, last;
};

#define WIDE_LOAD(i, column)                                                                                           \
    right[column] = leaves ? dot_load_right(b, column) : dot_load_wide(codes + column * sizeof(dot_right));            \
    if (leaves) dot_store_wide(codes + column * sizeof(dot_right), right[column]);
#define WIDE_STEP(i, column) sums[i][column] = dot_step(sums[i][column], left, right[column]);
#define WIDE_STEP_ROW(i)                                                                                               \
    if (i < m) {                                                                                                       \
        dot_left left = dot_load_left(a + i * lda);                                                                    \
        TILE_EACH_COLUMN(WIDE_STEP, i)                                                                                 \
    }
#define WIDE_CASE(rows, leaves)                                                                                        \
    case rows + leaves *MR:                                                                                            \
        wide_rows(rows, leaves, piece, l, row, j);                                                                     \
        break;
#define WIDE_TAKE(i, column) sums[i][column] = linear_load(kept + i * NR + column * LINEAR_WIDTH);
#define WIDE_TAKE_ROW(i) TILE_EACH_OF_ROW(WIDE_TAKE, i)
#define WIDE_GIVE(i, column) dot_store(kept + i * NR + column * LINEAR_WIDTH, sums[i][column], 0);
#define WIDE_GIVE_ROW(i) TILE_EACH_OF_ROW(WIDE_GIVE, i)

QLM_INLINE void wide_products(const int m, const int leaves, size_t steps, const char *a, size_t lda, const char *b,
                              char *codes, dot_sums sums)
{
    for (; steps; steps--, a += K_STEP * LEFT_BYTES, b += K_STEP * NR, codes += WIDE_STEP_BYTES) {
        dot_right right[DOT_COLUMNS];
        if (leaves) dot_ask_ahead(b);
        TILE_EACH_COLUMN(WIDE_LOAD, 0)
        TILE_EACH_ROW(WIDE_STEP_ROW)
    }
}

/* m rows from `row` on of a piece, whose outputs are those from j on. */
QLM_INLINE void wide_rows(const int m, const int leaves, const struct wide_piece *piece, struct linear *l, size_t row,
                          size_t j)
{
    dot_sums sums;
    size_t steps = piece->steps, lda = piece->lda;
    const char *a = piece->a + row * lda, *b = piece->b;
    char *codes = piece->codes;
    int32_t *kept = piece->sums + row * NR;
    if (piece->first) {
        dot_sum columns[DOT_COLUMNS];
        TILE_EACH_COLUMN(LINEAR_COLUMN, 0);
        TILE_EACH_ROW(LINEAR_FIRST_ROW);
    } else {
        TILE_EACH_ROW(WIDE_TAKE_ROW)
    }
    if (l->far && piece->last) { TILE_EACH_ROW(LINEAR_ASK_ROW) }
    /* The empty asm hides that a part's length is a constant: gcc 12 would unroll all of it, and spill. */
    for (size_t part; steps; steps -= part) {
        part = l->lines && steps > LINEAR_PART ? LINEAR_PART : steps;
        __asm__("" : "+r"(part));
        wide_products(m, leaves, part, a, lda, b, codes, sums);
        a += part * K_STEP * LEFT_BYTES;
        b += part * K_STEP * NR;
        codes += part * WIDE_STEP_BYTES;
        if (l->lines) linear_ask(l);
    }
    if (piece->last)
        linear_end(m, l, row, j, sums);
    else {
        TILE_EACH_ROW(WIDE_GIVE_ROW)
    }
}

QLM_INLINE void wide_tile(const struct wide_cut *cut, size_t i, const struct wide_piece *piece, struct linear *l,
                          size_t j)
{
    size_t row = cut->begin[i];
    switch (cut->begin[i + 1] - row + (i ? 0 : MR)) {
        WIDE_CASE(3, 0)
        WIDE_CASE(4, 0)
        WIDE_CASE(5, 0)
        WIDE_CASE(6, 0)
        WIDE_CASE(4, 1)
        WIDE_CASE(5, 1)
        WIDE_CASE(6, 1)
    }
}

/* The panel whose outputs are those from j on, for more than MR rows. */
QLM_OUTLINE void wide_panel(const struct wide_cut *cut, size_t kg, const char *a, size_t lda, const char *b,
                            struct linear *l, size_t j)
{
    char codes[DOT_WIDE_STEPS * WIDE_STEP_BYTES] __attribute__((aligned(64)));
    int32_t sums[DOT_ROWS * NR];
    struct wide_piece now = {a, b, lda, 0, codes, sums, 1, 0}, *piece = &now;
    do {
        piece->steps = kg < cut->steps ? kg : cut->steps;
        kg -= piece->steps;
        piece->last = !kg;
        for (size_t i = 0; i < cut->count; i++) wide_tile(cut, i, piece, l, j);
        piece->a += piece->steps * K_STEP * LEFT_BYTES;
        piece->b += piece->steps * K_STEP * NR;
        piece->first = 0;
    } while (kg);
}
