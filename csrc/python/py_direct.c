/* py_direct.c: quantize and dequantize on arrays that the kernels can read as they are.
 *
 * A call has no Python between itself and the work, which takes microseconds where this takes a tenth of one.  Whatever
 * is not so, or is wrong, gets None: then qlm/ops.py looks at the arguments one by one, converts, and makes the errors.
 */
#include "py_module.h"
#include "py_slices.h"
#include "py_types.h"

#include <numpy/arrayscalars.h>

#include "common.h"
#include "layout.h"

#define STEP 4096
#define LONGEST_RUN 32768 /* floats whose range is found on the way: as in qlm/ops.py */

struct direct {
    PyArrayObject *x, *out;
    const struct qlm_dtype *dtype;
    long axis; /* counted from 0 up, where one is given */
    struct qlm_layout layout;
    npy_intp dims[NPY_MAXDIMS]; /* of the parameters */
    int ndim;
    size_t size, params, length; /* length: of a run whose range is found */
    int symmetric;
    float one_scale;
    int32_t one_zero;
    const float *scale, *offset;
    const int32_t *zero;
    float *found_scale;
    int32_t *found_zero;
    void *target;
    size_t bad;
};

/* ---- what can be read as it is --------------------------------------------------------------------------------- */

/* An exact int from least to most. */
static int read_int(PyObject *object, long least, long most, long *value)
{
    int overflow;
    if (!PyLong_CheckExact(object)) return 0;
    *value = PyLong_AsLongAndOverflow(object, &overflow);
    return !overflow && *value >= least && *value <= most;
}

static int number_of(enum qlm_code code)
{
    static const int numbers[] = {
        [QLM_S8] = NPY_INT8, [QLM_U8] = NPY_UINT8, [QLM_S16] = NPY_INT16, [QLM_U16] = NPY_UINT16};
    return numbers[code];
}

static int is_flag(PyObject *object) { return !qlm_given(object) || PyBool_Check(object); }

static void along_axis(struct direct *d, const npy_intp *shape, int ndim, long axis)
{
    d->layout = (struct qlm_layout){1, (size_t)shape[axis], 1, 0};
    for (int i = 0; i < axis; i++) d->layout.outer *= (size_t)shape[i];
    for (int i = (int)axis + 1; i < ndim; i++) d->layout.inner *= (size_t)shape[i];
    d->ndim = 1;
    d->dims[0] = shape[axis];
}

static void in_groups(struct direct *d, const npy_intp *shape, int ndim, long group)
{
    size_t length = (size_t)shape[ndim - 1], taken = qlm_min_size((size_t)group, length);
    d->layout = (struct qlm_layout){1, d->size / length, length, taken};
    d->ndim = ndim;
    memcpy(d->dims, shape, (size_t)ndim * sizeof *shape);
    d->dims[ndim - 1] = (npy_intp)qlm_div_up(length, taken);
}

/* The layout of an array's parameters; 0: no elements, or an axis or group that is wrong. */
static int read_layout(PyArrayObject *array, PyObject *axis, PyObject *group, struct direct *d)
{
    int ndim = PyArray_NDIM(array);
    long number;
    d->size = (size_t)PyArray_SIZE(array);
    if (!d->size || (qlm_given(axis) && qlm_given(group))) return 0;
    d->layout = (struct qlm_layout){1, 1, d->size, 0};
    d->ndim = 0;
    if (qlm_given(axis)) {
        if (!read_int(axis, -ndim, ndim - 1, &number)) return 0;
        d->axis = number < 0 ? number + ndim : number;
        along_axis(d, PyArray_DIMS(array), ndim, d->axis);
    } else if (qlm_given(group)) {
        if (!ndim || !read_int(group, 1, LONG_MAX, &number)) return 0;
        in_groups(d, PyArray_DIMS(array), ndim, number);
    }
    d->params = qlm_layout_params(&d->layout);
    return 1;
}

