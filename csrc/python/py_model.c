/* py_model.c: the rest of a transformer: attention, layer norm, embedding rows, sums, pooling, functions. */
#include "common.h"
#include "py_module.h"
#include "py_slices.h"
#include "py_types.h"

/* Upper estimates for an element, in nanoseconds of the slowest kernels. */
#define NORM_COST 8.0
#define COPY_COST 4.0
#define FUNCTION_COST 32.0
#define STEP 4096 /* elements that slices of flat work are multiples of */

/* Rows of n elements at this cost each. */
static struct qlm_work rows_work(size_t rows, size_t n, double cost)
{ return (struct qlm_work){rows, 1, 1.0 + cost * (double)n}; }

/* The drivers here do not fail: -1 means interrupted, and `result` is given up. */
static PyObject *finish(const struct qlm_work *work, qlm_slice slice, void *context, PyObject *result)
{
    enum qlm_status status;
    if (qlm_run_slices(work, slice, context, &status)) Py_CLEAR(result);
    return result;
}

/* ---- attention ------------------------------------------------------------------------------------------------- */

struct attention {
    const float *q, *k, *v;
    size_t ld, rows, n, heads, sequences;
    size_t *starts;
    size_t *costs; /* sequence s costs the units costs[s] .. costs[s + 1] */
    size_t next;   /* the first sequence that is still to be done */
    float scale;
    int causal, by_codes; /* by_codes: attention_8 */
    float *out;
    size_t bad;
};

/* Float32 [t, n] whose rows may lie apart, by the same stride for all that share `attention`. */
static int take_strided(PyObject *object, const char *name, struct attention *a, const float **data)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != NPY_FLOAT32) {
        PyErr_Format(PyExc_TypeError, "%s must be a float32 array", name);
        return -1;
    }
    if (PyArray_NDIM(array) != 2 || !PyArray_ISALIGNED(array) || !PyArray_ISNOTSWAPPED(array)) {
        PyErr_Format(PyExc_ValueError, "%s must be a native, aligned array of 2 dimensions", name);
        return -1;
    }
    size_t rows = (size_t)PyArray_DIM(array, 0), n = (size_t)PyArray_DIM(array, 1), ld = n;
    npy_intp stride = PyArray_STRIDE(array, 0);
    int apart = n > 1 && PyArray_STRIDE(array, 1) != sizeof(float);
    if (rows > 1 && n > 0) {
        ld = (size_t)stride / sizeof(float);
        apart |= stride < 0 || stride % (npy_intp)sizeof(float) || ld < n;
    }
    if (apart || (a->q && (rows != a->rows || n != a->n || ld != a->ld))) {
        PyErr_Format(PyExc_ValueError, "%s must have rows without gaps inside, and the shape and row stride of q",
                     name);
        return -1;
    }
    a->rows = rows;
    a->n = n;
    a->ld = ld;
    *data = PyArray_DATA(array);
    return 0;
}

