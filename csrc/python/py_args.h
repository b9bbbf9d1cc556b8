/* py_args.h: what every file of the binding needs: arguments by name, checked arrays, numbers and type words.
 *
 * A function of this header that fails has set a Python exception that names the argument, what it must be and what
 * came; it returns -1 (or NULL).  TypeError for a wrong type, ValueError for a wrong value or shape.
 * Objects are borrowed: the caller of a C function holds its arguments, and tuples keep their items, so nothing that
 * is read without the GIL can go away.
 */
#ifndef QLM_PY_ARGS_H
#define QLM_PY_ARGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define PY_ARRAY_UNIQUE_SYMBOL qlm_numpy_api
#ifndef QLM_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "qlm.h"

/* ---- arguments ------------------------------------------------------------------------------------------------ */

#define QLM_MAX_ARGS 12

/* The parameters of a function: `required` of them must be given, all may be given by position or by name. */
struct qlm_signature {
    const char *function;
    int required, count;
    const char *names[QLM_MAX_ARGS];
};
/* bound[i]: the argument for names[i], NULL where none was given. */
int qlm_bind(const struct qlm_signature *signature, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
             PyObject **bound);
/* Given, and not None. */
static inline int qlm_given(PyObject *object) { return object && object != Py_None; }

int qlm_take_size(PyObject *object, const char *name, size_t *value);
int qlm_take_int(PyObject *object, const char *name, long min, long max, long *value);
int qlm_take_double(PyObject *object, const char *name, double *value);
/* A float32 that is finite: scales, epsilons. */
int qlm_take_float(PyObject *object, const char *name, float *value);
int qlm_take_flag(PyObject *object, const char *name, int fallback, int *value);
/* The index of a word in a NULL-ended list. */
int qlm_take_word(PyObject *object, const char *name, const char *const *words, int *index);

/* ---- types of codes ------------------------------------------------------------------------------------------- */

struct qlm_dtype {
    const char *name; /* "int8" */
    struct qlm_type type;
};
const struct qlm_dtype *qlm_take_dtype(PyObject *object, const char *name);
/* An activation: None, a number of enum qlm_function, or its name. */
int qlm_take_function(PyObject *object, const char *name, int *function);

/* ---- arrays --------------------------------------------------------------------------------------------------- */

enum qlm_element {
    QLM_FLOAT32,
    QLM_FLOAT64,
    QLM_INT8,
    QLM_UINT8,
    QLM_INT16,
    QLM_UINT16,
    QLM_INT32,
    QLM_INT64,
};
enum qlm_element qlm_code_element(enum qlm_code code);

/* A checked array: C-contiguous, aligned, native.  The shape is that at the time of the check. */
struct qlm_array {
    PyArrayObject *object;
    void *data;
    size_t size;
    int ndim;
    size_t rows, columns; /* of a 2-d array; rows of a 1-d one */
};
int qlm_take_array(PyObject *object, const char *name, enum qlm_element element, struct qlm_array *array);
/* The same with this number of dimensions, 1 or 2. */
int qlm_take_ndim(PyObject *object, const char *name, enum qlm_element element, int ndim, struct qlm_array *array);
/* The same with this number of elements, whatever the shape. */
int qlm_take_sized(PyObject *object, const char *name, enum qlm_element element, size_t size, struct qlm_array *array);
/* The same, and writable. */
int qlm_take_target(PyObject *object, const char *name, enum qlm_element element, size_t size, struct qlm_array *array);
/* int8, uint8, int16 or uint16, whichever it is. */
int qlm_take_codes(PyObject *object, const char *name, enum qlm_code *code, struct qlm_array *array);

/* A new reference: `out` if it is given and has exactly this type and shape, else a new array.  `name` is that of the
 * argument `out`. */
PyObject *qlm_result(PyObject *out, const char *name, enum qlm_element element, int ndim, const size_t *shape);
static inline void *qlm_data(PyObject *array) { return PyArray_DATA((PyArrayObject *)array); }

/* An exact array of this type number that kernels can read as it is. */
int qlm_is_plain(PyObject *object, int number);
/* Whether two such arrays share memory. */
int qlm_overlap(PyArrayObject *a, PyArrayObject *b);

/* (outer, channels, inner, group), which must describe `size` elements; *params: how many parameters it has. */
int qlm_take_layout(PyObject *object, size_t size, struct qlm_layout *layout, size_t *params);
/* Row starts of sequences, int64, from 0 to `rows` without a step back: a copy to be freed by PyMem_Free, so that
 * another thread cannot change what was checked.  *sequences: one less than their number. */
size_t *qlm_take_starts(PyObject *object, size_t rows, size_t *sequences);

/* ---- checks of values ----------------------------------------------------------------------------------------- */

/* Finite and > 0, with a finite inverse. */
int qlm_has_inverse(float scale);
/* Each scale so. */
int qlm_check_scales(const struct qlm_array *scale, const char *name);
int qlm_check_finite(const struct qlm_array *array, const char *name);
/* Each zero point within the codes of the type; data NULL passes. */
int qlm_check_zeros(const struct qlm_array *zero, const char *name, const struct qlm_type *type);

/* a * b, or -1 and MemoryError where it wraps. */
int qlm_product(size_t a, size_t b, size_t *product);

#endif
