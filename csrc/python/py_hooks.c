/* py_hooks.c: kernels by name, for tests that call them through ctypes. */
#include <string.h>

#include "py_module.h"

static const struct qlm_kernels *take_table(PyObject *isa)
{
    if (!PyUnicode_Check(isa)) {
        PyErr_Format(PyExc_TypeError, "isa must be a str, got %s", Py_TYPE(isa)->tp_name);
        return NULL;
    }
    const struct qlm_kernels *table;
    for (size_t i = 0; (table = qlm_kernels_at(i)); i++)
        if (PyUnicode_CompareWithASCIIString(isa, table->isa) == 0) return table;
    PyErr_Format(PyExc_ValueError, "isa must be one that is compiled in, got %R", isa);
    return NULL;
}

/* An address as an integer: functions are no objects to C, but POSIX gives both the same pointers. */
static uintptr_t address_of(const struct qlm_kernels *table, PyObject *name)
{
#define QLM_ADDRESS(ret, kernel, args)                                                                                 \
    if (PyUnicode_CompareWithASCIIString(name, #kernel) == 0) return (uintptr_t)table->kernel;
    QLM_COMMON_KERNELS(QLM_ADDRESS)
    QLM_INT16_KERNELS(QLM_ADDRESS)
    QLM_INT8_KERNELS(QLM_ADDRESS)
#undef QLM_ADDRESS
    return 0;
}

QLM_FUNCTION(kernel_address)
{
    (void)module;
    static const struct qlm_signature signature = {"kernel_address", 2, 2, {"isa", "name"}};
    PyObject *bound[2];
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    const struct qlm_kernels *table = take_table(bound[0]);
    if (!table) return NULL;
    if (!PyUnicode_Check(bound[1])) {
        PyErr_Format(PyExc_TypeError, "name must be a str, got %s", Py_TYPE(bound[1])->tp_name);
        return NULL;
    }
    uintptr_t address = address_of(table, bound[1]);
    if (address) return PyLong_FromUnsignedLongLong(address);
    PyErr_Format(PyExc_ValueError, "name must be that of a kernel, got %R", bound[1]);
    return NULL;
}

static PyObject *core_kernel_constants(PyObject *module, PyObject *isa)
{
    (void)module;
    const struct qlm_kernels *table = take_table(isa);
    if (!table) return NULL;
    return Py_BuildValue("{sisisisisisisisisisi}", "left_type", table->left_type, "k_step", table->k_step, "nr",
                         table->nr, "mr_8", table->mr_8, "mr_16", table->mr_16, "mr_f32", table->mr_f32, "rows_8",
                         table->rows_8, "left_4", table->left_4, "mr_4", table->mr_4, "fold_4", table->fold_4);
}

PyMethodDef qlm_hooks_methods[] = {
    QLM_METHOD(kernel_address, "kernel_address(isa, name) -> int\n\nWhere a compiled kernel is, usable here or not."),
    {"kernel_constants", core_kernel_constants, METH_O,
     "kernel_constants(isa) -> dict\n\nleft_type (0 u8, 1 s8, 2 s16), k_step, nr, mr_8, mr_16, mr_f32, rows_8, left_4, "
     "mr_4, fold_4 of a table."},
    {NULL, NULL, 0, NULL},
};
