/* py_linear.c: linear and matmul_codes.  A linear of one short row is called thousands of times a second, so nothing
 * here parses keywords or allocates but the results themselves. */
#include "common.h"
#include "py_module.h"
#include "py_slices.h"
#include "py_types.h"

#define MAX_OUTPUTS 16
/* Rows that slices of exact products are multiples of, and that a linear's blocks have at most. */
#define STEP 192
#define BLOCK_COST 0x1p22 /* of a block of rows for one panel, in nanoseconds */

/* ---- the arguments of linear ----------------------------------------------------------------------------------- */

struct call {
    PyObject *module;
    struct qlm_linear_input input;
    struct qlm_linear_output outputs[MAX_OUTPUTS];
    size_t count;
    size_t bad;
    size_t height, panels; /* of a block of rows, which slices are whole ones of, or parts by panels of one */
};

const struct qlm_packed *qlm_take_packed(PyObject *module, PyObject *object)
{
    if (Py_TYPE(object) == qlm_state_of(module)->packed_type) return &((struct qlm_packed_object *)object)->packed;
    PyErr_Format(PyExc_TypeError, "weight must be a PackedWeight, got %s", Py_TYPE(object)->tp_name);
    return NULL;
}

const struct qlm_input_object *qlm_take_input(PyObject *module, PyObject *object)
{
    if (Py_TYPE(object) == qlm_state_of(module)->input_type) return (struct qlm_input_object *)object;
    PyErr_Format(PyExc_TypeError, "input must be an Input, got %s", Py_TYPE(object)->tp_name);
    return NULL;
}

/* One item for each weight; NULL for None.  A tuple, since nobody can take items out of it meanwhile. */
int qlm_take_tuple(PyObject *object, const char *name, size_t count, PyObject *const **items)
{
    *items = NULL;
    if (!qlm_given(object)) return 0;
    if (!PyTuple_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a tuple, got %s", name, Py_TYPE(object)->tp_name);
        return -1;
    }
    if ((size_t)PyTuple_GET_SIZE(object) != count) {
        PyErr_Format(PyExc_ValueError, "%s must have one item for each of the %zu weights, got %zd", name, count,
                     PyTuple_GET_SIZE(object));
        return -1;
    }
    *items = ((PyTupleObject *)object)->ob_item;
    return 0;
}

static int take_weights(PyObject *weights, struct call *call)
{
    if (!PyTuple_Check(weights)) {
        PyErr_Format(PyExc_TypeError, "weights must be a tuple, got %s", Py_TYPE(weights)->tp_name);
        return -1;
    }
    call->count = (size_t)PyTuple_GET_SIZE(weights);
    if (call->count < 1 || call->count > MAX_OUTPUTS) {
        PyErr_Format(PyExc_ValueError, "weights must be 1 to %d, got %zu", MAX_OUTPUTS, call->count);
        return -1;
    }
    for (size_t i = 0; i < call->count; i++) {
        call->outputs[i].weight = qlm_take_packed(call->module, PyTuple_GET_ITEM(weights, (Py_ssize_t)i));
        if (!call->outputs[i].weight) return -1;
    }
    return 0;
}

/* ---- what must fit together ------------------------------------------------------------------------------------ */

static int check_groups(const struct qlm_linear_input *input, const struct qlm_packed *weight)
{
    size_t a = input->group, b = weight->group;
    if (a == 0 || a >= input->k || b == 0 || b >= input->k || a % b == 0 || b % a == 0) return 0;
    PyErr_Format(PyExc_ValueError, "the input's group %zu and the weight's group %zu must divide one another", a, b);
    return -1;
}

int qlm_check_weight(const struct qlm_linear_input *input, const struct qlm_packed *weight)
{
    if (weight->k != input->k) {
        PyErr_Format(PyExc_ValueError, "x has %zu columns, but the weight takes %zu", input->k, weight->k);
        return -1;
    }
    if (input->kind == QLM_INPUT_FLOAT) return 0;
    if (weight->kind == QLM_PACKED_F32) {
        PyErr_SetString(PyExc_ValueError, "a float32 weight takes a float input");
        return -1;
    }
    if (weight->offset && (input->interval || input->offset)) {
        PyErr_SetString(PyExc_NotImplementedError, "float offsets of both the input and the weight");
        return -1;
    }
    return check_groups(input, weight);
}

