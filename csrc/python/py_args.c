/* py_args.c: binding arguments to parameters, numbers and words.  py_views.c has the arrays. */
#include "py_args.h"

#include <numpy/arrayscalars.h>

#include "common.h"

/* ---- arguments by position and name --------------------------------------------------------------------------- */

static int find_name(const struct qlm_signature *signature, PyObject *keyword)
{
    for (int i = 0; i < signature->count; i++)
        if (PyUnicode_CompareWithASCIIString(keyword, signature->names[i]) == 0) return i;
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", signature->function, keyword);
    return -1;
}

static int bind_keyword(const struct qlm_signature *signature, PyObject *keyword, PyObject *value, PyObject **bound)
{
    int i = find_name(signature, keyword);
    if (i < 0) return -1;
    if (bound[i]) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", signature->function, keyword);
        return -1;
    }
    bound[i] = value;
    return 0;
}

int qlm_bind(const struct qlm_signature *signature, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
             PyObject **bound)
{
    if (nargs > signature->count) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments, got %zd", signature->function, signature->count,
                     nargs);
        return -1;
    }
    for (int i = 0; i < signature->count; i++) bound[i] = i < nargs ? args[i] : NULL;
    for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); i++)
        if (bind_keyword(signature, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], bound)) return -1;
    for (int i = 0; i < signature->required; i++) {
        if (bound[i]) continue;
        PyErr_Format(PyExc_TypeError, "%s() needs the argument '%s'", signature->function, signature->names[i]);
        return -1;
    }
    return 0;
}

/* ---- numbers -------------------------------------------------------------------------------------------------- */

static int wrong_type(PyObject *object, const char *name, const char *expected)
{
    PyErr_Format(PyExc_TypeError, "%s must be %s, got %s", name, expected, Py_TYPE(object)->tp_name);
    return -1;
}

int qlm_take_size(PyObject *object, const char *name, size_t *value)
{
    if (!PyIndex_Check(object)) return wrong_type(object, name, "an integer");
    Py_ssize_t number = PyNumber_AsSsize_t(object, PyExc_OverflowError);
    if (number == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return -1;
        PyErr_Clear(); /* a negative one gets the same answer as one too large */
    }
    if (number < 0) {
        PyErr_Format(PyExc_ValueError, "%s must lie within 0..%zd, got %S", name, PY_SSIZE_T_MAX, object);
        return -1;
    }
    *value = (size_t)number;
    return 0;
}

int qlm_take_int(PyObject *object, const char *name, long min, long max, long *value)
{
    if (!PyIndex_Check(object) || PyBool_Check(object)) return wrong_type(object, name, "an integer");
    PyObject *index = PyNumber_Index(object);
    if (!index) return -1;
    int overflow;
    long number = PyLong_AsLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (number == -1 && PyErr_Occurred()) return -1;
    if (overflow || number < min || number > max) {
        PyErr_Format(PyExc_ValueError, "%s must lie within %ld..%ld, got %S", name, min, max, object);
        return -1;
    }
    *value = number;
    return 0;
}

int qlm_take_double(PyObject *object, const char *name, double *value)
{
    *value = PyFloat_AsDouble(object);
    if (*value != -1.0 || !PyErr_Occurred()) return 0;
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) return -1;
    PyErr_Clear();
    return wrong_type(object, name, "a number");
}

int qlm_take_float(PyObject *object, const char *name, float *value)
{
    double number;
    if (qlm_take_double(object, name, &number)) return -1;
    *value = (float)number;
    if (qlm_is_finite(*value)) return 0;
    PyErr_Format(PyExc_ValueError, "%s must be finite in float32, got %S", name, object);
    return -1;
}

int qlm_take_flag(PyObject *object, const char *name, int fallback, int *value)
{
    *value = fallback;
    if (!object) return 0;
    if (PyArray_IsScalar(object, Bool)) object = PyArrayScalar_VAL(object, Bool) ? Py_True : Py_False;
    if (!PyBool_Check(object)) return wrong_type(object, name, "a bool");
    *value = object == Py_True;
    return 0;
}

/* ---- words ---------------------------------------------------------------------------------------------------- */

static int no_such_word(PyObject *object, const char *name, const char *const *words)
{
    PyObject *list = PyUnicode_FromString(words[0]);
    for (int i = 1; list && words[i]; i++) {
        PyObject *longer = PyUnicode_FromFormat("%U, %s", list, words[i]);
        Py_SETREF(list, longer);
    }
    if (list) PyErr_Format(PyExc_ValueError, "%s must be one of %U, got %R", name, list, object);
    Py_XDECREF(list);
    return -1;
}

int qlm_take_word(PyObject *object, const char *name, const char *const *words, int *index)
{
    if (!PyUnicode_Check(object)) return wrong_type(object, name, "a str");
    for (int i = 0; words[i]; i++) {
        if (PyUnicode_CompareWithASCIIString(object, words[i])) continue;
        *index = i;
        return 0;
    }
    return no_such_word(object, name, words);
}

static const struct qlm_dtype dtypes[] = {
    {"int8", {QLM_S8, 8, -128, 127}},    {"uint8", {QLM_U8, 8, 0, 255}}, {"int16", {QLM_S16, 16, -32768, 32767}},
    {"uint16", {QLM_U16, 16, 0, 65535}}, {"int4", {QLM_S8, 4, -8, 7}},   {"uint4", {QLM_U8, 4, 0, 15}},
};

const struct qlm_dtype *qlm_take_dtype(PyObject *object, const char *name)
{
    static const char *const words[] = {"int8", "uint8", "int16", "uint16", "int4", "uint4", NULL};
    int index;
    return qlm_take_word(object, name, words, &index) ? NULL : &dtypes[index];
}

int qlm_take_function(PyObject *object, const char *name, int *function)
{
    /* In the order of enum qlm_function. */
    static const char *const words[] = {"identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "exp", "erf", NULL};
    *function = QLM_IDENTITY;
    if (!qlm_given(object)) return 0;
    if (!PyLong_Check(object)) return qlm_take_word(object, name, words, function);
    long number;
    if (qlm_take_int(object, name, 0, QLM_FUNCTION_COUNT - 1, &number)) return -1;
    *function = (int)number;
    return 0;
}

int qlm_product(size_t a, size_t b, size_t *product)
{
    if (!__builtin_mul_overflow(a, b, product) && *product <= PY_SSIZE_T_MAX) return 0;
    PyErr_NoMemory();
    return -1;
}
