/* py_arrays.c: the element-wise drivers: ranges, quantize, dequantize, gradients. */
#include <math.h>

#include "common.h"
#include "py_module.h"
#include "py_slices.h"

/* Upper estimates for an element, and the elements that slices are multiples of. */
#define RANGE_COST 2.0
#define STEP 4096

struct job {
    const float *x, *scale, *offset, *min, *max;
    const int32_t *zero;
    const uint8_t *constant;
    const void *codes;
    enum qlm_code code;
    struct qlm_layout layout;
    struct qlm_type type;
    int32_t lo, hi;
    void *out;
    float *range_min, *range_max;
    size_t params;
    size_t bad; /* SIZE_MAX: none */
};

static int run(size_t size, double cost, qlm_slice slice, struct job *job)
{
    struct qlm_work work = {size, STEP, cost};
    enum qlm_status status; /* QLM_NONFINITE at most, and job->bad tells it */
    job->bad = SIZE_MAX;
    return qlm_run_slices(&work, slice, job, &status);
}

/* The index of the first value that is not finite, -1 where there is none. */
static Py_ssize_t bad_index(const struct job *job) { return job->bad == SIZE_MAX ? -1 : (Py_ssize_t)job->bad; }

/* x: float32, of any shape that the layout describes. */
static int take_input(PyObject *array, PyObject *layout, struct job *job, size_t *size)
{
    struct qlm_array x;
    if (qlm_take_array(array, "x", QLM_FLOAT32, &x)) return -1;
    job->x = x.data;
    *size = x.size;
    return qlm_take_layout(layout, x.size, &job->layout, &job->params);
}

static int take_floats(PyObject *object, const char *name, size_t size, const float **values)
{
    struct qlm_array array;
    *values = NULL;
    if (!qlm_given(object)) return 0;
    if (qlm_take_sized(object, name, QLM_FLOAT32, size, &array)) return -1;
    *values = array.data;
    return 0;
}

/* A scale that is divided by. */
static int take_divisors(PyObject *object, size_t size, const float **values)
{
    struct qlm_array array;
    if (qlm_take_sized(object, "scale", QLM_FLOAT32, size, &array) || qlm_check_scales(&array, "scale")) return -1;
    *values = array.data;
    return 0;
}

static int take_zeros(PyObject *object, size_t size, const struct qlm_type *type, const int32_t **values)
{
    struct qlm_array array;
    *values = NULL;
    if (!qlm_given(object)) return 0;
    if (qlm_take_sized(object, "zero", QLM_INT32, size, &array)) return -1;
    if (type && qlm_check_zeros(&array, "zero", type)) return -1;
    *values = array.data;
    return 0;
}

static int take_type(PyObject *object, struct job *job)
{
    const struct qlm_dtype *dtype = qlm_take_dtype(object, "dtype");
    if (!dtype) return -1;
    job->type = dtype->type;
    return 0;
}

static int take_target(PyObject *object, enum qlm_element element, size_t size, struct job *job)
{
    struct qlm_array out;
    if (qlm_take_target(object, "out", element, size, &out)) return -1;
    job->out = out.data;
    return 0;
}

/* ---- range ----------------------------------------------------------------------------------------------------- */

static enum qlm_status range_slice(void *context, size_t begin, size_t end)
{
    struct job *job = context;
    size_t bad;
    qlm_range(job->x, &job->layout, begin, end, job->range_min, job->range_max, &bad);
    if (job->bad == SIZE_MAX) job->bad = bad; /* the others' ranges are wanted all the same */
    return QLM_OK;
}

static PyObject *range_result(struct job *job, size_t size, PyObject *min, PyObject *max)
{
    job->range_min = qlm_data(min);
    job->range_max = qlm_data(max);
    for (size_t i = 0; i < job->params; i++) {
        job->range_min[i] = INFINITY;
        job->range_max[i] = -INFINITY;
    }
    if (run(size, RANGE_COST, range_slice, job)) return NULL;
    qlm_range_finish(job->range_min, job->range_max, job->params);
    return Py_BuildValue("OOn", min, max, bad_index(job));
}

