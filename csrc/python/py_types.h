/* py_types.h: the types of the module.  What they hold does not change once made, so that threads may share them.
 */
#ifndef QLM_PY_TYPES_H
#define QLM_PY_TYPES_H

#include "py_args.h"

/* A weight in another layout, which some input needed; a list that only grows, as long as the weight lives. */
struct qlm_fitted {
    struct qlm_packed packed;
    struct qlm_fitted *next;
};

/* _core.PackedWeight */
struct qlm_packed_object {
    PyObject_HEAD struct qlm_packed packed;
    const char *dtype;         /* "float32", "int8" */
    size_t group;              /* as given; 0: no groups */
    struct qlm_fitted *fitted; /* changed by atomic operations alone */
};
extern PyType_Spec qlm_packed_spec;
/* The weight as this input takes it, made once; NULL with an exception. */
const struct qlm_packed *qlm_packed_for(PyObject *module, PyObject *weight, const struct qlm_linear_input *input);

/* _core.Input: how a linear's x is fed.  It owns copies of its parameters, so that they stay what was checked. */
struct qlm_input_object {
    PyObject_HEAD struct qlm_linear_input input; /* x, codes, m and k are each call's */
    const struct qlm_dtype *dtype;               /* NULL: float */
    size_t params;                               /* of codes: scales given */
    size_t divisors;                             /* 0: none */
    void *block;                                 /* behind scale, offset, divisor and zero */
};
extern PyType_Spec qlm_input_spec;

/* _core.TensorParts: the fields of a QTensor */
struct qlm_tensor_object {
    PyObject_HEAD PyObject *values, *scale, *zero_point, *offset, *qtype, *axis, *group_size;
};
extern PyType_Spec qlm_tensor_spec;
/* A new object of that type, or of one derived from it, without an offset; it takes references of its own. */
struct qlm_tensor_parts {
    PyObject *values, *scale, *zero_point, *qtype, *axis, *group_size;
};
PyObject *qlm_new_tensor(PyTypeObject *type, const struct qlm_tensor_parts *parts);

/* _core.Program */
extern PyType_Spec qlm_program_spec;

/* ---- py_linear.c: what a linear's parts must be; each sets an exception ---------------------------------------- */
const struct qlm_packed *qlm_take_packed(PyObject *module, PyObject *object);
const struct qlm_input_object *qlm_take_input(PyObject *module, PyObject *object);
/* One item for each weight; *items is NULL for None.  A tuple, since nobody can take items out of it meanwhile. */
int qlm_take_tuple(PyObject *object, const char *name, size_t count, PyObject *const **items);
/* The weight takes this input, whose k is set; the input's parameters are as many as its k and m ask for. */
int qlm_check_weight(const struct qlm_linear_input *input, const struct qlm_packed *weight);
int qlm_check_params(const struct qlm_input_object *object, const struct qlm_linear_input *input);
void qlm_raise_midpoints(void);
/* ---- py_model.c ------------------------------------------------------------------------------------------------ */
int qlm_check_positive(float value, const char *name);
int qlm_take_eps(PyObject *object, float *eps);

#endif
