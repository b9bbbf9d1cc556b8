/* py_program.c: _core.Program: a forward as a list of steps, checked and made ready once, run without a step back to
 * Python. */
#include "common.h"
#include "py_module.h"
#include "py_slices.h"
#include "py_types.h"

#define MAX_SLOTS (2 + QLM_STEP_OUTPUTS)

/* What a step's pointers point to. */
struct step_parts {
    struct qlm_slot slots[MAX_SLOTS];
    struct qlm_linear_output outputs[QLM_STEP_OUTPUTS];
    float *vectors[QLM_STEP_OUTPUTS]; /* copies, so that they stay what they were */
    size_t vector_count;
};

struct program_object {
    PyObject_HEAD struct qlm_program program;
    struct qlm_step *steps;
    struct step_parts *parts;
    PyObject *held;              /* the steps as given: they own the weights */
    struct qlm_forward *forward; /* idle, taken and given back by atomic exchanges */
};

/* A step that is being read. */
struct reader {
    PyObject *module;
    struct program_object *self;
    struct qlm_step *step;
    struct step_parts *parts;
    PyObject *const *items;
};

/* ---- operands -------------------------------------------------------------------------------------------------- */

/* (at, width), at None for the rows of x. */
static int take_slot(struct reader *r, PyObject *object, struct qlm_slot *slot)
{
    const struct qlm_program *program = &r->self->program;
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 2) {
        PyErr_Format(PyExc_TypeError, "a slot must be a tuple (at, width), got %R", object);
        return -1;
    }
    size_t room = program->hidden;
    slot->at = QLM_IN_ROWS;
    if (qlm_take_size(PyTuple_GET_ITEM(object, 1), "a slot's width", &slot->width)) return -1;
    if (qlm_given(PyTuple_GET_ITEM(object, 0))) {
        if (qlm_take_size(PyTuple_GET_ITEM(object, 0), "a slot", &slot->at)) return -1;
        room = slot->at < program->width ? program->width - slot->at : 0;
    } else if (slot->width != program->hidden) {
        room = 0;
    }
    if (slot->width && slot->width <= room) return 0;
    PyErr_Format(PyExc_ValueError, "the slot %R lies outside the rows and the workspace", object);
    return -1;
}

static int take_slots(struct reader *r, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (take_slot(r, r->items[i], &r->parts->slots[i])) return -1;
    return 0;
}

/* The slots from 1 on are as wide as the first. */
static int check_widths(const struct reader *r, size_t count)
{
    const struct qlm_slot *slots = r->parts->slots;
    for (size_t i = 1; i < count; i++)
        if (slots[i].width != slots[0].width) {
            PyErr_Format(PyExc_ValueError, "a step's operands are %zu and %zu wide", slots[0].width, slots[i].width);
            return -1;
        }
    return 0;
}

