/* attention.c: softmax(q k^T * scale) v for each sequence and head.
 *
 * A task is one head of one sequence.  It lays the head's keys out as float panels (outputs are keys) and its values
 * alike (outputs are dimensions), so that both products run on gemm_f32, then takes the queries in blocks of as many
 * rows as that kernel takes.  Each score is one chain over the head's dimensions, each output one chain over the keys
 * the query sees, divided by the sum of its weights: the shape of blocks and panels cannot show.
 *
 * Causal: the rows of a block see one key more each.  All run over the keys that the first one sees; then each goes on
 * alone over its own few, so that no row touches a key it does not see (0 * inf would be NaN).
 */
#include <stdatomic.h>

#include "common.h"
#include "qlm.h"
#include "threads.h"

struct attention_job {
    const struct qlm_kernels *kernels;
    const float *q, *k, *v;
    size_t ld;
    const size_t *starts;
    size_t first, heads, dim;
    float scale;
    int causal;
    float *out;
    atomic_int no_memory;
};

/* One head of one sequence, and the scratch arrays of its task. */
struct head {
    const float *q, *k, *v;
    float *out;
    size_t tokens, padded_tokens, padded_dim;
    float *keys;    /* panels [padded_tokens / nr][dim][nr] */
    float *values;  /* panels [padded_dim / nr][tokens][nr] */
    float *scores;  /* [mr][padded_tokens] */
    float *context; /* [mr][padded_dim] */
};

/* Room for rows * columns floats after `*bytes`; returns where it starts. */
static size_t reserve(size_t *bytes, size_t rows, size_t columns)
{
    size_t start = *bytes;
    *bytes = qlm_size_add(start, qlm_size_lines(qlm_size_mul(qlm_size_mul(rows, columns), sizeof(float))));
    return start;
}

static int lay_out(const struct attention_job *job, struct head *head)
{
    size_t nr = job->kernels->nr, mr = job->kernels->mr_f32, bytes = 0;
    head->padded_tokens = qlm_round_up(head->tokens, nr);
    head->padded_dim = qlm_round_up(job->dim, nr);
    size_t keys = reserve(&bytes, head->padded_tokens, job->dim),
           values = reserve(&bytes, head->padded_dim, head->tokens);
    size_t scores = reserve(&bytes, mr, head->padded_tokens), context = reserve(&bytes, mr, head->padded_dim);
    char *block = qlm_scratch(bytes);
    if (!block) return 0;
    head->keys = (float *)(block + keys);
    head->values = (float *)(block + values);
    head->scores = (float *)(block + scores);
    head->context = (float *)(block + context);
    return 1;
}

#define KEYS_AT_ONCE 4

/* Four keys become four neighbouring columns of a panel: with one at a time, every element would be a store of its own.
 */
static void pack_four_keys(const float *key, size_t ld, size_t dim, float *columns, size_t nr)
{
    const float *a = key, *b = key + ld, *c = key + 2 * ld, *d = key + 3 * ld;
    for (size_t i = 0; i < dim; i++) {
        float four[KEYS_AT_ONCE] = {a[i], b[i], c[i], d[i]};
        memcpy(columns + i * nr, four, sizeof four);
    }
}

/* Tokens past the last are zeros: their scores are computed and never read. */
static void pack_keys(const struct attention_job *job, const struct head *head)
{
    size_t nr = job->kernels->nr, dim = job->dim, token = 0;
    for (; token + KEYS_AT_ONCE <= head->tokens; token += KEYS_AT_ONCE)
        pack_four_keys(head->k + token * job->ld, job->ld, dim, head->keys + token / nr * nr * dim + token % nr, nr);
    for (; token < head->padded_tokens; token++) {
        float *column = head->keys + token / nr * nr * dim + token % nr;
        for (size_t i = 0; i < dim; i++) column[i * nr] = token < head->tokens ? head->k[token * job->ld + i] : 0.0f;
    }
}

#define LANES 16

/* Up to 16 elements, zeros behind them.  The size of the usual copy is a constant: compilers make two moves of it, and
 * a slow `rep movs` of one that varies. */
static void copy_lanes(float *to, const float *from, size_t count)
{
    if (count >= LANES) {
        memcpy(to, from, LANES * sizeof(float));
        return;
    }
    memset(to, 0, LANES * sizeof(float));
    memcpy(to, from, count * sizeof(float));
}