QLM_FUNCTION(range)
{
    (void)module;
    static const struct qlm_signature signature = {"range", 2, 2, {"x", "layout"}};
    PyObject *bound[2], *min, *max, *result = NULL;
    struct job job = {0};
    size_t size;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_input(bound[0], bound[1], &job, &size)) return NULL;
    min = qlm_result(NULL, "out", QLM_FLOAT32, 1, &job.params);
    max = qlm_result(NULL, "out", QLM_FLOAT32, 1, &job.params);
    if (min && max) result = range_result(&job, size, min, max);
    Py_XDECREF(min);
    Py_XDECREF(max);
    return result;
}

/* ---- quantize -------------------------------------------------------------------------------------------------- */

static enum qlm_status quantize_slice(void *context, size_t begin, size_t end)
{
    struct job *job = context;
    job->bad =
        qlm_quantize(job->x, &job->layout, begin, end, &job->type, job->lo, job->hi, job->scale, job->zero, job->out);
    return job->bad == SIZE_MAX ? QLM_OK : QLM_NONFINITE;
}

static int take_bounds(PyObject *low, PyObject *high, struct job *job)
{
    long lo, hi;
    if (qlm_take_int(low, "lo", job->type.min, job->type.max, &lo)) return -1;
    if (qlm_take_int(high, "hi", lo, job->type.max, &hi)) return -1;
    job->lo = (int32_t)lo;
    job->hi = (int32_t)hi;
    return 0;
}

QLM_FUNCTION(quantize)
{
    (void)module;
    static const struct qlm_signature signature = {
        "quantize", 8, 8, {"x", "layout", "dtype", "lo", "hi", "scale", "zero", "out"}};
    PyObject *bound[8];
    struct job job = {0};
    size_t size;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_input(bound[0], bound[1], &job, &size)) return NULL;
    if (take_type(bound[2], &job) || take_bounds(bound[3], bound[4], &job)) return NULL;
    if (take_divisors(bound[5], job.params, &job.scale)) return NULL;
    if (take_zeros(bound[6], job.params, &job.type, &job.zero)) return NULL;
    if (take_target(bound[7], qlm_code_element(job.type.code), size, &job)) return NULL;
    if (run(size, qlm_element_cost(), quantize_slice, &job)) return NULL;
    return PyLong_FromSsize_t(bad_index(&job));
}

/* ---- quantize by the ranges found ------------------------------------------------------------------------------- */

struct found {
    struct job *job;
    size_t n; /* elements of a run */
    int symmetric, half;
    float *scale;
    int32_t *zero;
};

static enum qlm_status found_slice(void *context, size_t begin, size_t end)
{
    const struct found *found = context;
    struct job *job = found->job;
    job->bad = qlm_quantize_found(job->x, found->n, job->params, begin, end, &job->type, found->symmetric, found->half,
                                  found->scale, found->zero, job->out);
    return job->bad == SIZE_MAX ? QLM_OK : QLM_NONFINITE;
}

static int take_runs(const struct qlm_layout *layout, size_t *n)
{
    *n = layout->group ? layout->group : layout->inner;
    if (layout->outer == 1 && *n > 0 && layout->inner % *n == 0) return 0;
    PyErr_SetString(PyExc_ValueError, "layout must be of whole runs, one for each parameter");
    return -1;
}

static PyObject *found_result(struct found *found, PyObject *scale, PyObject *zero)
{
    struct qlm_work work = {found->job->params, 1, 2 * qlm_element_cost() * (double)found->n};
    enum qlm_status status; /* as in run */
    found->scale = qlm_data(scale);
    found->zero = qlm_data(zero);
    found->job->bad = SIZE_MAX;
    if (qlm_run_slices(&work, found_slice, found, &status)) return NULL;
    return Py_BuildValue("OOn", scale, zero, bad_index(found->job));
}