/* Parameters of codes: one, or one for each row and group. */
int qlm_check_params(const struct qlm_input_object *object, const struct qlm_linear_input *input)
{
    size_t groups = input->group && input->group < input->k ? (input->k - 1) / input->group + 1 : 1, wanted;
    if (object->divisors && object->divisors != input->k) {
        PyErr_Format(PyExc_ValueError, "x has %zu columns, but the input's divisor has %zu", input->k,
                     object->divisors);
        return -1;
    }
    if (input->kind != QLM_INPUT_CODES || object->params == 1) return 0;
    if (qlm_product(input->m, groups, &wanted)) return -1;
    if (object->params == wanted) return 0;
    PyErr_Format(PyExc_ValueError, "the input's scale must have 1 or %zu elements, got %zu", wanted, object->params);
    return -1;
}

static int take_x(PyObject *x, PyObject *input, struct call *call)
{
    struct qlm_array array;
    const struct qlm_input_object *object = qlm_take_input(call->module, input);
    if (!object) return -1;
    call->input = object->input;
    int codes = object->input.kind == QLM_INPUT_CODES;
    enum qlm_element element = codes ? qlm_code_element(object->dtype->type.code) : QLM_FLOAT32;
    if (qlm_take_ndim(x, "x", element, 2, &array)) return -1;
    if (codes)
        call->input.codes = array.data;
    else
        call->input.x = array.data;
    call->input.m = array.rows;
    call->input.k = array.columns;
    for (size_t i = 0; i < call->count; i++)
        if (qlm_check_weight(&call->input, call->outputs[i].weight)) return -1;
    return qlm_check_params(object, &call->input);
}

/* Before the slices, which would each lay a weight out again. */
static int fit_weights(PyObject *weights, struct call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        PyObject *weight = PyTuple_GET_ITEM(weights, (Py_ssize_t)i);
        if (!(call->outputs[i].weight = qlm_packed_for(call->module, weight, &call->input))) return -1;
    }
    return 0;
}

static int take_extras(PyObject *biases, PyObject *activation, PyObject *residuals, struct call *call)
{
    PyObject *const *bias, *const *residual;
    struct qlm_array array;
    int function;
    if (qlm_take_tuple(biases, "biases", call->count, &bias) ||
        qlm_take_tuple(residuals, "residuals", call->count, &residual))
        return -1;
    if (qlm_take_function(activation, "activation", &function)) return -1;
    for (size_t i = 0; i < call->count; i++) {
        struct qlm_linear_output *output = &call->outputs[i];
        size_t n = output->weight->n, size;
        output->activation = function;
        output->bias = output->residual = NULL;
        if (bias && qlm_given(bias[i])) {
            if (qlm_take_sized(bias[i], "bias", QLM_FLOAT32, n, &array)) return -1;
            output->bias = array.data;
        }
        if (residual && qlm_given(residual[i])) {
            if (qlm_product(call->input.m, n, &size)) return -1;
            if (qlm_take_sized(residual[i], "residual", QLM_FLOAT32, size, &array)) return -1;
            output->residual = array.data;
        }
    }
    return 0;
}

/* ---- linear ---------------------------------------------------------------------------------------------------- */

/* Panels [from, to) of the rows of `count` blocks. */
static enum qlm_status linear_blocks(struct call *call, size_t block, size_t count, size_t from, size_t to)
{
    size_t begin = block * call->height, end = qlm_min_size(begin + count * call->height, call->input.m);
    return qlm_linear_panels(&call->input, call->outputs, call->count, begin, end, from, to, &call->bad);
}

/* Units are the panels of a block of rows, then those of the next one.  Slices of a block by its rows would each read
 * the weight: of 128 x 4096 -> 32000 the first had 4 rows, and the call took a quarter longer. */
static enum qlm_status linear_slice(void *context, size_t begin, size_t end)
{
    struct call *call = context;
    enum qlm_status status = QLM_OK;
    if (begin == 0 && end == call->panels) return linear_blocks(call, 0, 1, 0, end); /* no divisions */
    while (begin < end && status == QLM_OK) {
        size_t block = begin / call->panels, from = begin % call->panels, left = end - begin;
        size_t whole = from ? 0 : left / call->panels, to = qlm_min_size(from + left, call->panels);
        status = linear_blocks(call, block, qlm_max_size(whole, 1), from, to);
        begin += whole ? whole * call->panels : to - from;
    }
    return status;
}

/* What a group costs beside its products (its sums are scaled, short ones filled up to a step), in elements. */
#define GROUP_COST 16.0
/* Nanoseconds of a row beside its products, and of a group of it: a range, parameters, corrections. */
#define ROW_COST 10.0
#define ROW_GROUP_COST 50.0