/* The work of a sequence grows with the square of its length, so slices are cut by that. */
static int weigh_sequences(struct attention *a)
{
    a->costs = PyMem_New(size_t, a->sequences + 1);
    if (!a->costs) {
        PyErr_NoMemory();
        return -1;
    }
    a->costs[0] = 0;
    for (size_t s = 0; s < a->sequences; s++) {
        size_t length = a->starts[s + 1] - a->starts[s], square;
        if (qlm_product(length, length, &square)) return -1;
        if (qlm_add_wraps(a->costs[s], square, &a->costs[s + 1])) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

/* The sequences that begin below unit `end` and are not done yet. */
static enum qlm_status attention_slice(void *context, size_t begin, size_t end)
{
    (void)begin;
    struct attention *a = context;
    size_t first = a->next;
    while (a->next < a->sequences && a->costs[a->next] < end) a->next++;
    if (a->by_codes)
        return qlm_attention_8(a->q, a->k, a->v, a->ld, a->starts, first, a->next, a->heads, a->n / a->heads, a->scale,
                               a->out, &a->bad);
    return qlm_attention(a->q, a->k, a->v, a->ld, a->starts, first, a->next, a->heads, a->n / a->heads, a->scale,
                         a->causal, a->out);
}

static int take_heads(PyObject *object, struct attention *a)
{
    if (qlm_take_size(object, "heads", &a->heads)) return -1;
    if (a->heads && a->n % a->heads == 0) return 0;
    PyErr_Format(PyExc_ValueError, "heads must divide the row length %zu, got %zu", a->n, a->heads);
    return -1;
}

static PyObject *run_attention(PyObject *module, struct attention *a, PyObject *out)
{
    size_t shape[2] = {a->rows, a->n};
    PyObject *result = qlm_result(out, "out", QLM_FLOAT32, 2, shape);
    if (!result || a->n == 0) return result;
    enum qlm_status status;
    struct qlm_work work = {a->costs[a->sequences], 1, 4.0 * (double)a->n};
    a->out = qlm_data(result);
    int failed = qlm_run_slices(&work, attention_slice, a, &status);
    if (!failed && status == QLM_OK) return result;
    if (!failed) qlm_raise_status(module, status, a->bad, "this attention");
    Py_DECREF(result);
    return NULL;
}

int qlm_check_positive(float value, const char *name)
{
    if (value > 0) return 0;
    PyErr_Format(PyExc_ValueError, "%s must be positive", name);
    return -1;
}

/* q, k, v, starts, heads and scale; then the attention. */
static PyObject *attend(PyObject *module, PyObject *const *bound, struct attention *a, PyObject *out)
{
    PyObject *result = NULL;
    if (take_strided(bound[0], "q", a, &a->q) || take_strided(bound[1], "k", a, &a->k)) return NULL;
    if (take_strided(bound[2], "v", a, &a->v) || take_heads(bound[4], a)) return NULL;
    if (qlm_take_float(bound[5], "scale", &a->scale)) return NULL;
    if (a->by_codes && qlm_check_positive(a->scale, "scale")) return NULL;
    a->starts = qlm_take_starts(bound[3], a->rows, &a->sequences);
    if (a->starts && weigh_sequences(a) == 0) result = run_attention(module, a, out);
    PyMem_Free(a->starts);
    PyMem_Free(a->costs);
    return result;
}

QLM_FUNCTION(attention)
{
    static const struct qlm_signature signature = {
        "attention", 7, 8, {"q", "k", "v", "starts", "heads", "scale", "causal", "out"}};
    PyObject *bound[8];
    struct attention a = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (qlm_take_flag(bound[6], "causal", 0, &a.causal)) return NULL;
    return attend(module, bound, &a, bound[7]);
}

QLM_FUNCTION(attention_8)
{
    static const struct qlm_signature signature = {
        "attention_8", 6, 7, {"q", "k", "v", "starts", "heads", "scale", "out"}};
    PyObject *bound[7];
    struct attention a = {.by_codes = 1};
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    return attend(module, bound, &a, bound[6]);
}

/* ---- layernorm ------------------------------------------------------------------------------------------------- */

struct layernorm {
    const float *x, *residual, *gain, *bias;
    size_t n;
    float eps;
    float *out;
};

static enum qlm_status layernorm_slice(void *context, size_t begin, size_t end)
{
    const struct layernorm *l = context;
    size_t at = begin * l->n;
    qlm_layernorm(l->x + at, l->residual ? l->residual + at : NULL, end - begin, l->n, l->gain, l->bias, l->eps, NULL,
                  l->out + at);
    return QLM_OK;
}

int qlm_take_eps(PyObject *object, float *eps)
{
    if (qlm_take_float(object, "eps", eps)) return -1;
    if (*eps >= 0) return 0;
    PyErr_Format(PyExc_ValueError, "eps must not be negative, got %S", object);
    return -1;
}

QLM_FUNCTION(layernorm)
{
    (void)module;
    static const struct qlm_signature signature = {"layernorm", 5, 6, {"x", "residual", "gain", "bias", "eps", "out"}};
    PyObject *bound[6];
    struct qlm_array x, residual = {0}, gain, bias;
    struct layernorm l = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (qlm_take_ndim(bound[0], "x", QLM_FLOAT32, 2, &x)) return NULL;
    if (qlm_given(bound[1]) && qlm_take_sized(bound[1], "residual", QLM_FLOAT32, x.size, &residual)) return NULL;
    if (qlm_take_sized(bound[2], "gain", QLM_FLOAT32, x.columns, &gain)) return NULL;
    if (qlm_take_sized(bound[3], "bias", QLM_FLOAT32, x.columns, &bias) || qlm_take_eps(bound[4], &l.eps)) return NULL;
    size_t shape[2] = {x.rows, x.columns};
    PyObject *result = qlm_result(bound[5], "out", QLM_FLOAT32, 2, shape);
    if (!result) return NULL;
    l = (struct layernorm){x.data, residual.data, gain.data, bias.data, x.columns, l.eps, qlm_data(result)};
    struct qlm_work work = rows_work(x.rows, x.columns, NORM_COST);
    return finish(&work, layernorm_slice, &l, result);
}

/* ---- gather ---------------------------------------------------------------------------------------------------- */

struct gather {
    struct qlm_table table;
    size_t rows, count;
    int64_t *ids; /* a copy: what was checked must not change */
    float *out;
};

static int take_ids(PyObject *object, struct gather *g)
{
    struct qlm_array ids;
    if (qlm_take_ndim(object, "ids", QLM_INT64, 1, &ids)) return -1;
    g->count = ids.size;
    g->ids = PyMem_New(int64_t, ids.size);
    if (!g->ids) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < ids.size; i++) {
        int64_t id = ((const int64_t *)ids.data)[i];
        g->ids[i] = id;
        if (id >= 0 && (uint64_t)id < g->rows) continue;
        PyErr_Format(PyExc_ValueError, "ids must lie within the %zu rows of the table, got ids[%zu] = %lld", g->rows, i,
                     (long long)id);
        return -1;
    }
    return 0;
}

static int take_table_params(PyObject *const *bound, struct gather *g)
{
    struct qlm_array scale, zero = {0}, offset = {0};
    size_t group = 0, size;
    if (bound[5] && qlm_take_size(bound[5], "group", &group)) return -1;
    size_t groups = group && group < g->table.n ? qlm_div_up(g->table.n, group) : 1;
    if (qlm_product(g->rows, groups, &size)) return -1;
    if (!qlm_given(bound[2])) {
        PyErr_SetString(PyExc_ValueError, "a table of codes needs a scale");
        return -1;
    }
    if (qlm_take_sized(bound[2], "scale", QLM_FLOAT32, size, &scale)) return -1;
    if (qlm_given(bound[3]) && qlm_take_sized(bound[3], "zero", QLM_INT32, size, &zero)) return -1;
    if (qlm_given(bound[4]) && qlm_take_sized(bound[4], "offset", QLM_FLOAT32, size, &offset)) return -1;
    g->table.group = group < g->table.n ? group : 0;
    g->table.scale = scale.data;
    g->table.zero = zero.data;
    g->table.offset = offset.data;
    return 0;
}

static int check_two_dimensions(const struct qlm_array *table)
{
    if (table->ndim == 2) return 0;
    PyErr_Format(PyExc_ValueError, "table must have 2 dimensions, got %d", table->ndim);
    return -1;
}

static int take_table(PyObject *const *bound, struct gather *g)
{
    struct qlm_array table;
    int is_float = PyArray_Check(bound[0]) && PyArray_TYPE((PyArrayObject *)bound[0]) == NPY_FLOAT32;
    if (is_float ? qlm_take_array(bound[0], "table", QLM_FLOAT32, &table)
                 : qlm_take_codes(bound[0], "table", &g->table.code, &table))
        return -1;
    if (check_two_dimensions(&table)) return -1;
    g->rows = table.rows;
    g->table.n = table.columns;
    if (is_float)
        g->table.values = table.data;
    else
        g->table.codes = table.data;
    if (!is_float) return take_table_params(bound, g);
    if (!qlm_given(bound[2]) && !qlm_given(bound[3]) && !qlm_given(bound[4])) return 0;
    PyErr_SetString(PyExc_ValueError, "a float32 table has no scale, zero or offset");
    return -1;
}

static enum qlm_status gather_slice(void *context, size_t begin, size_t end)
{
    const struct gather *g = context;
    qlm_gather(&g->table, g->ids + begin, end - begin, g->out + begin * g->table.n);
    return QLM_OK;
}

QLM_FUNCTION(gather)
{
    (void)module;
    static const struct qlm_signature signature = {
        "gather", 2, 7, {"table", "ids", "scale", "zero", "offset", "group", "out"}};
    PyObject *bound[7], *result = NULL;
    struct gather g = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_table(bound, &g)) return NULL;
    if (take_ids(bound[1], &g) == 0) {
        size_t shape[2] = {g.count, g.table.n};
        result = qlm_result(bound[6], "out", QLM_FLOAT32, 2, shape);
    }
    if (result) {
        struct qlm_work work = rows_work(g.count, g.table.n, COPY_COST);
        g.out = qlm_data(result);
        result = finish(&work, gather_slice, &g, result);
    }
    PyMem_Free(g.ids);
    return result;
}

