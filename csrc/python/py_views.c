/* py_views.c: checked views of NumPy arrays, results, and checks of the values of parameters. */
#include "common.h"
#include "py_args.h"

/* ---- element types -------------------------------------------------------------------------------------------- */

/* Compared by kind and width: NumPy has several type numbers for one integer (long and long long). */
static const struct element {
    const char *name;
    int number;
    char kind;
    npy_intp size;
} elements[] = {
    [QLM_FLOAT32] = {"float32", NPY_FLOAT32, 'f', 4}, [QLM_FLOAT64] = {"float64", NPY_FLOAT64, 'f', 8},
    [QLM_INT8] = {"int8", NPY_INT8, 'i', 1},          [QLM_UINT8] = {"uint8", NPY_UINT8, 'u', 1},
    [QLM_INT16] = {"int16", NPY_INT16, 'i', 2},       [QLM_UINT16] = {"uint16", NPY_UINT16, 'u', 2},
    [QLM_INT32] = {"int32", NPY_INT32, 'i', 4},       [QLM_INT64] = {"int64", NPY_INT64, 'i', 8},
};

static int is_element(PyArrayObject *array, enum qlm_element element)
{
    PyArray_Descr *descr = PyArray_DESCR(array);
    if (descr->type_num == elements[element].number) return 1;
    return PyTypeNum_ISINTEGER(descr->type_num) && descr->kind == elements[element].kind &&
           PyArray_ITEMSIZE(array) == elements[element].size;
}

enum qlm_element qlm_code_element(enum qlm_code code)
{
    static const enum qlm_element codes[] = {
        [QLM_S8] = QLM_INT8, [QLM_U8] = QLM_UINT8, [QLM_S16] = QLM_INT16, [QLM_U16] = QLM_UINT16};
    return codes[code];
}

/* ---- checks ---------------------------------------------------------------------------------------------------- */

static int fail_type(PyObject *object, const char *name, const char *expected)
{
    if (PyArray_Check(object))
        PyErr_Format(PyExc_TypeError, "%s must be %s array, got %S", name, expected,
                     (PyObject *)PyArray_DESCR((PyArrayObject *)object));
    else
        PyErr_Format(PyExc_TypeError, "%s must be %s array, got %s", name, expected, Py_TYPE(object)->tp_name);
    return -1;
}

static int check_element(PyObject *object, const char *name, enum qlm_element element)
{
    if (PyArray_Check(object) && is_element((PyArrayObject *)object, element)) return 0;
    char expected[16];
    const char *article = elements[element].kind == 'i' ? "an" : "a";
    PyOS_snprintf(expected, sizeof expected, "%s %s", article, elements[element].name);
    return fail_type(object, name, expected);
}

/* Kernels read memory in order and do not swap bytes. */
static int check_memory(PyArrayObject *array, const char *name)
{
    if (PyArray_ISCARRAY_RO(array)) return 0;
    const char *lack = !PyArray_ISNOTSWAPPED(array)      ? "in native byte order"
                       : !PyArray_IS_C_CONTIGUOUS(array) ? "C-contiguous"
                                                         : "aligned to its elements";
    PyErr_Format(PyExc_ValueError, "%s must be %s", name, lack);
    return -1;
}

static void describe(PyArrayObject *object, struct qlm_array *array)
{
    array->object = object;
    array->data = PyArray_DATA(object);
    array->ndim = PyArray_NDIM(object);
    array->size = (size_t)PyArray_SIZE(object);
    array->rows = array->ndim > 0 ? (size_t)PyArray_DIM(object, 0) : 1;
    array->columns = array->ndim > 1 ? (size_t)PyArray_DIM(object, 1) : 1;
}

int qlm_take_array(PyObject *object, const char *name, enum qlm_element element, struct qlm_array *array)
{
    if (check_element(object, name, element) || check_memory((PyArrayObject *)object, name)) return -1;
    describe((PyArrayObject *)object, array);
    return 0;
}

int qlm_take_ndim(PyObject *object, const char *name, enum qlm_element element, int ndim, struct qlm_array *array)
{
    if (qlm_take_array(object, name, element, array)) return -1;
    if (array->ndim == ndim) return 0;
    PyErr_Format(PyExc_ValueError, "%s must have %d dimension%s, got %d", name, ndim, ndim == 1 ? "" : "s",
                 array->ndim);
    return -1;
}