static int take_vector(struct reader *r, PyObject *object, const char *name, size_t n, const float **vector)
{
    struct qlm_array array;
    if (qlm_take_sized(object, name, QLM_FLOAT32, n, &array)) return -1;
    float *copy = PyMem_New(float, n);
    if (!copy) {
        PyErr_NoMemory();
        return -1;
    }
    *vector = r->parts->vectors[r->parts->vector_count++] = memcpy(copy, array.data, n * sizeof(float));
    return 0;
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

enum { LINEAR_X, LINEAR_INPUT, LINEAR_WEIGHTS, LINEAR_BIASES, LINEAR_ACTIVATION, LINEAR_RESIDUAL, LINEAR_OUTS };

static int take_outputs(struct reader *r, PyObject *const *weights, PyObject *const *biases, PyObject *const *outs)
{
    for (size_t i = 0; i < r->step->count; i++) {
        struct qlm_linear_output *output = &r->parts->outputs[i];
        struct qlm_slot *slot = &r->parts->slots[2 + i];
        const struct qlm_packed *weight = qlm_take_packed(r->module, weights[i]);
        if (!weight || qlm_check_weight(&r->step->input, weight) || take_slot(r, outs[i], slot)) return -1;
        if (slot->width != weight->n) {
            PyErr_Format(PyExc_ValueError, "a slot of width %zu for the %zu outputs of a weight", slot->width,
                         weight->n);
            return -1;
        }
        if (biases && qlm_given(biases[i]) && take_vector(r, biases[i], "bias", weight->n, &output->bias)) return -1;
        if (qlm_take_function(r->items[LINEAR_ACTIVATION], "activation", &output->activation)) return -1;
        if (!(output->weight = qlm_packed_for(r->module, weights[i], &r->step->input))) return -1;
    }
    return 0;
}

static int take_residual(struct reader *r)
{
    struct qlm_slot *slot = &r->parts->slots[1];
    if (!qlm_given(r->items[LINEAR_RESIDUAL])) return 0;
    if (take_slot(r, r->items[LINEAR_RESIDUAL], slot)) return -1;
    if (slot->width == r->parts->outputs[0].weight->n) return 0;
    PyErr_Format(PyExc_ValueError, "a residual of width %zu for the %zu outputs of a weight", slot->width,
                 r->parts->outputs[0].weight->n);
    return -1;
}

static int take_linear(struct reader *r)
{
    PyObject *const *weights, *const *biases, *const *outs, *list = r->items[LINEAR_WEIGHTS];
    const struct qlm_input_object *input = qlm_take_input(r->module, r->items[LINEAR_INPUT]);
    if (!input || take_slot(r, r->items[LINEAR_X], &r->parts->slots[0])) return -1;
    r->step->input = input->input;
    r->step->input.k = r->parts->slots[0].width;
    r->step->outputs = r->parts->outputs;
    if (input->input.kind == QLM_INPUT_CODES || qlm_check_params(input, &r->step->input)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a step's input cannot be codes");
        return -1;
    }
    if (!PyTuple_Check(list) || PyTuple_GET_SIZE(list) < 1 || PyTuple_GET_SIZE(list) > QLM_STEP_OUTPUTS) {
        PyErr_Format(PyExc_ValueError, "weights must be a tuple of 1 to %d, got %R", QLM_STEP_OUTPUTS, list);
        return -1;
    }
    r->step->count = (size_t)PyTuple_GET_SIZE(list);
    if (qlm_take_tuple(list, "weights", r->step->count, &weights)) return -1;
    if (qlm_take_tuple(r->items[LINEAR_BIASES], "biases", r->step->count, &biases)) return -1;
    if (qlm_take_tuple(r->items[LINEAR_OUTS], "outs", r->step->count, &outs) || !outs) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "outs must be a tuple, got None");
        return -1;
    }
    return take_outputs(r, weights, biases, outs) || take_residual(r) ? -1 : 0;
}

/* x, out, divisor */
static int take_divide(struct reader *r)
{
    if (take_slots(r, 2) || check_widths(r, 2)) return -1;
    return take_vector(r, r->items[2], "divisor", r->parts->slots[0].width, &r->step->vectors[0]);
}

/* q, k, v, out, heads, scale */
static int take_heads(struct reader *r)
{
    if (take_slots(r, 4) || check_widths(r, 4)) return -1;
    if (qlm_take_size(r->items[4], "heads", &r->step->heads)) return -1;
    if (!r->step->heads || r->parts->slots[0].width % r->step->heads) {
        PyErr_Format(PyExc_ValueError, "heads must divide the row length %zu, got %zu", r->parts->slots[0].width,
                     r->step->heads);
        return -1;
    }
    return qlm_take_float(r->items[5], "scale", &r->step->scale);
}

/* ... and causal */
static int take_attention(struct reader *r)
{ return take_heads(r) || qlm_take_flag(r->items[6], "causal", 0, &r->step->causal) ? -1 : 0; }

static int take_attention_8(struct reader *r)
{ return take_heads(r) || qlm_check_positive(r->step->scale, "scale") ? -1 : 0; }