/* Panels are a multiple of 16 wide. */
static void pack_values(const struct attention_job *job, const struct head *head)
{
    size_t nr = job->kernels->nr;
    for (size_t d = 0; d < head->padded_dim; d += LANES) {
        float *column = head->values + d / nr * nr * head->tokens + d % nr;
        size_t count = d < job->dim ? job->dim - d : 0;
        for (size_t token = 0; token < head->tokens; token++)
            copy_lanes(column + token * nr, head->v + token * job->ld + qlm_min_size(d, job->dim), count);
    }
}

/* Scores of m queries from `row` on with the first `keys` keys. */
static void score(const struct attention_job *job, const struct head *head, size_t row, size_t m, size_t keys)
{
    size_t nr = job->kernels->nr;
    for (size_t key = 0; key < keys; key += nr)
        job->kernels->gemm_f32(m, job->dim, head->q + row * job->ld, job->ld, head->keys + key * job->dim,
                               head->scores + key, head->padded_tokens, 0);
}

/* context = weights times values.  All rows see the first `shared` keys; where causal, row r sees r more. */
static void weigh(const struct attention_job *job, const struct head *head, size_t m, size_t shared)
{
    size_t nr = job->kernels->nr, ld = head->padded_tokens;
    for (size_t d = 0; d < head->padded_dim; d += nr) {
        const float *panel = head->values + d * head->tokens;
        float *context = head->context + d;
        job->kernels->gemm_f32(m, shared, head->scores, ld, panel, context, head->padded_dim, 0);
        for (size_t r = 1; job->causal && r < m; r++)
            job->kernels->gemm_f32(1, r, head->scores + r * ld + shared, ld, panel + shared * nr,
                                   context + r * head->padded_dim, head->padded_dim, 1);
    }
}

static void attend(const struct attention_job *job, const struct head *head, size_t row, size_t m)
{
    size_t shared = job->causal ? row + 1 : head->tokens, width = job->heads * job->dim;
    float sums[QLM_MAX_MR];
    score(job, head, row, m, job->causal ? row + m : head->tokens);
    for (size_t r = 0; r < m; r++)
        sums[r] = job->kernels->softmax_f32(head->scores + r * head->padded_tokens, job->causal ? shared + r : shared,
                                            job->scale);
    weigh(job, head, m, shared);
    for (size_t r = 0; r < m; r++)
        job->kernels->divide_f32(head->context + r * head->padded_dim, job->dim, sums[r],
                                 head->out + (row + r) * width);
}

static void attention_task(void *context, size_t index, unsigned worker)
{
    struct attention_job *job = context;
    size_t sequence = job->first + index / job->heads, at = index % job->heads * job->dim;
    size_t start = job->starts[sequence], mr = job->kernels->mr_f32;
    struct head head = {.q = job->q + start * job->ld + at,
                        .k = job->k + start * job->ld + at,
                        .v = job->v + start * job->ld + at,
                        .out = job->out + start * job->heads * job->dim + at,
                        .tokens = job->starts[sequence + 1] - start};
    (void)worker;
    if (!head.tokens) return;
    if (!lay_out(job, &head)) {
        atomic_store(&job->no_memory, 1);
        return;
    }
    pack_keys(job, &head);
    pack_values(job, &head);
    for (size_t row = 0; row < head.tokens; row += mr) attend(job, &head, row, qlm_min_size(mr, head.tokens - row));
}

/* Multiply-adds, and as much again for each score's exponential; some 16 a nanosecond. */
static size_t work_of(const struct attention_job *job, size_t begin, size_t end)
{
    size_t pairs = 0;
    for (size_t s = begin; s < end; s++) {
        size_t tokens = job->starts[s + 1] - job->starts[s];
        pairs = qlm_size_add(pairs, qlm_size_mul(tokens, tokens));
    }
    return qlm_size_mul(qlm_size_mul(pairs, job->heads), 2 * job->dim + 16) / 16;
}

enum qlm_status qlm_attention(const float *q, const float *k, const float *v, size_t ld, const size_t *starts,
                              size_t begin, size_t end, size_t heads, size_t dim, float scale, int causal, float *out)
{
    struct attention_job job = {.kernels = qlm_kernels_in_use,
                                .q = q,
                                .k = k,
                                .v = v,
                                .ld = ld,
                                .starts = starts,
                                .first = begin,
                                .heads = heads,
                                .dim = dim,
                                .scale = scale,
                                .causal = causal,
                                .out = out};
    if (!dim || !heads || begin >= end) return QLM_OK;
    qlm_parallel_sized((end - begin) * heads, work_of(&job, begin, end), attention_task, &job);
    return atomic_load(&job.no_memory) ? QLM_NO_MEMORY : QLM_OK;
}
