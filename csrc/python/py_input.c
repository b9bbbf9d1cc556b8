/* py_input.c: _core.Input: how a linear's x is fed to the kernels. */
#include "common.h"
#include "py_module.h"
#include "py_types.h"

static const char *const kinds[] = {"float", "dynamic", "static", "codes", NULL}; /* of enum qlm_input_kind */

enum { DTYPE, SYMMETRIC, INTERVAL, GROUP, SCALE, ZERO, OFFSET, DIVISOR, PARAMETERS };
static const char *const parameter_names[] = {"dtype", "symmetric", "interval", "group",
                                              "scale", "zero",      "offset",   "divisor"};
#define BIT(parameter) (1u << (parameter))

/* Which parameters a kind takes, and which it needs. */
static const struct {
    unsigned takes, needs;
} rules[] = {
    [QLM_INPUT_FLOAT] = {0, 0},
    [QLM_INPUT_DYNAMIC] = {BIT(DTYPE) | BIT(SYMMETRIC) | BIT(INTERVAL) | BIT(GROUP), BIT(DTYPE)},
    [QLM_INPUT_STATIC] = {BIT(DTYPE) | BIT(SYMMETRIC) | BIT(SCALE) | BIT(ZERO) | BIT(DIVISOR), BIT(DTYPE) | BIT(SCALE)},
    [QLM_INPUT_CODES] = {BIT(DTYPE) | BIT(GROUP) | BIT(SCALE) | BIT(ZERO) | BIT(OFFSET), BIT(DTYPE) | BIT(SCALE)},
};

/* ---- checks ---------------------------------------------------------------------------------------------------- */

/* False and a group of 0 say nothing, so that one table of options can be passed for every kind. */
static int says_something(PyObject *value)
{
    if (!qlm_given(value) || value == Py_False) return 0;
    return !PyLong_CheckExact(value) || PyObject_IsTrue(value);
}

static int check_rules(int kind, PyObject *const *values)
{
    for (int i = 0; i < PARAMETERS; i++) {
        int given = says_something(values[i]);
        const char *fault = given && !(rules[kind].takes & BIT(i))   ? "takes no"
                            : !given && (rules[kind].needs & BIT(i)) ? "needs a"
                                                                     : NULL;
        if (!fault) continue;
        PyErr_Format(PyExc_ValueError, "an input of kind '%s' %s %s", kinds[kind], fault, parameter_names[i]);
        return -1;
    }
    if (says_something(values[SYMMETRIC]) && says_something(values[INTERVAL])) {
        PyErr_SetString(PyExc_ValueError, "symmetric and interval exclude each other");
        return -1;
    }
    if (says_something(values[ZERO]) && says_something(values[OFFSET])) {
        PyErr_SetString(PyExc_ValueError, "zero and offset exclude each other");
        return -1;
    }
    return 0;
}

struct parameters {
    struct qlm_array scale, zero, offset, divisor;
};

static int take_scale(PyObject *object, int kind, struct qlm_array *scale)
{
    if (!qlm_given(object)) return 0;
    if (kind == QLM_INPUT_STATIC)
        return qlm_take_sized(object, "scale", QLM_FLOAT32, 1, scale) || qlm_check_scales(scale, "scale") ? -1 : 0;
    return qlm_take_array(object, "scale", QLM_FLOAT32, scale) || qlm_check_finite(scale, "scale") ? -1 : 0;
}

static int take_parameters(PyObject *const *values, const struct qlm_input_object *self, struct parameters *p)
{
    if (take_scale(values[SCALE], self->input.kind, &p->scale)) return -1;
    if (qlm_given(values[ZERO]) && (qlm_take_sized(values[ZERO], "zero", QLM_INT32, p->scale.size, &p->zero) ||
                                    qlm_check_zeros(&p->zero, "zero", &self->dtype->type)))
        return -1;
    if (qlm_given(values[OFFSET]) &&
        (qlm_take_sized(values[OFFSET], "offset", QLM_FLOAT32, p->scale.size, &p->offset) ||
         qlm_check_finite(&p->offset, "offset")))
        return -1;
    if (!qlm_given(values[DIVISOR])) return 0;
    if (qlm_take_ndim(values[DIVISOR], "divisor", QLM_FLOAT32, 1, &p->divisor)) return -1;
    return qlm_check_scales(&p->divisor, "divisor");
}

/* ---- construction ---------------------------------------------------------------------------------------------- */

static void *copy_values(char **at, const struct qlm_array *array)
{
    if (!array->data) return NULL;
    size_t bytes = array->size * sizeof(float);
    void *copy = memcpy(*at, array->data, bytes);
    *at += bytes;
    return copy;
}