/* ---- add, map -------------------------------------------------------------------------------------------------- */

struct flat {
    const float *a, *b;
    int function;
    float *out;
};

/* A float32 result of the shape of `like`. */
static PyObject *result_like(const struct qlm_array *like, PyObject *out)
{
    size_t shape[NPY_MAXDIMS];
    for (int i = 0; i < like->ndim; i++) shape[i] = (size_t)PyArray_DIM(like->object, i);
    PyObject *result = qlm_result(out, "out", QLM_FLOAT32, like->ndim, shape);
    if (!result || (size_t)PyArray_SIZE((PyArrayObject *)result) == like->size) return result;
    PyErr_SetString(PyExc_ValueError, "the array changed its shape during the call");
    Py_DECREF(result);
    return NULL;
}

static enum qlm_status add_slice(void *context, size_t begin, size_t end)
{
    const struct flat *flat = context;
    qlm_add(flat->a + begin, flat->b + begin, end - begin, flat->out + begin);
    return QLM_OK;
}

QLM_FUNCTION(add)
{
    (void)module;
    static const struct qlm_signature signature = {"add", 2, 3, {"a", "b", "out"}};
    PyObject *bound[3];
    struct qlm_array a, b;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || qlm_take_array(bound[0], "a", QLM_FLOAT32, &a))
        return NULL;
    if (qlm_take_sized(bound[1], "b", QLM_FLOAT32, a.size, &b)) return NULL;
    PyObject *result = result_like(&a, bound[2]);
    if (!result) return NULL;
    struct flat flat = {a.data, b.data, 0, qlm_data(result)};
    struct qlm_work work = {a.size, STEP, COPY_COST};
    return finish(&work, add_slice, &flat, result);
}

