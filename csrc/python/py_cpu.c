/* py_cpu.c: the environment, kernels and threads of this process. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "py_module.h"
#include "py_slices.h"

#define MAX_THREADS 1024

/* ---- lists of names -------------------------------------------------------------------------------------------- */

static int append_name(PyObject *list, const char *name)
{
    PyObject *word = PyUnicode_FromString(name);
    int failed = !word || PyList_Append(list, word);
    Py_XDECREF(word);
    return failed ? -1 : 0;
}

static PyObject *isa_list(int only_usable)
{
    PyObject *list = PyList_New(0);
    const struct qlm_kernels *table;
    for (size_t i = 0; list && (table = qlm_kernels_at(i)); i++) {
        if (only_usable && !qlm_kernels_usable(table)) continue;
        if (append_name(list, table->isa)) Py_CLEAR(list);
    }
    return list;
}

static PyObject *feature_list(void)
{
    PyObject *list = PyList_New(0);
    const char *name;
    for (unsigned bit = 0; list && bit < 32 && (name = qlm_cpu_feature_name(bit)); bit++)
        if (qlm_cpu_features() >> bit & 1 && append_name(list, name)) Py_CLEAR(list);
    return list;
}

static PyObject *joined(PyObject *list)
{
    PyObject *separator = PyUnicode_FromString(", ");
    PyObject *text = separator ? PyUnicode_Join(separator, list) : NULL;
    Py_XDECREF(separator);
    return text;
}

/* ---- environment ----------------------------------------------------------------------------------------------- */

static const struct qlm_kernels *find_table(const char *isa)
{
    const struct qlm_kernels *table;
    for (size_t i = 0; (table = qlm_kernels_at(i)); i++)
        if (strcmp(table->isa, isa) == 0) return table;
    return NULL;
}

/* Words that some build of qlm may know. */
static int is_isa_word(const char *word)
{
    static const char *const words[] = {"scalar",     "avx2", "avxvnni", "avx512",  "avx512vnni",
                                        "avx512vbmi", "neon", "neondot", "neoni8mm"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(word, words[i]) == 0) return 1;
    return 0;
}

static int refuse_isa(const char *word)
{
    const char *reason = find_table(word)    ? "which this CPU lacks"
                         : is_isa_word(word) ? "which is not compiled into this build"
                                             : "which is not the name of an instruction set";
    PyObject *list = isa_list(1), *usable = list ? joined(list) : NULL, *given = PyUnicode_DecodeFSDefault(word);
    if (usable && given) PyErr_Format(PyExc_ImportError, "QLM_ISA is %R, %s; usable here: %U", given, reason, usable);
    Py_XDECREF(list);
    Py_XDECREF(usable);
    Py_XDECREF(given);
    return -1;
}

static int refuse_threads(const char *word)
{
    PyObject *given = PyUnicode_DecodeFSDefault(word);
    if (given)
        PyErr_Format(PyExc_ImportError, "QLM_NUM_THREADS must be a whole number from 1 to %d, got %R", MAX_THREADS,
                     given);
    Py_XDECREF(given);
    return -1;
}

/* Digits only, 1..MAX_THREADS; 0 where it is something else. */
static unsigned parse_threads(const char *word)
{
    unsigned value = 0;
    for (; *word >= '0' && *word <= '9' && value <= MAX_THREADS; word++) value = 10 * value + (unsigned)(*word - '0');
    return *word || value > MAX_THREADS ? 0 : value;
}

int qlm_apply_environment(void)
{
    static atomic_flag applied = ATOMIC_FLAG_INIT;
    const char *isa = getenv("QLM_ISA"), *threads = getenv("QLM_NUM_THREADS");
    const struct qlm_kernels *table = isa ? qlm_kernels_named(isa) : qlm_kernels_best();
    if (!table) return refuse_isa(isa);
    if (threads && !parse_threads(threads)) return refuse_threads(threads);
    /* A module that is imported anew finds weights packed by the first one: the choice stands. */
    if (atomic_flag_test_and_set(&applied)) return 0;
    qlm_kernels_use(table);
    if (threads) qlm_set_threads(parse_threads(threads));
    return 0;
}

/* ---- functions ------------------------------------------------------------------------------------------------- */

static PyObject *core_cpu_info(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *usable = isa_list(1), *compiled = isa_list(0), *features = feature_list(), *info = NULL;
    if (usable && compiled && features)
        info = Py_BuildValue("{sssOsOsO}", "isa", qlm_kernels_in_use->isa, "isas", usable, "compiled", compiled,
                             "features", features);
    Py_XDECREF(usable);
    Py_XDECREF(compiled);
    Py_XDECREF(features);
    return info;
}

static PyObject *core_set_num_threads(PyObject *module, PyObject *number)
{
    (void)module;
    long threads;
    if (qlm_take_int(number, "n", 1, MAX_THREADS, &threads)) return NULL;
    PyThreadState *thread = PyEval_SaveThread(); /* it waits for the work of other threads */
    qlm_set_threads((unsigned)threads);
    PyEval_RestoreThread(thread);
    Py_RETURN_NONE;
}

static PyObject *core_get_num_threads(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(qlm_threads());
}

static PyObject *core_interrupt_calls(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    qlm_interrupt_calls();
    Py_RETURN_NONE;
}

PyMethodDef qlm_cpu_methods[] = {
    {"cpu_info", core_cpu_info, METH_NOARGS,
     "cpu_info() -> dict\n\n\"isa\" in use; \"isas\" usable on this CPU and \"compiled\", poorest first; \"features\" "
     "of the "
     "CPU."},
    {"set_num_threads", core_set_num_threads, METH_O,
     "set_num_threads(n)\n\nThreads that a call uses at most, this one included: 1 to 1024."},
    {"get_num_threads", core_get_num_threads, METH_NOARGS, "get_num_threads() -> int"},
    {"interrupt_calls", core_interrupt_calls, METH_NOARGS,
     "interrupt_calls()\n\nEnds the long calls that run now on any thread, each with a KeyboardInterrupt."},
    {NULL, NULL, 0, NULL},
};