/* Nanoseconds of a multiply-add.  An estimate as of the slowest kernels would cut a call into pieces of a few rows,
 * each of which reads the weight, and expands it where it has 4 bits, for itself: 128 x 768 -> 768 by int4 were 28 and
 * 100 rows. */
static double product_cost(const struct qlm_linear_input *input, const struct qlm_packed *weight)
{
    struct qlm_fit fit = qlm_linear_fit(weight, input);
    int floats = input->kind == QLM_INPUT_FLOAT;
    double cost = 1.0 / (double)qlm_linear_rate(weight->kernels, floats ? QLM_PACKED_F32 : fit.kind);
    return floats || !fit.group ? cost : cost * (1.0 + GROUP_COST / (double)fit.group);
}

/* Nanoseconds of a row beside its products: most of the time where there are few outputs. */
static double row_cost(const struct qlm_linear_input *input)
{
    if (input->kind == QLM_INPUT_FLOAT) return ROW_COST;
    size_t groups = input->group ? qlm_div_up(input->k, input->group) : 0;
    return ROW_COST + (double)input->k * qlm_element_cost() + (double)groups * ROW_GROUP_COST;
}

/* Rows of a block, the blocks even: at most STEP, and of no more than BLOCK_COST for one panel, the shortest slice. */
static size_t block_height(size_t m, double cost)
{
    if (m - 1 < STEP && (double)m * cost <= BLOCK_COST) return m; /* without divisions, as most calls are */
    double fitting = BLOCK_COST / cost;
    size_t most = fitting < 1 ? 1 : fitting < STEP ? (size_t)fitting : STEP;
    return qlm_max_size(qlm_div_up(m, qlm_max_size(qlm_div_up(m, most), 1)), 1);
}

static int run_call(struct call *call, enum qlm_status *status)
{
    double row = row_cost(&call->input), products = 0.0;
    call->panels = 0;
    for (size_t i = 0; i < call->count; i++) {
        const struct qlm_packed *weight = call->outputs[i].weight;
        products += (double)weight->n_padded * (double)call->input.k * product_cost(&call->input, weight);
        call->panels += qlm_packed_panels(weight);
    }
    call->panels = qlm_max_size(call->panels, 1); /* rows without outputs are looked at, too */
    double part = 1.0 / (double)call->panels;
    call->height = block_height(call->input.m, row + products * part);
    size_t blocks = call->height == call->input.m ? 1 : qlm_div_up(call->input.m, call->height);
    struct qlm_work work = {blocks * call->panels, call->panels, (double)call->height * (row + products) * part};
    return qlm_run_slices(&work, linear_slice, call, status);
}

void qlm_raise_midpoints(void)
{ PyErr_SetString(PyExc_ValueError, "the midpoints of a row's intervals overflow float32"); }

static int run_linear(struct call *call)
{
    enum qlm_status status;
    if (run_call(call, &status)) return -1;
    if (status == QLM_OK) return 0;
    if (status == QLM_UNSUPPORTED) /* offsets of both sides were refused before */
        qlm_raise_midpoints();
    else
        qlm_raise_status(call->module, status, call->bad, "");
    return -1;
}

/* A new tuple of results, given or new. */
static PyObject *make_results(PyObject *outs, struct call *call)
{
    PyObject *const *out;
    if (qlm_take_tuple(outs, "outs", call->count, &out)) return NULL;
    PyObject *results = PyTuple_New((Py_ssize_t)call->count);
    for (size_t i = 0; results && i < call->count; i++) {
        size_t shape[2] = {call->input.m, call->outputs[i].weight->n};
        PyObject *result = qlm_result(out ? out[i] : NULL, "out", QLM_FLOAT32, 2, shape);
        if (!result) {
            Py_DECREF(results);
            return NULL;
        }
        PyTuple_SET_ITEM(results, (Py_ssize_t)i, result);
        call->outputs[i].out = qlm_data(result);
    }
    return results;
}

QLM_FUNCTION(linear)
{
    static const struct qlm_signature signature = {
        "linear", 3, 7, {"x", "input", "weights", "biases", "activation", "residuals", "outs"}};
    PyObject *bound[7];
    struct call call;
    call.module = module;
    call.bad = 0;
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (take_weights(bound[2], &call) || take_x(bound[0], bound[1], &call)) return NULL;
    if (take_extras(bound[3], bound[4], bound[5], &call) || fit_weights(bound[2], &call)) return NULL;
    PyObject *results = make_results(bound[6], &call);
    if (results && run_linear(&call)) Py_CLEAR(results);
    return results;
}

