/* py_params.c: scales, zero points and offsets from ranges: element-wise over parameters. */
#include "common.h"
#include "py_module.h"
#include "py_slices.h"

#define COST 64.0 /* of one parameter: a few float64 divisions */

struct params {
    const float *min, *max;
    const struct qlm_type *type;
    int symmetric;
    float *scale, *offset;
    int32_t *zero;
    uint8_t *constant;
    double alpha;
    size_t bad;
};

/* A new 1-d array of n elements; data: where its values are. */
static PyObject *new_vector(enum qlm_element element, size_t n, void *data)
{
    PyObject *vector = qlm_result(NULL, "out", element, 1, &n);
    if (vector) *(void **)data = qlm_data(vector);
    return vector;
}

static int run(size_t n, qlm_slice slice, struct params *params, enum qlm_status *status)
{
    struct qlm_work work = {n, 1, COST};
    return qlm_run_slices(&work, slice, params, status);
}

/* min and max: float32, of one size, finite and in order. */
static int take_range(PyObject *low, PyObject *high, struct params *params, size_t *n)
{
    struct qlm_array min, max;
    if (qlm_take_array(low, "min", QLM_FLOAT32, &min) || qlm_take_sized(high, "max", QLM_FLOAT32, min.size, &max))
        return -1;
    if (qlm_check_finite(&min, "min") || qlm_check_finite(&max, "max")) return -1;
    params->min = min.data;
    params->max = max.data;
    *n = min.size;
    for (size_t i = 0; i < *n; i++) {
        if (params->min[i] <= params->max[i]) continue;
        PyErr_Format(PyExc_ValueError, "min must not be above max, but is at index %zu", i);
        return -1;
    }
    return 0;
}

/* ---- choose_qparams -------------------------------------------------------------------------------------------- */

static enum qlm_status choose_slice(void *context, size_t begin, size_t end)
{
    const struct params *p = context;
    for (size_t i = begin; i < end; i++) {
        struct qlm_qparams chosen = qlm_choose_qparams(p->min[i], p->max[i], p->type, p->symmetric);
        p->scale[i] = chosen.scale;
        p->zero[i] = chosen.zero;
    }
    return QLM_OK;
}

QLM_FUNCTION(choose_qparams)
{
    (void)module;
    static const struct qlm_signature signature = {"choose_qparams", 4, 4, {"min", "max", "dtype", "symmetric"}};
    PyObject *bound[4], *scale, *zero, *result = NULL;
    struct params params = {0};
    const struct qlm_dtype *dtype;
    enum qlm_status status;
    size_t n;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_range(bound[0], bound[1], &params, &n)) return NULL;
    if (!(dtype = qlm_take_dtype(bound[2], "dtype"))) return NULL;
    if (qlm_take_flag(bound[3], "symmetric", 0, &params.symmetric)) return NULL;
    params.type = &dtype->type;
    scale = new_vector(QLM_FLOAT32, n, &params.scale);
    zero = new_vector(QLM_INT32, n, &params.zero);
    if (scale && zero && run(n, choose_slice, &params, &status) == 0) result = PyTuple_Pack(2, scale, zero);
    Py_XDECREF(scale);
    Py_XDECREF(zero);
    return result;
}

/* ---- interval_params ------------------------------------------------------------------------------------------- */

static enum qlm_status interval_slice(void *context, size_t begin, size_t end)
{
    struct params *p = context;
    for (size_t i = begin; i < end; i++) {
        int constant;
        p->bad = i;
        if (qlm_interval_params(p->min[i], p->max[i], p->type, &p->scale[i], &p->offset[i], &constant) != QLM_OK)
            return QLM_UNSUPPORTED;
        p->constant[i] = (uint8_t)constant;
    }
    return QLM_OK;
}

static PyObject *interval_result(struct params *params, size_t n, PyObject *scale, PyObject *offset, PyObject *constant)
{
    enum qlm_status status;
    if (run(n, interval_slice, params, &status)) return NULL;
    if (status == QLM_OK) return PyTuple_Pack(3, scale, offset, constant);
    PyErr_Format(PyExc_ValueError, "midpoints overflow float32 at index %zu", params->bad);
    return NULL;
}

QLM_FUNCTION(interval_params)
{
    (void)module;
    static const struct qlm_signature signature = {"interval_params", 3, 3, {"min", "max", "dtype"}};
    PyObject *bound[3], *scale, *offset, *constant, *result = NULL;
    struct params params = {0};
    const struct qlm_dtype *dtype;
    size_t n;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_range(bound[0], bound[1], &params, &n)) return NULL;
    if (!(dtype = qlm_take_dtype(bound[2], "dtype"))) return NULL;
    params.type = &dtype->type;
    scale = new_vector(QLM_FLOAT32, n, &params.scale);
    offset = new_vector(QLM_FLOAT32, n, &params.offset);
    constant = new_vector(QLM_UINT8, n, &params.constant);
    if (scale && offset && constant) result = interval_result(&params, n, scale, offset, constant);
    Py_XDECREF(scale);
    Py_XDECREF(offset);
    Py_XDECREF(constant);
    return result;
}

