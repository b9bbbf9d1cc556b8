/* py_module.h: the module's state, its errors, and what each file adds to it. */
#ifndef QLM_PY_MODULE_H
#define QLM_PY_MODULE_H

#include "py_args.h"

struct qlm_state {
    PyTypeObject *packed_type, *input_type, *program_type, *tensor_type;
    PyObject *nonfinite; /* _core.NonFinite */
};
static inline struct qlm_state *qlm_state_of(PyObject *module) { return PyModule_GetState(module); }

/* All return NULL with an exception set. */
PyObject *qlm_raise_nonfinite(PyObject *module, size_t index);
/* QLM_NO_MEMORY: MemoryError; QLM_NONFINITE: NonFinite(index); QLM_UNSUPPORTED: NotImplementedError. */
PyObject *qlm_raise_status(PyObject *module, enum qlm_status status, size_t index, const char *unsupported);

/* Chooses the kernels and the number of threads as the environment says; -1 and ImportError where it cannot. */
int qlm_apply_environment(void);

extern PyMethodDef qlm_cpu_methods[], qlm_params_methods[], qlm_arrays_methods[], qlm_packed_methods[],
    qlm_linear_methods[], qlm_model_methods[], qlm_peaks_methods[], qlm_hooks_methods[], qlm_direct_methods[];

/* A module function that takes its arguments by position or name. */
#define QLM_METHOD(function, doc)                                                                                      \
    {#function, (PyCFunction)(void (*)(void))core_##function, METH_FASTCALL | METH_KEYWORDS, doc}
#define QLM_FUNCTION(function)                                                                                         \
    static PyObject *core_##function(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)

#endif