/* ---- linear_direct --------------------------------------------------------------------------------------------- */

/* qlm.linear on arrays that the kernels can read as they are: no Python between the call and the work, which takes
 * microseconds where all of this takes a tenth of one.  Whatever is not so, or is wrong, is left to qlm.linear, which
 * converts, or names the argument: the errors are made in one place. */

/* A residual to be checked for NaN beyond this would hold the GIL for too long. */
#define DIRECT_MAX ((size_t)1 << 20)

static int is_plain(PyObject *object) { return qlm_is_plain(object, NPY_FLOAT32); }

static int all_finite(const float *values, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) bad |= !qlm_is_finite(values[i]);
    return !bad;
}

static int shares_memory(PyArrayObject *out, PyObject *object)
{ return qlm_given(object) && qlm_overlap(out, (PyArrayObject *)object); }

/* The last axis of x, [..., k], and how many rows are before it; 0 where there is nothing to do or x is not plain. */
static int read_x(PyObject *object, struct qlm_linear_input *input)
{
    if (!is_plain(object)) return 0;
    PyArrayObject *x = (PyArrayObject *)object;
    int last = PyArray_NDIM(x) - 1;
    if (last < 0 || PyArray_SIZE(x) == 0) return 0;
    input->x = PyArray_DATA(x);
    input->k = (size_t)PyArray_DIM(x, last);
    input->m = (size_t)PyArray_SIZE(x) / input->k;
    if (input->group >= input->k) input->group = 0;
    return 1;
}

/* Whether a weight takes this input; why not is said by the way that takes any arguments. */
static int takes_input(const struct qlm_packed *weight, const struct qlm_linear_input *input)
{
    if (weight->n && qlm_check_weight(input, weight) == 0) return 1;
    PyErr_Clear();
    return 0;
}

/* Float products propagate what is not finite; the others refuse it in a bias or residual. */
static int read_addend(PyObject *object, int ndim, const npy_intp *dims, int any_number, const float **data)
{
    *data = NULL;
    if (!qlm_given(object)) return 1;
    if (!is_plain(object)) return 0;
    PyArrayObject *array = (PyArrayObject *)object;
    if (PyArray_NDIM(array) != ndim || !PyArray_CompareLists(PyArray_DIMS(array), dims, ndim)) return 0;
    size_t size = (size_t)PyArray_SIZE(array);
    *data = PyArray_DATA(array);
    return any_number || (size <= DIRECT_MAX && all_finite(*data, size));
}

/* bound: x, input, weight, bias, activation, residual, out. dims: the result's, of as many axes as x has. */
static int read_direct(PyObject *const *bound, struct call *call, npy_intp *dims)
{
    struct qlm_linear_output *output = &call->outputs[0];
    if (!read_x(bound[0], &call->input) || !takes_input(output->weight, &call->input)) return 0;
    PyArrayObject *x = (PyArrayObject *)bound[0], *out = (PyArrayObject *)bound[6];
    int ndim = PyArray_NDIM(x), any_number = call->input.kind == QLM_INPUT_FLOAT;
    for (int i = 0; i < ndim; i++) dims[i] = PyArray_DIM(x, i);
    dims[ndim - 1] = (npy_intp)output->weight->n;
    if (!read_addend(bound[3], 1, dims + ndim - 1, any_number, &output->bias)) return 0;
    if (!read_addend(bound[5], ndim, dims, any_number, &output->residual)) return 0;
    if (!qlm_given(bound[6])) return 1;
    return is_plain(bound[6]) && PyArray_ISWRITEABLE(out) && PyArray_NDIM(out) == ndim &&
           PyArray_CompareLists(PyArray_DIMS(out), dims, ndim) && !shares_memory(out, bound[0]) &&
           !shares_memory(out, bound[3]) && !shares_memory(out, bound[5]);
}