QLM_FUNCTION(quantize_found)
{
    (void)module;
    static const struct qlm_signature signature = {
        "quantize_found", 5, 6, {"x", "layout", "dtype", "symmetric", "out", "half"}};
    PyObject *bound[6], *scale, *zero, *result = NULL;
    struct job job = {0};
    struct found found = {.job = &job};
    size_t size;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_input(bound[0], bound[1], &job, &size)) return NULL;
    if (take_type(bound[2], &job) || qlm_take_flag(bound[3], "symmetric", 0, &found.symmetric)) return NULL;
    if (qlm_take_flag(bound[5], "half", 0, &found.half) || take_runs(&job.layout, &found.n)) return NULL;
    if (found.half && job.type.bits > 8) {
        PyErr_Format(PyExc_ValueError, "half scales are for codes of at most 8 bits, got %S", bound[2]);
        return NULL;
    }
    if (take_target(bound[4], qlm_code_element(job.type.code), size, &job)) return NULL;
    scale = qlm_result(NULL, "out", QLM_FLOAT32, 1, &job.params);
    zero = qlm_result(NULL, "out", QLM_INT32, 1, &job.params);
    if (scale && zero) result = found_result(&found, scale, zero);
    Py_XDECREF(scale);
    Py_XDECREF(zero);
    return result;
}

/* ---- the interval grid ------------------------------------------------------------------------------------------- */

static enum qlm_status interval_slice(void *context, size_t begin, size_t end)
{
    struct job *job = context;
    job->bad = qlm_quantize_interval(job->x, &job->layout, begin, end, &job->type, job->min, job->scale, job->constant,
                                     job->out);
    return job->bad == SIZE_MAX ? QLM_OK : QLM_NONFINITE;
}

QLM_FUNCTION(quantize_interval)
{
    (void)module;
    static const struct qlm_signature signature = {
        "quantize_interval", 7, 7, {"x", "layout", "dtype", "min", "scale", "constant", "out"}};
    PyObject *bound[7];
    struct qlm_array min, constant;
    struct job job = {0};
    size_t size;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_input(bound[0], bound[1], &job, &size)) return NULL;
    if (take_type(bound[2], &job)) return NULL;
    if (qlm_take_sized(bound[3], "min", QLM_FLOAT32, job.params, &min) || qlm_check_finite(&min, "min")) return NULL;
    if (take_divisors(bound[4], job.params, &job.scale)) return NULL;
    if (qlm_take_sized(bound[5], "constant", QLM_UINT8, job.params, &constant)) return NULL;
    if (take_target(bound[6], qlm_code_element(job.type.code), size, &job)) return NULL;
    job.min = min.data;
    job.constant = constant.data;
    if (run(size, 2 * qlm_element_cost(), interval_slice, &job)) return NULL;
    return PyLong_FromSsize_t(bad_index(&job));
}

/* ---- dequantize ------------------------------------------------------------------------------------------------ */

static enum qlm_status dequantize_slice(void *context, size_t begin, size_t end)
{
    struct job *job = context;
    qlm_dequantize(job->codes, job->code, &job->layout, begin, end, job->scale, job->zero, job->offset, job->out);
    return QLM_OK;
}

QLM_FUNCTION(dequantize)
{
    (void)module;
    static const struct qlm_signature signature = {
        "dequantize", 6, 6, {"codes", "layout", "scale", "zero", "offset", "out"}};
    PyObject *bound[6];
    struct qlm_array codes, scale;
    struct job job = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (qlm_take_codes(bound[0], "codes", &job.code, &codes)) return NULL;
    if (qlm_take_layout(bound[1], codes.size, &job.layout, &job.params)) return NULL;
    if (qlm_take_sized(bound[2], "scale", QLM_FLOAT32, job.params, &scale)) return NULL;
    if (take_zeros(bound[3], job.params, NULL, &job.zero)) return NULL;
    if (take_floats(bound[4], "offset", job.params, &job.offset)) return NULL;
    if (take_target(bound[5], QLM_FLOAT32, codes.size, &job)) return NULL;
    job.codes = codes.data;
    job.scale = scale.data;
    if (run(codes.size, qlm_element_cost(), dequantize_slice, &job)) return NULL;
    Py_RETURN_NONE;
}