/* x, out, gain, bias, eps */
static int take_layernorm(struct reader *r)
{
    size_t n;
    if (take_slots(r, 2) || check_widths(r, 2)) return -1;
    n = r->parts->slots[0].width;
    if (take_vector(r, r->items[2], "gain", n, &r->step->vectors[0])) return -1;
    if (take_vector(r, r->items[3], "bias", n, &r->step->vectors[1])) return -1;
    return qlm_take_eps(r->items[4], &r->step->eps);
}

/* In the order of enum qlm_step_kind. */
static const char *const step_words[] = {"linear", "divide", "attention", "attention_8", "layernorm", NULL};
static const struct {
    Py_ssize_t items;
    int (*take)(struct reader *r);
} step_forms[] = {{7, take_linear}, {3, take_divide}, {7, take_attention}, {6, take_attention_8}, {5, take_layernorm}};

static int take_step(struct reader *r, PyObject *object)
{
    int kind;
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) < 1) {
        PyErr_Format(PyExc_TypeError, "a step must be a tuple, got %R", object);
        return -1;
    }
    if (qlm_take_word(PyTuple_GET_ITEM(object, 0), "a step's kind", step_words, &kind)) return -1;
    if (PyTuple_GET_SIZE(object) != 1 + step_forms[kind].items) {
        PyErr_Format(PyExc_ValueError, "the step '%s' has %zd items, got %zd", step_words[kind], step_forms[kind].items,
                     PyTuple_GET_SIZE(object) - 1);
        return -1;
    }
    r->step->kind = (enum qlm_step_kind)kind;
    r->step->slots = r->parts->slots;
    r->items = ((PyTupleObject *)object)->ob_item + 1;
    return step_forms[kind].take(r);
}

/* ---- construction ---------------------------------------------------------------------------------------------- */