/* Parameters as float32: those of an array are read where they lie, or are converted from float16 (*converted). */
static int read_floats(PyObject *object, struct direct *d, PyObject **converted, const float **values)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_CheckExact(object) || PyArray_SIZE(array) != (npy_intp)d->params) return 0;
    if (PyArray_TYPE(array) == NPY_HALF) {
        if (!(*converted = PyArray_FROM_OTF(object, NPY_FLOAT32, NPY_ARRAY_CARRAY))) return 0;
        object = *converted;
    }
    *values = PyArray_DATA((PyArrayObject *)object);
    return qlm_is_plain(object, NPY_FLOAT32);
}

/* ---- quantize --------------------------------------------------------------------------------------------------- */

static int read_out(PyObject *object, struct direct *d)
{
    d->out = NULL;
    if (!qlm_given(object)) return 1;
    d->out = (PyArrayObject *)object;
    return qlm_is_plain(object, number_of(d->dtype->type.code)) && PyArray_ISWRITEABLE(d->out) &&
           PyArray_SAMESHAPE(d->out, d->x) && !qlm_overlap(d->out, d->x);
}

static int read_one_scale(PyObject *object, struct direct *d)
{
    double value;
    if (PyFloat_CheckExact(object))
        value = PyFloat_AS_DOUBLE(object);
    else if (PyArray_IsScalar(object, Float))
        value = PyArrayScalar_VAL(object, Float);
    else
        return 0;
    d->one_scale = (float)value;
    d->scale = &d->one_scale;
    return value >= 0x1p-126 && value < 0x1p127;
}

static int read_scales(PyObject *object, const struct direct *d)
{
    PyArrayObject *array = (PyArrayObject *)object;
    /* Zero points of unsigned types lie in the middle, one for each: the long way makes them. */
    if (!qlm_is_plain(object, NPY_FLOAT32) || d->dtype->type.min == 0) return 0;
    return PyArray_NDIM(array) == d->ndim && PyArray_CompareLists(PyArray_DIMS(array), d->dims, d->ndim);
}

static int read_given(PyObject *scale, PyObject *zero, PyObject *symmetric, struct direct *d)
{
    const struct qlm_type *type = &d->dtype->type;
    long number;
    if (qlm_given(symmetric)) return 0;
    if (d->ndim) return !qlm_given(zero) && read_scales(scale, d);
    if (!read_one_scale(scale, d)) return 0;
    if (qlm_given(zero)) {
        if (!read_int(zero, type->min, type->max, &number)) return 0;
        d->one_zero = (int32_t)number;
        d->zero = &d->one_zero;
    } else if (type->min == 0) {
        d->one_zero = 1 << (type->bits - 1);
        d->zero = &d->one_zero;
    }
    return 1;
}

/* Runs of one length, one for each parameter, short enough to stay in a cache. */
static int read_found(PyObject *zero, PyObject *symmetric, struct direct *d)
{
    const struct qlm_layout *layout = &d->layout;
    if (qlm_given(zero) || !is_flag(symmetric)) return 0;
    d->symmetric = qlm_given(symmetric) ? symmetric == Py_True : d->dtype->type.min < 0;
    d->length = layout->group ? layout->group : layout->inner;
    return layout->outer == 1 && d->length > 1 && d->length <= LONGEST_RUN && layout->inner % d->length == 0;
}

static enum qlm_status given_slice(void *context, size_t begin, size_t end)
{
    struct direct *d = context;
    const struct qlm_type *type = &d->dtype->type;
    d->bad = qlm_quantize(PyArray_DATA(d->x), &d->layout, begin, end, type, type->min, type->max, d->scale, d->zero,
                          d->target);
    return d->bad == SIZE_MAX ? QLM_OK : QLM_NONFINITE;
}

static enum qlm_status found_slice(void *context, size_t begin, size_t end)
{
    struct direct *d = context;
    d->bad = qlm_quantize_found(PyArray_DATA(d->x), d->length, d->params, begin, end, &d->dtype->type, d->symmetric, 0,
                                d->found_scale, d->found_zero, d->target);
    return d->bad == SIZE_MAX ? QLM_OK : QLM_NONFINITE;
}

