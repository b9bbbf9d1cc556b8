/* py_peaks.c: the loops of peaks.h, for qlm's own measurements. */
#include <string.h>

#include "peaks.h"
#include "py_module.h"

#define MAX_ROUNDS 1000000000L
#define ALIGNMENT 64 /* of what streaming stores write */

static PyObject *core_peaks(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *list = PyList_New(0);
    const struct qlm_peak *peak;
    for (size_t i = 0; list && (peak = qlm_peak_at(i)); i++) {
        PyObject *item = Py_BuildValue("(ssd)", peak->what, peak->scheme, peak->operations);
        if (!item || PyList_Append(list, item)) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* What a loop reads and writes, and the bytes of its float32 side. */
struct operands {
    struct qlm_array source, target;
    size_t bytes;
};

static int check_sizes(const struct operands *operands)
{
    if (operands->bytes == 0 || operands->bytes % QLM_PEAK_STEP) {
        PyErr_Format(PyExc_ValueError, "source must be that of a multiple of %d bytes of float32, got %zu",
                     QLM_PEAK_STEP, operands->bytes);
        return -1;
    }
    if ((uintptr_t)operands->target.data % ALIGNMENT == 0) return 0;
    PyErr_Format(PyExc_ValueError, "target must be aligned to %d bytes", ALIGNMENT);
    return -1;
}

static int take_operands(const struct qlm_peak *peak, PyObject *source, PyObject *target, struct operands *operands)
{
    int reads_codes = strncmp(peak->what, "dequantize", 10) == 0, writes = strcmp(peak->what, "read") != 0;
    memset(operands, 0, sizeof *operands);
    if (peak->operations > 0) return 0;
    if (!qlm_given(source) || (writes && !qlm_given(target))) {
        PyErr_Format(PyExc_TypeError, "%s must be an array", qlm_given(source) ? "target" : "source");
        return -1;
    }
    if (qlm_take_array(source, "source", reads_codes ? QLM_INT8 : QLM_FLOAT32, &operands->source)) return -1;
    operands->bytes = 4 * operands->source.size;
    if (writes && qlm_take_target(target, "target", reads_codes ? QLM_FLOAT32 : QLM_INT8, operands->source.size,
                                  &operands->target))
        return -1;
    return check_sizes(operands);
}

QLM_FUNCTION(run_peak)
{
    (void)module;
    static const struct qlm_signature signature = {"run_peak", 2, 4, {"index", "rounds", "source", "target"}};
    PyObject *bound[4];
    long index, rounds;
    struct operands operands;
    if (qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (qlm_take_int(bound[0], "index", 0, 1000, &index)) return NULL;
    if (qlm_take_int(bound[1], "rounds", 1, MAX_ROUNDS, &rounds)) return NULL;
    const struct qlm_peak *peak = qlm_peak_at((size_t)index);
    if (!peak) return PyErr_Format(PyExc_ValueError, "index must be that of one of peaks(), got %ld", index);
    if (take_operands(peak, bound[2], bound[3], &operands)) return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    qlm_peak_run(peak, operands.source.data, operands.target.data, operands.bytes, (size_t)rounds);
    PyEval_RestoreThread(thread);
    Py_RETURN_NONE;
}

PyMethodDef qlm_peaks_methods[] = {
    {"peaks", core_peaks, METH_NOARGS,
     "peaks() -> list\n\n(what, scheme, operations a round) of each loop that shows a limit of the CPU at this tier; "
     "loops over memory have 0 operations."},
    QLM_METHOD(run_peak, "run_peak(index, rounds, source=None, target=None)\n\nOne of peaks(), `rounds` times on "
                         "each thread, or over the arrays, shared between the threads."),
    {NULL, NULL, 0, NULL},
};