/* ---- replace_nonfinite ----------------------------------------------------------------------------------------- */

static enum qlm_status replace_slice(void *context, size_t begin, size_t end)
{
    struct job *job = context;
    qlm_replace_nonfinite(job->x, &job->layout, begin, end, job->min, job->max, job->out);
    return QLM_OK;
}

QLM_FUNCTION(replace_nonfinite)
{
    (void)module;
    static const struct qlm_signature signature = {"replace_nonfinite", 5, 5, {"x", "layout", "min", "max", "out"}};
    PyObject *bound[5];
    struct qlm_array min, max;
    struct job job = {0};
    size_t size;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_input(bound[0], bound[1], &job, &size)) return NULL;
    if (qlm_take_sized(bound[2], "min", QLM_FLOAT32, job.params, &min) || qlm_check_finite(&min, "min")) return NULL;
    if (qlm_take_sized(bound[3], "max", QLM_FLOAT32, job.params, &max) || qlm_check_finite(&max, "max")) return NULL;
    if (take_target(bound[4], QLM_FLOAT32, size, &job)) return NULL;
    job.min = min.data;
    job.max = max.data;
    if (run(size, RANGE_COST, replace_slice, &job)) return NULL;
    Py_RETURN_NONE;
}

/* ---- fake_quantize_backward ------------------------------------------------------------------------------------ */

/* The driver sums a run in batches of 4096 elements, each added to the parameter's float64 in ascending order.  So a
 * cut between outer indices, between channels, between groups of one row, or between batches of one run leaves the
 * order of every sum as it is. */
enum cut { CUT_OUTER, CUT_CHANNELS, CUT_ROW };

struct backward {
    struct job *job;
    const float *grad;
    float *grad_x;
    double *grad_scale;
    enum cut cut;
    size_t unit, size;  /* elements in a unit, in all */
    size_t unit_params; /* parameters by which a unit moves on */
};

#define BATCH 4096

static size_t plan_backward(struct backward *b, size_t size)
{
    const struct qlm_layout *layout = &b->job->layout;
    size_t groups = layout->group ? qlm_div_up(layout->inner, layout->group) : 1;
    b->size = size;
    if (size == 0) return 0;
    if (layout->outer > 1) {
        b->cut = CUT_OUTER;
        b->unit = layout->channels * layout->inner;
        return layout->outer;
    }
    if (layout->channels > 1) {
        b->cut = CUT_CHANNELS;
        b->unit = layout->inner;
        b->unit_params = groups;
        return layout->channels;
    }
    b->cut = CUT_ROW;
    b->unit = layout->group ? layout->group : BATCH;
    b->unit_params = layout->group ? 1 : 0;
    return qlm_div_up(layout->inner, b->unit);
}

static struct qlm_layout part_of(const struct backward *b, size_t count, size_t elements)
{
    struct qlm_layout part = b->job->layout;
    if (b->cut == CUT_OUTER) part.outer = count;
    if (b->cut == CUT_CHANNELS) part.channels = count;
    if (b->cut == CUT_ROW) part.inner = elements;
    return part;
}

static enum qlm_status backward_slice(void *context, size_t begin, size_t end)
{
    const struct backward *b = context;
    const struct job *job = b->job;
    /* The last unit may be short. */
    size_t from = begin * b->unit, rest = b->size - from, wanted, elements;
    elements = qlm_mul_wraps(end - begin, b->unit, &wanted) ? rest : qlm_min_size(wanted, rest);
    size_t param = begin * b->unit_params;
    struct qlm_layout part = part_of(b, end - begin, elements);
    qlm_fake_quantize_backward(b->grad + from, job->x + from, &part, &job->type, job->scale + param,
                               job->zero ? job->zero + param : NULL, b->grad_x + from, b->grad_scale + param);
    return QLM_OK;
}