QLM_FUNCTION(linear_direct)
{
    static const struct qlm_signature signature = {
        "linear_direct", 3, 7, {"x", "input", "weight", "bias", "activation", "residual", "out"}};
    PyObject *bound[7];
    npy_intp dims[NPY_MAXDIMS];
    struct call call = {.module = module, .count = 1};
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    struct qlm_linear_output *output = &call.outputs[0];
    const struct qlm_input_object *input = qlm_take_input(module, bound[1]);
    if (!input || !(output->weight = qlm_take_packed(module, bound[2]))) return NULL;
    if (qlm_take_function(bound[4], "activation", &output->activation)) return NULL;
    call.input = input->input;
    if (call.input.kind != QLM_INPUT_FLOAT && call.input.kind != QLM_INPUT_DYNAMIC) Py_RETURN_NONE;
    if (!read_direct(bound, &call, dims)) Py_RETURN_NONE;
    if (!(output->weight = qlm_packed_for(module, bound[2], &call.input))) return NULL;
    PyObject *result = qlm_given(bound[6])
                           ? Py_NewRef(bound[6])
                           : PyArray_SimpleNew(PyArray_NDIM((PyArrayObject *)bound[0]), dims, NPY_FLOAT32);
    if (!result) return NULL;
    output->out = qlm_data(result);
    enum qlm_status status;
    if (run_call(&call, &status) == 0) {
        if (status == QLM_OK) return result;
        Py_DECREF(result);
        if (status == QLM_NO_MEMORY) return PyErr_NoMemory();
        Py_RETURN_NONE;
    }
    Py_DECREF(result);
    return NULL;
}

/* ---- matmul_codes ---------------------------------------------------------------------------------------------- */

struct product {
    const void *a;
    const struct qlm_type *type;
    size_t m;
    const struct qlm_packed *b;
    int wide;
    void *c;
};

static enum qlm_status product_slice(void *context, size_t begin, size_t end)
{
    const struct product *p = context;
    return qlm_matmul_codes(p->a, p->type, p->m, p->b, p->wide, begin, end, p->c);
}

static int check_product(const struct qlm_array *a, const struct qlm_packed *b)
{
    if (b->kind == QLM_PACKED_F32 || b->groups > 1) {
        PyErr_SetString(PyExc_ValueError, "weight must be of codes without groups");
        return -1;
    }
    if (a->columns == b->k) return 0;
    PyErr_Format(PyExc_ValueError, "a has %zu columns, but the weight takes %zu", a->columns, b->k);
    return -1;
}

QLM_FUNCTION(matmul_codes)
{
    static const struct qlm_signature signature = {"matmul_codes", 4, 5, {"a", "dtype", "weight", "wide", "out"}};
    PyObject *bound[5];
    struct qlm_array a;
    struct product product = {0};
    const struct qlm_dtype *dtype;
    enum qlm_status status;
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (!(dtype = qlm_take_dtype(bound[1], "dtype")) || !(product.b = qlm_take_packed(module, bound[2]))) return NULL;
    if (qlm_take_ndim(bound[0], "a", qlm_code_element(dtype->type.code), 2, &a) || check_product(&a, product.b))
        return NULL;
    struct qlm_linear_input codes = {.kind = QLM_INPUT_CODES, .type = dtype->type};
    if (qlm_take_flag(bound[3], "wide", 0, &product.wide)) return NULL;
    if (!(product.b = qlm_packed_for(module, bound[2], &codes))) return NULL;
    size_t shape[2] = {a.rows, product.b->n};
    PyObject *result = qlm_result(bound[4], "out", product.wide ? QLM_INT64 : QLM_INT32, 2, shape);
    if (!result) return NULL;
    product.a = a.data;
    product.type = &dtype->type;
    product.m = a.rows;
    product.c = qlm_data(result);
    struct qlm_work work = {a.rows, STEP, 1.0 + (double)product.b->n * (double)product.b->k};
    int failed = qlm_run_slices(&work, product_slice, &product, &status);
    if (!failed && status == QLM_OK) return result;
    if (!failed) qlm_raise_status(module, status, 0, "this product of codes");
    Py_DECREF(result);
    return NULL;
}

PyMethodDef qlm_linear_methods[] = {
    QLM_METHOD(
        linear,
        "linear(x, input, weights, biases=None, activation=None, residuals=None, outs=None) -> tuple\n\n"
        "float32 [m, n] = act(x W^T + bias) + residual for each weight; x [m, k] as the Input says. Tuples of one "
        "item, or None, for each weight. NonFinite where x is quantized and not finite."),
    QLM_METHOD(linear_direct,
               "linear_direct(x, input, weight, bias=None, activation=None, residual=None, out=None) -> array or "
               "None\n\nlinear() of one weight for x [..., k] where every array is float32 and plain; None where "
               "one is not, does not fit or is not finite: linear() then says why."),
    QLM_METHOD(matmul_codes, "matmul_codes(a, dtype, weight, wide, out=None) -> int32 or, if wide, int64 [m, n]\n\n"
                             "The exact product of codes a [m, k] and a PackedWeight of codes without groups."),
    {NULL, NULL, 0, NULL},
};