static enum qlm_status map_slice(void *context, size_t begin, size_t end)
{
    const struct flat *flat = context;
    qlm_map(flat->function, flat->a + begin, end - begin, flat->out + begin);
    return QLM_OK;
}

QLM_FUNCTION(map)
{
    (void)module;
    static const struct qlm_signature signature = {"map", 2, 3, {"function", "x", "out"}};
    PyObject *bound[3];
    struct qlm_array x;
    struct flat flat = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || qlm_take_function(bound[0], "function", &flat.function))
        return NULL;
    if (qlm_take_array(bound[1], "x", QLM_FLOAT32, &x)) return NULL;
    PyObject *result = result_like(&x, bound[2]);
    if (!result) return NULL;
    flat.a = x.data;
    flat.out = qlm_data(result);
    struct qlm_work work = {x.size, STEP, FUNCTION_COST};
    return finish(&work, map_slice, &flat, result);
}

/* ---- pool ------------------------------------------------------------------------------------------------------ */

struct pool {
    const float *x;
    size_t *starts;
    size_t n, sequences;
    int how, normalize;
    float *out;
};

static enum qlm_status pool_slice(void *context, size_t begin, size_t end)
{
    const struct pool *p = context;
    qlm_pool(p->x, p->starts + begin, end - begin, p->n, (enum qlm_pooling)p->how, p->normalize, p->out + begin * p->n);
    return QLM_OK;
}

