/* py_module.c: qlm._core, created in several phases, with its state in the module. */
#define QLM_IMPORTS_NUMPY
#include "py_module.h"

#include "py_types.h"

/* ---- errors ---------------------------------------------------------------------------------------------------- */

PyObject *qlm_raise_nonfinite(PyObject *module, size_t index)
{
    PyObject *type = qlm_state_of(module)->nonfinite, *number = PyLong_FromSize_t(index);
    PyObject *error = number ? PyObject_CallFunctionObjArgs(type, number, NULL) : NULL;
    if (error && PyObject_SetAttrString(error, "index", number) == 0) PyErr_SetObject(type, error);
    Py_XDECREF(error);
    Py_XDECREF(number);
    return NULL;
}

PyObject *qlm_raise_status(PyObject *module, enum qlm_status status, size_t index, const char *unsupported)
{
    if (status == QLM_NO_MEMORY) return PyErr_NoMemory();
    if (status == QLM_NONFINITE) return qlm_raise_nonfinite(module, index);
    PyErr_SetString(PyExc_NotImplementedError, unsupported);
    return NULL;
}

/* ---- building the module --------------------------------------------------------------------------------------- */

static int add_functions(PyObject *module)
{
    PyMethodDef *const groups[] = {qlm_cpu_methods,    qlm_params_methods, qlm_arrays_methods,
                                   qlm_packed_methods, qlm_linear_methods, qlm_model_methods,
                                   qlm_peaks_methods,  qlm_hooks_methods,  qlm_direct_methods};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (PyModule_AddFunctions(module, groups[i])) return -1;
    return 0;
}

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type ? PyModule_AddType(module, *type) : -1;
}

static int add_error(PyObject *module, PyObject **error)
{
    *error = PyErr_NewExceptionWithDoc("qlm._core.NonFinite",
                                       "A NaN or an infinity where values must be finite.\n\n"
                                       "args[0] and .index are its flat index.",
                                       PyExc_ValueError, NULL);
    return *error ? PyModule_AddObjectRef(module, "NonFinite", *error) : -1;
}

/* Before 3.12 nothing but the module itself can refuse a subinterpreter, which NumPy does not work in. */
static int check_interpreter(void)
{
#if PY_VERSION_HEX < 0x030C0000
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "qlm does not work in subinterpreters");
        return -1;
    }
#endif
    return 0;
}

static int execute(PyObject *module)
{
    struct qlm_state *state = qlm_state_of(module);
    if (check_interpreter() || PyArray_ImportNumPyAPI() || qlm_apply_environment()) return -1;
    if (add_functions(module) || add_error(module, &state->nonfinite)) return -1;
    if (add_type(module, &qlm_packed_spec, &state->packed_type)) return -1;
    if (add_type(module, &qlm_input_spec, &state->input_type)) return -1;
    if (add_type(module, &qlm_tensor_spec, &state->tensor_type)) return -1;
    return add_type(module, &qlm_program_spec, &state->program_type);
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct qlm_state *state = qlm_state_of(module);
    Py_VISIT(state->packed_type);
    Py_VISIT(state->input_type);
    Py_VISIT(state->program_type);
    Py_VISIT(state->tensor_type);
    Py_VISIT(state->nonfinite);
    return 0;
}

static int clear(PyObject *module)
{
    struct qlm_state *state = qlm_state_of(module);
    Py_CLEAR(state->packed_type);
    Py_CLEAR(state->input_type);
    Py_CLEAR(state->program_type);
    Py_CLEAR(state->tensor_type);
    Py_CLEAR(state->nonfinite);
    return 0;
}

static void destroy(void *module) { clear(module); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "qlm._core",
    .m_doc =
        "The C core of qlm. Arrays are NumPy arrays, C-contiguous, aligned and native; qlm converts before it calls.",
    .m_size = sizeof(struct qlm_state),
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = destroy,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