/* 1: done; 0: not finite, which the long way says; -1: interrupted. */
static int run(const struct qlm_work *work, qlm_slice slice, struct direct *d)
{
    enum qlm_status status;
    d->bad = SIZE_MAX;
    if (qlm_run_slices(work, slice, d, &status)) return -1;
    return status == QLM_OK && d->bad == SIZE_MAX;
}

static PyObject *one_code(const struct qlm_type *type, int32_t value)
{
    PyArray_Descr *descr = PyArray_DescrFromType(number_of(type->code));
    PyObject *scalar = PyArray_Scalar(&value, descr, NULL); /* reads its low bytes, of any CPU here the first */
    Py_DECREF(descr);
    return scalar;
}

static PyObject *one_float(float value)
{
    PyObject *scalar = PyArrayScalar_New(Float);
    if (scalar) PyArrayScalar_ASSIGN(scalar, Float, value);
    return scalar;
}

/* The copy is what is checked and used: `out` may lie over the caller's array, and another thread may change it. */
static int copy_scales(struct direct *d, PyObject *given, PyObject **scale)
{
    if (!(*scale = PyArray_NewCopy((PyArrayObject *)given, NPY_CORDER))) return -1;
    d->scale = qlm_data(*scale);
    for (size_t i = 0; i < d->params; i++)
        if (!qlm_has_inverse(d->scale[i])) return 0;
    return 1;
}

static int run_given(struct direct *d, PyObject *given, PyObject **scale, PyObject **zero)
{
    struct qlm_work work = {d->size, STEP, qlm_element_cost()};
    int done = d->ndim ? copy_scales(d, given, scale) : 1;
    if (done == 1) done = run(&work, given_slice, d);
    if (done < 1) return done;
    if (!d->ndim) *scale = one_float(d->one_scale);
    *zero = d->zero ? one_code(&d->dtype->type, d->one_zero) : Py_NewRef(Py_None);
    return *scale && *zero ? 1 : -1;
}

static PyObject *codes_of(const struct direct *d)
{
    PyObject *zeros = PyArray_SimpleNew(d->ndim, d->dims, number_of(d->dtype->type.code));
    if (!zeros) return NULL;
    uint8_t *bytes = qlm_data(zeros);
    uint16_t *words = qlm_data(zeros);
    for (size_t i = 0; i < d->params; i++) {
        if (d->dtype->type.bits > 8)
            words[i] = (uint16_t)d->found_zero[i];
        else
            bytes[i] = (uint8_t)d->found_zero[i];
    }
    return zeros;
}

static int run_found(struct direct *d, PyObject **scale, PyObject **zero)
{
    struct qlm_work work = {d->params, 1, 2 * qlm_element_cost() * (double)d->length};
    int zero_by_definition = d->symmetric && d->dtype->type.min < 0;
    if (!(*scale = PyArray_SimpleNew(d->ndim, d->dims, NPY_FLOAT32))) return -1;
    d->found_scale = qlm_data(*scale);
    if (!zero_by_definition && !(d->found_zero = PyMem_RawMalloc(d->params * sizeof(int32_t)))) {
        PyErr_NoMemory();
        return -1;
    }
    int done = run(&work, found_slice, d);
    if (done == 1) *zero = zero_by_definition ? Py_NewRef(Py_None) : codes_of(d);
    PyMem_RawFree(d->found_zero);
    return done == 1 && !*zero ? -1 : done;
}

/* In place of an array of no axes a NumPy scalar, which nobody can change; all else as it is. */
static PyObject *as_scalar(PyObject *params) { return PyArray_Return((PyArrayObject *)params); }

/* bound: what quantize_direct is given. */
static PyObject *tensor_of(const struct direct *d, PyObject *const *bound, PyObject *out, PyObject *scale,
                           PyObject *zero)
{
    PyObject *axis = qlm_given(bound[3]) ? PyLong_FromLong(d->axis) : Py_NewRef(Py_None);
    if (!axis) return NULL;
    struct qlm_tensor_parts parts = {out, scale, zero, bound[2], axis, bound[4]};
    PyObject *tensor = qlm_new_tensor((PyTypeObject *)bound[0], &parts);
    Py_DECREF(axis);
    return tensor;
}