static int check_size(const struct qlm_array *array, const char *name, size_t size)
{
    if (array->size == size) return 0;
    PyErr_Format(PyExc_ValueError, "%s must have %zu element%s, got %zu", name, size, size == 1 ? "" : "s",
                 array->size);
    return -1;
}

int qlm_take_sized(PyObject *object, const char *name, enum qlm_element element, size_t size, struct qlm_array *array)
{ return qlm_take_array(object, name, element, array) ? -1 : check_size(array, name, size); }

static int check_writable(PyArrayObject *array, const char *name)
{
    if (PyArray_ISWRITEABLE(array)) return 0;
    PyErr_Format(PyExc_ValueError, "%s is read-only", name);
    return -1;
}

int qlm_take_target(PyObject *object, const char *name, enum qlm_element element, size_t size, struct qlm_array *array)
{
    if (qlm_take_sized(object, name, element, size, array)) return -1;
    return check_writable(array->object, name);
}

int qlm_take_codes(PyObject *object, const char *name, enum qlm_code *code, struct qlm_array *array)
{
    for (int i = QLM_S8; PyArray_Check(object) && i <= QLM_U16; i++) {
        *code = (enum qlm_code)i;
        enum qlm_element element = qlm_code_element(*code);
        if (is_element((PyArrayObject *)object, element)) return qlm_take_array(object, name, element, array);
    }
    return fail_type(object, name, "an int8, uint8, int16 or uint16");
}

/* ---- results --------------------------------------------------------------------------------------------------- */

static int same_shape(PyArrayObject *array, int ndim, const size_t *shape)
{
    if (PyArray_NDIM(array) != ndim) return 0;
    for (int i = 0; i < ndim; i++)
        if ((size_t)PyArray_DIM(array, i) != shape[i]) return 0;
    return 1;
}

static PyObject *shape_tuple(int ndim, const npy_intp *dims) { return PyArray_IntTupleFromIntp(ndim, dims); }

static int wrong_shape(PyArrayObject *array, const char *name, int ndim, const npy_intp *dims)
{
    PyObject *wanted = shape_tuple(ndim, dims), *got = shape_tuple(PyArray_NDIM(array), PyArray_DIMS(array));
    if (wanted && got) PyErr_Format(PyExc_ValueError, "%s must have the shape %S, got %S", name, wanted, got);
    Py_XDECREF(wanted);
    Py_XDECREF(got);
    return -1;
}

PyObject *qlm_result(PyObject *out, const char *name, enum qlm_element element, int ndim, const size_t *shape)
{
    npy_intp dims[NPY_MAXDIMS];
    for (int i = 0; i < ndim; i++) dims[i] = (npy_intp)shape[i];
    if (!qlm_given(out)) return PyArray_SimpleNew(ndim, dims, elements[element].number);
    PyArrayObject *array = (PyArrayObject *)out;
    if (check_element(out, name, element) || check_memory(array, name) || check_writable(array, name)) return NULL;
    if (!same_shape(array, ndim, shape)) {
        wrong_shape(array, name, ndim, dims);
        return NULL;
    }
    Py_INCREF(out);
    return out;
}

/* ---- plain arrays ----------------------------------------------------------------------------------------------- */

int qlm_is_plain(PyObject *object, int number)
{
    return PyArray_CheckExact(object) && PyArray_TYPE((PyArrayObject *)object) == number &&
           PyArray_ISCARRAY_RO((PyArrayObject *)object);
}

int qlm_overlap(PyArrayObject *a, PyArrayObject *b)
{
    const char *first = PyArray_BYTES(a), *second = PyArray_BYTES(b);
    return first < second + PyArray_NBYTES(b) && second < first + PyArray_NBYTES(a);
}

/* ---- layouts and sequences -------------------------------------------------------------------------------------- */

static int layout_params(const struct qlm_layout *layout, size_t *params)
{
    size_t groups = layout->group ? qlm_div_up(layout->inner, layout->group) : 1;
    return qlm_product(layout->channels, groups, params);
}