/* ---- first_bad -------------------------------------------------------------------------------------------------- */

#define CHECK_COST 1.0 /* of one value */

static enum qlm_status finite_slice(void *context, size_t begin, size_t end)
{
    struct params *p = context;
    uint32_t bad = 0;
    for (size_t i = begin; i < end; i++) bad |= !qlm_is_finite(p->min[i]);
    for (p->bad = begin; bad && qlm_is_finite(p->min[p->bad]);) p->bad++;
    return bad ? QLM_NONFINITE : QLM_OK;
}

static enum qlm_status inverse_slice(void *context, size_t begin, size_t end)
{
    struct params *p = context;
    for (p->bad = begin; p->bad < end && qlm_has_inverse(p->min[p->bad]);) p->bad++;
    return p->bad < end ? QLM_NONFINITE : QLM_OK;
}

QLM_FUNCTION(first_bad)
{
    (void)module;
    static const struct qlm_signature signature = {"first_bad", 1, 2, {"x", "scale"}};
    PyObject *bound[2];
    struct qlm_array x;
    struct params params = {0};
    enum qlm_status status;
    int scale;
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || qlm_take_array(bound[0], "x", QLM_FLOAT32, &x))
        return NULL;
    if (qlm_take_flag(bound[1], "scale", 0, &scale)) return NULL;
    params.min = x.data;
    struct qlm_work work = {x.size, 4096, CHECK_COST};
    if (qlm_run_slices(&work, scale ? inverse_slice : finite_slice, &params, &status)) return NULL;
    return PyLong_FromSsize_t(status == QLM_OK ? -1 : (Py_ssize_t)params.bad);
}

/* ---- round_up_half, smoothquant_scales ------------------------------------------------------------------------- */

static enum qlm_status half_slice(void *context, size_t begin, size_t end)
{
    const struct params *p = context;
    for (size_t i = begin; i < end; i++) p->scale[i] = qlm_round_up_half(p->min[i]);
    return QLM_OK;
}

static PyObject *core_round_up_half(PyObject *module, PyObject *scales)
{
    (void)module;
    struct qlm_array given;
    struct params params = {0};
    enum qlm_status status;
    if (qlm_take_array(scales, "scale", QLM_FLOAT32, &given)) return NULL;
    params.min = given.data;
    PyObject *rounded = new_vector(QLM_FLOAT32, given.size, &params.scale);
    if (rounded && run(given.size, half_slice, &params, &status)) Py_CLEAR(rounded);
    return rounded;
}

static enum qlm_status smooth_slice(void *context, size_t begin, size_t end)
{
    const struct params *p = context;
    qlm_smoothquant_scales(p->min + begin, p->max + begin, end - begin, p->alpha, p->scale + begin);
    return QLM_OK;
}

QLM_FUNCTION(smoothquant_scales)
{
    (void)module;
    static const struct qlm_signature signature = {"smoothquant_scales", 3, 3, {"act", "w", "alpha"}};
    PyObject *bound[3];
    struct qlm_array act, w;
    struct params params = {0};
    enum qlm_status status;
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (qlm_take_array(bound[0], "act", QLM_FLOAT32, &act)) return NULL;
    if (qlm_take_sized(bound[1], "w", QLM_FLOAT32, act.size, &w)) return NULL;
    if (qlm_take_double(bound[2], "alpha", &params.alpha)) return NULL;
    if (qlm_check_finite(&act, "act") || qlm_check_finite(&w, "w")) return NULL;
    if (!(params.alpha >= 0 && params.alpha <= 1)) {
        PyErr_Format(PyExc_ValueError, "alpha must lie within 0..1, got %S", bound[2]);
        return NULL;
    }
    params.min = act.data;
    params.max = w.data;
    PyObject *scales = new_vector(QLM_FLOAT32, act.size, &params.scale);
    if (scales && run(act.size, smooth_slice, &params, &status)) Py_CLEAR(scales);
    return scales;
}

PyMethodDef qlm_params_methods[] = {
    QLM_METHOD(choose_qparams, "choose_qparams(min, max, dtype, symmetric) -> (scale, zero)\n\n"
                               "float32 and int32 [n] for ranges float32 [n], finite and in order."),
    QLM_METHOD(interval_params, "interval_params(min, max, dtype) -> (scale, offset, constant)\n\n"
                                "float32, float32 and uint8 [n]; ValueError where a midpoint overflows."),
    QLM_METHOD(first_bad, "first_bad(x, scale=False) -> int\n\n"
                          "Flat index of the first value that is not finite (scale: nor > 0 with a finite inverse); "
                          "-1: there is none."),
    {"round_up_half", core_round_up_half, METH_O,
     "round_up_half(scale) -> float32 [n]\n\nEach scale rounded up to a float16; inf past 65504."},
    QLM_METHOD(smoothquant_scales, "smoothquant_scales(act, w, alpha) -> float32 [n]\n\n"
                                   "act**alpha / w**(1 - alpha), both floored at 1e-5."),
    {NULL, NULL, 0, NULL},
};