/* All values have four bytes. */
static int own_parameters(struct qlm_input_object *self, const struct parameters *p)
{
    size_t count =
        qlm_size_add(qlm_size_add(p->scale.size, p->zero.size), qlm_size_add(p->offset.size, p->divisor.size));
    size_t bytes = qlm_size_mul(count, sizeof(float));
    if (bytes == 0) return 0;
    char *at = self->block = bytes > PY_SSIZE_T_MAX ? NULL : PyMem_Malloc(bytes);
    if (!at) {
        PyErr_NoMemory();
        return -1;
    }
    self->params = p->scale.size;
    self->divisors = p->divisor.size;
    self->input.scale = copy_values(&at, &p->scale);
    self->input.zero = copy_values(&at, &p->zero);
    self->input.offset = copy_values(&at, &p->offset);
    self->input.divisor = copy_values(&at, &p->divisor);
    self->input.per_tensor = self->params == 1;
    return 0;
}

static int fill_input(struct qlm_input_object *self, int kind, PyObject *const *values)
{
    struct parameters parameters = {0};
    self->input.kind = (enum qlm_input_kind)kind;
    if (qlm_given(values[DTYPE])) {
        if (!(self->dtype = qlm_take_dtype(values[DTYPE], "dtype"))) return -1;
        self->input.type = self->dtype->type;
    }
    if (qlm_take_flag(values[SYMMETRIC], "symmetric", 0, &self->input.symmetric)) return -1;
    if (qlm_take_flag(values[INTERVAL], "interval", 0, &self->input.interval)) return -1;
    if (values[GROUP] && qlm_take_size(values[GROUP], "group", &self->input.group)) return -1;
    return take_parameters(values, self, &parameters) || own_parameters(self, &parameters) ? -1 : 0;
}

static PyObject *input_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"kind",  "dtype", "symmetric", "interval", "group",
                            "scale", "zero",  "offset",    "divisor",  NULL};
    PyObject *word, *v[PARAMETERS] = {NULL};
    int kind;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|OOOOOOOO:Input", names, &word, &v[DTYPE], &v[SYMMETRIC],
                                     &v[INTERVAL], &v[GROUP], &v[SCALE], &v[ZERO], &v[OFFSET], &v[DIVISOR]))
        return NULL;
    if (qlm_take_word(word, "kind", kinds, &kind) || check_rules(kind, v)) return NULL;
    struct qlm_input_object *self = (struct qlm_input_object *)type->tp_alloc(type, 0);
    if (self && fill_input(self, kind, v)) Py_CLEAR(self);
    return (PyObject *)self;
}

static void input_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(((struct qlm_input_object *)self)->block);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- attributes ------------------------------------------------------------------------------------------------ */

#define INPUT(self) ((const struct qlm_input_object *)(self))

static PyObject *input_kind(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(kinds[INPUT(self)->input.kind]);
}

static PyObject *input_dtype(PyObject *self, void *unused)
{
    (void)unused;
    if (!INPUT(self)->dtype) Py_RETURN_NONE;
    return PyUnicode_FromString(INPUT(self)->dtype->name);
}

static PyObject *input_group(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(INPUT(self)->input.group);
}

static PyObject *input_repr(PyObject *self)
{
    const char *dtype = INPUT(self)->dtype ? INPUT(self)->dtype->name : "float32";
    return PyUnicode_FromFormat("Input('%s', dtype='%s', group=%zu)", kinds[INPUT(self)->input.kind], dtype,
                                INPUT(self)->input.group);
}

static PyGetSetDef input_attributes[] = {
    {"kind", input_kind, NULL, "\"float\", \"dynamic\", \"static\" or \"codes\"", NULL},
    {"dtype", input_dtype, NULL, "the type of the codes; None for float", NULL},
    {"group", input_group, NULL, "the activations' group; 0: one per row", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static const char input_doc[] =
    "Input(kind, dtype=None, symmetric=False, interval=False, group=0, scale=None, zero=None, offset=None, "
    "divisor=None)\n\n"
    "How linear() takes x; immutable, made once for a layer.\n"
    "float: x stays float32.\n"
    "dynamic: each row, or group of it, is quantized to dtype by its own range.\n"
    "static: x / scale[0], or x / divisor[k], plus zero[0].\n"
    "codes: x holds codes of dtype with scale, zero or offset per tensor [1], or per row and group.";

static PyType_Slot input_slots[] = {
    {Py_tp_new, input_new},   {Py_tp_dealloc, input_dealloc}, {Py_tp_getset, input_attributes},
    {Py_tp_repr, input_repr}, {Py_tp_doc, (void *)input_doc}, {0, NULL},
};

PyType_Spec qlm_input_spec = {
    .name = "qlm._core.Input",
    .basicsize = sizeof(struct qlm_input_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = input_slots,
};