int qlm_take_layout(PyObject *object, size_t size, struct qlm_layout *layout, size_t *params)
{
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 4) {
        PyErr_SetString(PyExc_TypeError, "layout must be a tuple (outer, channels, inner, group)");
        return -1;
    }
    static const char *const names[] = {"layout[0]", "layout[1]", "layout[2]", "layout[3]"};
    size_t values[4], product;
    for (int i = 0; i < 4; i++)
        if (qlm_take_size(PyTuple_GET_ITEM(object, i), names[i], &values[i])) return -1;
    *layout = (struct qlm_layout){values[0], values[1], values[2], values[3]};
    int wraps = __builtin_mul_overflow(values[0], values[1], &product);
    /* With a zero among them the product is 0, whatever the others wrap to. */
    if (values[0] && values[1] && values[2])
        wraps |= __builtin_mul_overflow(product, values[2], &product);
    else
        product = wraps = 0;
    if (wraps || product != size || (values[3] && values[0] != 1)) {
        PyErr_Format(PyExc_ValueError, "layout %R does not describe %zu elements", object, size);
        return -1;
    }
    return layout_params(layout, params);
}

static int check_starts(const struct qlm_array *array, size_t rows, size_t *starts)
{
    const int64_t *given = array->data;
    size_t last = 0;
    for (size_t i = 0; i < array->size; i++) {
        int64_t start = given[i];
        int wrong = i == 0 ? start != 0 : start < 0 || (size_t)start < last || (size_t)start > rows;
        if (wrong) {
            PyErr_Format(PyExc_ValueError,
                         "starts must begin at 0 and not decrease nor pass %zu, got starts[%zu] = %lld", rows, i,
                         (long long)start);
            return -1;
        }
        starts[i] = last = (size_t)start;
    }
    if (last == rows) return 0;
    PyErr_Format(PyExc_ValueError, "starts must end at the number of rows %zu, got %zu", rows, last);
    return -1;
}

size_t *qlm_take_starts(PyObject *object, size_t rows, size_t *sequences)
{
    struct qlm_array array;
    if (qlm_take_ndim(object, "starts", QLM_INT64, 1, &array)) return NULL;
    if (array.size == 0) {
        PyErr_SetString(PyExc_ValueError, "starts must have at least one element");
        return NULL;
    }
    size_t *starts = PyMem_New(size_t, array.size);
    if (!starts) {
        PyErr_NoMemory();
        return NULL;
    }
    if (check_starts(&array, rows, starts)) {
        PyMem_Free(starts);
        return NULL;
    }
    *sequences = array.size - 1;
    return starts;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static int bad_float(const char *name, size_t index, float value, const char *must)
{
    PyObject *number = PyFloat_FromDouble(value);
    if (number) PyErr_Format(PyExc_ValueError, "%s must be %s, got %S at index %zu", name, must, number, index);
    Py_XDECREF(number);
    return -1;
}

/* The inverse of 2^-128 is the first to overflow.  By bits, since the caller may have subnormals flushed to zero. */
int qlm_has_inverse(float scale)
{
    uint32_t bits = qlm_float_bits(scale), first = 0x00200001u, infinity = 0x7f800000u;
    return bits >= first && bits < infinity;
}

int qlm_check_scales(const struct qlm_array *scale, const char *name)
{
    const float *values = scale->data;
    for (size_t i = 0; i < scale->size; i++)
        if (!qlm_has_inverse(values[i])) return bad_float(name, i, values[i], "finite and > 0, and its inverse too");
    return 0;
}

int qlm_check_finite(const struct qlm_array *array, const char *name)
{
    const float *values = array->data;
    for (size_t i = 0; i < array->size; i++)
        if (!qlm_is_finite(values[i])) return bad_float(name, i, values[i], "finite");
    return 0;
}

int qlm_check_zeros(const struct qlm_array *zero, const char *name, const struct qlm_type *type)
{
    const int32_t *values = zero->data;
    for (size_t i = 0; values && i < zero->size; i++) {
        int32_t value = values[i];
        if (value >= type->min && value <= type->max) continue;
        PyErr_Format(PyExc_ValueError, "%s must lie within %d..%d, got %d at index %zu", name, (int)type->min,
                     (int)type->max, (int)value, i);
        return -1;
    }
    return 0;
}