static PyObject *backward_result(struct backward *b, size_t size, PyObject *grad_x, PyObject *grad_scale)
{
    enum qlm_status status;
    struct qlm_work work = {plan_backward(b, size), 1, 0};
    work.cost = 2 * qlm_element_cost() * (double)b->unit;
    b->grad_x = qlm_data(grad_x);
    b->grad_scale = qlm_data(grad_scale);
    memset(b->grad_scale, 0, b->job->params * sizeof *b->grad_scale);
    if (qlm_run_slices(&work, backward_slice, b, &status)) return NULL;
    return PyTuple_Pack(2, grad_x, grad_scale);
}

QLM_FUNCTION(fake_quantize_backward)
{
    (void)module;
    static const struct qlm_signature signature = {
        "fake_quantize_backward", 6, 6, {"grad", "x", "layout", "dtype", "scale", "zero"}};
    PyObject *bound[6], *grad_x, *grad_scale, *result = NULL;
    struct qlm_array grad;
    struct job job = {0};
    struct backward backward = {.job = &job};
    size_t size;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_input(bound[1], bound[2], &job, &size)) return NULL;
    if (qlm_take_sized(bound[0], "grad", QLM_FLOAT32, size, &grad) || take_type(bound[3], &job)) return NULL;
    if (take_divisors(bound[4], job.params, &job.scale)) return NULL;
    if (take_zeros(bound[5], job.params, &job.type, &job.zero)) return NULL;
    backward.grad = grad.data;
    grad_x = PyArray_SimpleNew(PyArray_NDIM((PyArrayObject *)bound[1]), PyArray_DIMS((PyArrayObject *)bound[1]),
                               NPY_FLOAT32);
    grad_scale = qlm_result(NULL, "out", QLM_FLOAT64, 1, &job.params);
    if (grad_x && grad_scale && (size_t)PyArray_SIZE((PyArrayObject *)grad_x) == size)
        result = backward_result(&backward, size, grad_x, grad_scale);
    Py_XDECREF(grad_x);
    Py_XDECREF(grad_scale);
    return result;
}

PyMethodDef qlm_arrays_methods[] = {
    QLM_METHOD(range, "range(x, layout) -> (min, max, bad)\n\n"
                      "Least and greatest finite value for each parameter, float32; bad: flat index of the first value "
                      "that is not finite, or -1."),
    QLM_METHOD(quantize, "quantize(x, layout, dtype, lo, hi, scale, zero, out) -> bad\n\n"
                         "Codes clamp(rint(x / scale) + zero, lo, hi) to out. Stops at the first value that is not "
                         "finite and returns its flat index; else -1."),
    QLM_METHOD(quantize_found, "quantize_found(x, layout, dtype, symmetric, out, half=False) -> (scale, zero, bad)\n\n"
                               "Codes to out by the parameters of the range of each whole run, found in the same pass, "
                               "float32 and int32. bad: as quantize returns."),
    QLM_METHOD(quantize_interval,
               "quantize_interval(x, layout, dtype, min, scale, constant, out) -> bad\n\n"
               "Codes qmin + clamp(floor((x - min) / scale), 0, levels - 1) to out, 0 where constant."),
    QLM_METHOD(dequantize, "dequantize(codes, layout, scale, zero, offset, out)\n\n"
                           "(q - zero) * scale + offset to out, float32."),
    QLM_METHOD(replace_nonfinite, "replace_nonfinite(x, layout, min, max, out)\n\n"
                                  "x with NaN as 0 and infinities as the given ends; out may be x."),
    QLM_METHOD(fake_quantize_backward,
               "fake_quantize_backward(grad, x, layout, dtype, scale, zero) -> (grad_x, "
               "grad_scale)\n\nStraight-through gradients, float32 like x and float64 [params]."),
    {NULL, NULL, 0, NULL},
};