static int take_steps(struct program_object *self, PyObject *module, PyObject *steps)
{
    size_t count = (size_t)PyTuple_GET_SIZE(steps);
    self->held = Py_NewRef(steps);
    self->steps = PyMem_Calloc(qlm_max_size(count, 1), sizeof *self->steps);
    self->parts = PyMem_Calloc(qlm_max_size(count, 1), sizeof *self->parts);
    if (!self->steps || !self->parts) {
        PyErr_NoMemory();
        return -1;
    }
    self->program.steps = self->steps;
    self->program.count = count;
    for (size_t i = 0; i < count; i++) {
        struct reader reader = {.module = module, .self = self, .step = &self->steps[i], .parts = &self->parts[i]};
        if (take_step(&reader, PyTuple_GET_ITEM(steps, (Py_ssize_t)i))) return -1;
    }
    return 0;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"hidden", "width", "steps", NULL};
    PyObject *hidden, *width, *steps, *module = PyType_GetModule(type);
    if (!module ||
        !PyArg_ParseTupleAndKeywords(args, keywords, "OOO!:Program", names, &hidden, &width, &PyTuple_Type, &steps))
        return NULL;
    struct program_object *self = (struct program_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    if (qlm_take_size(hidden, "hidden", &self->program.hidden) || qlm_take_size(width, "width", &self->program.width) ||
        take_steps(self, module, steps))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void program_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    struct program_object *self = (struct program_object *)object;
    for (size_t i = 0; self->parts && i < self->program.count; i++)
        for (size_t j = 0; j < self->parts[i].vector_count; j++) PyMem_Free(self->parts[i].vectors[j]);
    PyMem_Free(self->parts);
    PyMem_Free(self->steps);
    qlm_forward_free(self->forward);
    Py_XDECREF(self->held);
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- run ------------------------------------------------------------------------------------------------------- */

static enum qlm_status forward_slice(void *context, size_t begin, size_t end)
{
    (void)begin;
    return qlm_forward_work(context, end);
}

/* NonFinite((step, row, column)) */
static void raise_fault(PyObject *module, const struct qlm_forward *forward)
{
    size_t step, row, column;
    qlm_forward_fault(forward, &step, &row, &column);
    PyObject *slot = Py_BuildValue("(nnn)", (Py_ssize_t)step, (Py_ssize_t)row, (Py_ssize_t)column);
    if (slot) PyErr_SetObject(qlm_state_of(module)->nonfinite, slot);
    Py_XDECREF(slot);
}

static int run_forward(PyObject *module, struct qlm_forward *forward, struct program_object *self,
                       const struct qlm_array *x, const size_t *starts, size_t sequences)
{
    struct qlm_work work = {.step = 1, .cost = 1.0};
    enum qlm_status status = qlm_forward_begin(forward, &self->program, x->data, starts, sequences, &work.units);
    if (status == QLM_OK && qlm_run_slices(&work, forward_slice, forward, &status)) return -1;
    if (status == QLM_OK) return 0;
    if (status == QLM_NONFINITE)
        raise_fault(module, forward);
    else if (status == QLM_UNSUPPORTED)
        qlm_raise_midpoints();
    else
        PyErr_NoMemory();
    return -1;
}

/* With the forward of the last run, unless another thread has it now. */
static int run_with_memory(PyObject *module, struct program_object *self, const struct qlm_array *x,
                           const size_t *starts, size_t sequences)
{
    struct qlm_forward *forward = __atomic_exchange_n(&self->forward, NULL, __ATOMIC_ACQ_REL);
    if (!forward && !(forward = qlm_forward_new())) {
        PyErr_NoMemory();
        return -1;
    }
    int failed = run_forward(module, forward, self, x, starts, sequences);
    qlm_forward_free(__atomic_exchange_n(&self->forward, forward, __ATOMIC_ACQ_REL));
    return failed;
}

static PyObject *program_run(PyObject *object, PyTypeObject *type, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const struct qlm_signature signature = {"run", 2, 2, {"x", "starts"}};
    struct program_object *self = (struct program_object *)object;
    PyObject *bound[2], *module = PyType_GetModule(type);
    struct qlm_array x;
    size_t sequences;
    if (!module || qlm_bind(&signature, args, nargs, kwnames, bound)) return NULL;
    if (qlm_take_ndim(bound[0], "x", QLM_FLOAT32, 2, &x)) return NULL;
    if (x.columns != self->program.hidden) {
        PyErr_Format(PyExc_ValueError, "x has %zu columns, but the program takes %zu", x.columns, self->program.hidden);
        return NULL;
    }
    if (qlm_take_target(bound[0], "x", QLM_FLOAT32, x.size, &x)) return NULL;
    size_t *starts = qlm_take_starts(bound[1], x.rows, &sequences);
    int failed = !starts || run_with_memory(module, self, &x, starts, sequences);
    PyMem_Free(starts);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef program_methods[] = {
    {"run", (PyCFunction)(void (*)(void))program_run, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "run(x, starts)\n\nRuns the sequences starts[s]..starts[s + 1] of x [t, hidden], in slot. NonFinite(step, row, "
     "column)."},
    {NULL, NULL, 0, NULL},
};

static const char program_doc[] =
    "Program(hidden, width, steps)\n\n"
    "A forward over rows [t, hidden] and a workspace of `width` floats a row; immutable. A slot is (at, width) in "
    "the workspace, or (None, hidden): the rows. Steps:\n"
    "('linear', x, Input, weights, biases, activation, residual, outs)\n"
    "('divide', x, out, divisor)\n"
    "('attention', q, k, v, out, heads, scale, causal)\n"
    "('attention_8', q, k, v, out, heads, scale)\n"
    "('layernorm', x, out, gain, bias, eps)";

static PyType_Slot program_slots[] = {
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_methods, program_methods},
    {Py_tp_doc, (void *)program_doc},
    {0, NULL},
};

PyType_Spec qlm_program_spec = {
    .name = "qlm._core.Program",
    .basicsize = sizeof(struct program_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};