static PyObject *quantized(struct direct *d, PyObject *const *bound)
{
    PyObject *out, *scale = NULL, *zero = NULL, *result = NULL;
    if (d->out)
        out = Py_NewRef((PyObject *)d->out);
    else
        out = PyArray_SimpleNew(PyArray_NDIM(d->x), PyArray_DIMS(d->x), number_of(d->dtype->type.code));
    if (!out) return NULL;
    d->target = qlm_data(out);
    int done = qlm_given(bound[6]) ? run_given(d, bound[6], &scale, &zero) : run_found(d, &scale, &zero);
    if (done == 0) result = Py_NewRef(Py_None);
    if (done == 1) {
        scale = as_scalar(scale);
        zero = as_scalar(zero);
        if (scale && zero) result = tensor_of(d, bound, out, scale, zero);
    }
    Py_XDECREF(scale);
    Py_XDECREF(zero);
    Py_DECREF(out);
    return result;
}

/* A QType: a tuple, its name first. */
static const struct qlm_dtype *read_qtype(PyObject *object)
{
    if (PyTuple_Check(object) && PyTuple_GET_SIZE(object) > 0)
        return qlm_take_dtype(PyTuple_GET_ITEM(object, 0), "dtype");
    PyErr_SetString(PyExc_TypeError, "qtype must be a QType");
    return NULL;
}

static int check_kind(PyObject *module, PyObject *object)
{
    PyTypeObject *base = qlm_state_of(module)->tensor_type;
    if (PyType_Check(object) && PyType_IsSubtype((PyTypeObject *)object, base)) return 0;
    PyErr_SetString(PyExc_TypeError, "kind must be a type derived from TensorParts");
    return -1;
}

QLM_FUNCTION(quantize_direct)
{
    static const struct qlm_signature signature = {
        "quantize_direct",
        9,
        9,
        {"kind", "x", "qtype", "axis", "group_size", "symmetric", "scale", "zero_point", "out"}};
    PyObject *bound[9];
    struct direct d = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || check_kind(module, bound[0])) return NULL;
    if (!(d.dtype = read_qtype(bound[2]))) return NULL;
    if (!qlm_is_plain(bound[1], NPY_FLOAT32)) Py_RETURN_NONE;
    d.x = (PyArrayObject *)bound[1];
    if (!read_layout(d.x, bound[3], bound[4], &d) || !read_out(bound[8], &d)) Py_RETURN_NONE;
    int read = qlm_given(bound[6]) ? read_given(bound[6], bound[7], bound[5], &d) : read_found(bound[7], bound[5], &d);
    if (!read) Py_RETURN_NONE;
    return quantized(&d, bound);
}

/* ---- dequantize ------------------------------------------------------------------------------------------------- */

static int read_codes(PyObject *object, struct direct *d, enum qlm_code *code)
{
    for (*code = QLM_S8; *code <= QLM_U16; ++*code)
        if (qlm_is_plain(object, number_of(*code))) break;
    d->x = (PyArrayObject *)object;
    return *code <= QLM_U16;
}

static int read_parameter(PyObject *object, struct direct *d, PyObject **converted, float *one, const float **values)
{
    if (!qlm_given(object)) return 1;
    if (d->ndim) return read_floats(object, d, converted, values);
    if (!PyArray_IsScalar(object, Float)) return 0;
    *one = PyArrayScalar_VAL(object, Float);
    *values = one;
    return 1;
}