QLM_FUNCTION(pool)
{
    (void)module;
    static const struct qlm_signature signature = {"pool", 4, 5, {"x", "starts", "how", "normalize", "out"}};
    /* In the order of enum qlm_pooling. */
    static const char *const ways[] = {"mean", "cls", "max", "lasttoken", NULL};
    PyObject *bound[5], *result;
    struct qlm_array x;
    struct pool p = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || qlm_take_ndim(bound[0], "x", QLM_FLOAT32, 2, &x))
        return NULL;
    if (qlm_take_word(bound[2], "how", ways, &p.how) || qlm_take_flag(bound[3], "normalize", 0, &p.normalize))
        return NULL;
    if (!(p.starts = qlm_take_starts(bound[1], x.rows, &p.sequences))) return NULL;
    size_t shape[2] = {p.sequences, x.columns};
    result = qlm_result(bound[4], "out", QLM_FLOAT32, 2, shape);
    if (result) {
        p.x = x.data;
        p.n = x.columns;
        p.out = qlm_data(result);
        /* An even share of the rows. */
        struct qlm_work work = rows_work(p.sequences, x.size / qlm_max_size(p.sequences, 1), COPY_COST);
        result = finish(&work, pool_slice, &p, result);
    }
    PyMem_Free(p.starts);
    return result;
}

PyMethodDef qlm_model_methods[] = {
    QLM_METHOD(attention, "attention(q, k, v, starts, heads, scale, causal, out=None) -> float32 [t, n]\n\n"
                          "softmax(q k^T * scale) v by head within each sequence starts[s]..starts[s + 1]. q, k, v "
                          "[t, n]: rows may lie apart, by one stride for all three."),
    QLM_METHOD(attention_8, "attention_8(q, k, v, starts, heads, scale, out=None) -> float32 [t, n]\n\n"
                            "The same on codes of 8 bits; scale > 0. NonFinite where q, k or v is not finite."),
    QLM_METHOD(layernorm, "layernorm(x, residual, gain, bias, eps, out=None) -> float32 [rows, n]\n\n"
                          "(x + residual - mean) / sqrt(variance + eps) * gain + bias by row; residual may be None."),
    QLM_METHOD(gather,
               "gather(table, ids, scale=None, zero=None, offset=None, group=0, out=None) -> float32 [ids, n]\n\n"
               "Rows of a float32 table, or of codes with parameters by row, or by row and group."),
    QLM_METHOD(add, "add(a, b, out=None) -> float32\n\na + b of one size."),
    QLM_METHOD(map, "map(function, x, out=None) -> float32\n\nrelu, gelu, gelu_tanh, silu, tanh, exp or erf of x."),
    QLM_METHOD(pool, "pool(x, starts, how, normalize, out=None) -> float32 [sequences, n]\n\n"
                     "mean, cls, max or lasttoken of each sequence's rows; an empty one gives zeros."),
    {NULL, NULL, 0, NULL},
};