static int read_zeros(PyObject *object, struct direct *d, PyObject **converted)
{
    if (!qlm_given(object)) return 1;
    if (!d->ndim) {
        if (!PyArray_IsScalar(object, Integer)) return 0;
        d->one_zero = (int32_t)PyLong_AsLong(object);
        d->zero = &d->one_zero;
        return !PyErr_Occurred();
    }
    if (!PyArray_CheckExact(object) || PyArray_SIZE((PyArrayObject *)object) != (npy_intp)d->params) return 0;
    if (!(*converted = PyArray_FROM_OTF(object, NPY_INT32, NPY_ARRAY_CARRAY))) return 0;
    d->zero = qlm_data(*converted);
    return 1;
}

static int overlaps(PyArrayObject *out, PyObject *object)
{ return qlm_given(object) && PyArray_Check(object) && qlm_overlap(out, (PyArrayObject *)object); }

struct back {
    struct direct direct;
    enum qlm_code code;
};

static enum qlm_status back_slice(void *context, size_t begin, size_t end)
{
    const struct back *b = context;
    const struct direct *d = &b->direct;
    qlm_dequantize(PyArray_DATA(d->x), b->code, &d->layout, begin, end, d->scale, d->zero, d->offset, d->target);
    return QLM_OK;
}

static PyObject *dequantized(struct back *b)
{
    struct direct *d = &b->direct;
    PyObject *out =
        d->out ? Py_NewRef((PyObject *)d->out) : PyArray_SimpleNew(PyArray_NDIM(d->x), PyArray_DIMS(d->x), NPY_FLOAT32);
    struct qlm_work work = {d->size, STEP, qlm_element_cost()};
    enum qlm_status status;
    if (!out) return NULL;
    d->target = qlm_data(out);
    if (qlm_run_slices(&work, back_slice, b, &status)) Py_CLEAR(out);
    return out;
}

/* bound: values, axis, group_size, scale, zero_point, offset, out; converted: for scale, zero point and offset. */
static int read_back(PyObject *const *bound, struct back *b, PyObject **converted, float *one_offset)
{
    struct direct *d = &b->direct;
    if (!read_codes(bound[0], d, &b->code) || !read_layout(d->x, bound[1], bound[2], d)) return 0;
    if (!read_parameter(bound[3], d, &converted[0], &d->one_scale, &d->scale) || !d->scale) return 0;
    if (!read_zeros(bound[4], d, &converted[1])) return 0;
    if (!read_parameter(bound[5], d, &converted[2], one_offset, &d->offset)) return 0;
    if (!qlm_given(bound[6])) return 1;
    d->out = (PyArrayObject *)bound[6];
    if (!qlm_is_plain(bound[6], NPY_FLOAT32) || !PyArray_ISWRITEABLE(d->out) || !PyArray_SAMESHAPE(d->out, d->x))
        return 0;
    for (int i = 0; i < 6; i++)
        if (overlaps(d->out, bound[i])) return 0;
    return 1;
}

QLM_FUNCTION(dequantize_direct)
{
    (void)module;
    static const struct qlm_signature signature = {
        "dequantize_direct", 7, 7, {"values", "axis", "group_size", "scale", "zero_point", "offset", "out"}};
    PyObject *bound[7], *converted[3] = {NULL}, *result = NULL;
    struct back back = {.code = QLM_S8};
    float one_offset;
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (read_back(bound, &back, converted, &one_offset))
        result = dequantized(&back);
    else if (!PyErr_Occurred())
        result = Py_NewRef(Py_None);
    for (int i = 0; i < 3; i++) Py_XDECREF(converted[i]);
    return result;
}

PyMethodDef qlm_direct_methods[] = {
    QLM_METHOD(
        quantize_direct,
        "quantize_direct(kind, x, qtype, axis, group_size, symmetric, scale, zero_point, out) -> kind or None\n\n"
        "What qlm.quantize gives, of the type kind, where every array is plain; None where one is not, does "
        "not fit or is not finite: quantize() then says why."),
    QLM_METHOD(dequantize_direct,
               "dequantize_direct(values, axis, group_size, scale, zero_point, offset, out) -> array or None\n\n"
               "What the codes stand for, where every array is plain; else None."),
    {NULL, NULL, 0, NULL},
};
