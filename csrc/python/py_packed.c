/* py_packed.c: _core.PackedWeight: a weight laid out once for the kernels in use. */
#include "common.h"
#include "py_module.h"
#include "py_slices.h"
#include "py_types.h"

/* ---- the type -------------------------------------------------------------------------------------------------- */

static void free_fitted(struct qlm_fitted *fitted)
{
    if (!fitted) return;
    qlm_packed_free(&fitted->packed);
    PyMem_RawFree(fitted);
}

static void packed_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    struct qlm_packed_object *object = (struct qlm_packed_object *)self;
    qlm_packed_free(&object->packed);
    while (object->fitted) {
        struct qlm_fitted *next = object->fitted->next;
        free_fitted(object->fitted);
        object->fitted = next;
    }
    type->tp_free(self);
    Py_DECREF(type);
}

#define PACKED(self) (&((struct qlm_packed_object *)(self))->packed)

static PyObject *packed_shape(PyObject *self, void *unused)
{
    (void)unused;
    return Py_BuildValue("nn", (Py_ssize_t)PACKED(self)->n, (Py_ssize_t)PACKED(self)->k);
}

static PyObject *packed_dtype(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(((struct qlm_packed_object *)self)->dtype);
}

static PyObject *packed_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    const struct qlm_packed_object *object = (const struct qlm_packed_object *)self;
    size_t bytes = object->packed.nbytes;
    const struct qlm_fitted *fitted = __atomic_load_n(&object->fitted, __ATOMIC_ACQUIRE);
    for (; fitted; fitted = fitted->next) bytes += fitted->packed.nbytes;
    return PyLong_FromSize_t(bytes);
}

static PyObject *packed_group_size(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((struct qlm_packed_object *)self)->group);
}

static PyObject *packed_isa(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(PACKED(self)->kernels->isa);
}

static PyObject *packed_has_offset(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(PACKED(self)->offset != NULL);
}

static PyObject *packed_repr(PyObject *self)
{
    const struct qlm_packed *packed = PACKED(self);
    return PyUnicode_FromFormat("PackedWeight(shape=(%zu, %zu), dtype='%s', isa='%s')", packed->n, packed->k,
                                ((struct qlm_packed_object *)self)->dtype, packed->kernels->isa);
}

static PyGetSetDef packed_attributes[] = {
    {"shape", packed_shape, NULL, "(out_features, in_features)", NULL},
    {"dtype", packed_dtype, NULL, "\"float32\", or the type of the codes", NULL},
    {"nbytes", packed_nbytes, NULL, "bytes in memory: padding, sums, and the layouts that inputs asked for since",
     NULL},
    {"group_size", packed_group_size, NULL, "as given to pack(); 0: no groups", NULL},
    {"isa", packed_isa, NULL, "the kernels it is laid out for", NULL},
    {"has_offset", packed_has_offset, NULL, "whether it has float offsets", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot packed_slots[] = {
    {Py_tp_dealloc, packed_dealloc},
    {Py_tp_getset, packed_attributes},
    {Py_tp_repr, packed_repr},
    {Py_tp_doc, "A linear's weight, laid out for the kernels in use; made by pack() and never changed."},
    {0, NULL},
};

PyType_Spec qlm_packed_spec = {
    .name = "qlm._core.PackedWeight",
    .basicsize = sizeof(struct qlm_packed_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = packed_slots,
};

/* ---- pack ------------------------------------------------------------------------------------------------------ */

struct pack {
    struct qlm_packed *packed;
    const struct qlm_dtype *dtype; /* NULL: float32 */
    struct qlm_array weight, scale, zero, offset;
    size_t group;
};

/* Nanoseconds of an element. */
#define PACK_COST 8.0

static enum qlm_status begin_pack(struct pack *pack)
{
    static const float one = 1.0f;
    static const struct qlm_type none;
    const float *scale = pack->scale.data;
    if (!scale && pack->dtype) scale = &one;
    return qlm_pack_begin(pack->packed, pack->dtype ? &pack->dtype->type : &none, pack->weight.rows,
                          pack->weight.columns, pack->group, !pack->scale.data || pack->scale.size == 1, scale,
                          pack->zero.data, pack->offset.data);
}

static enum qlm_status pack_slice(void *context, size_t begin, size_t end)
{
    const struct pack *pack = context;
    qlm_pack_outputs(pack->packed, pack->weight.data, begin, end);
    return QLM_OK;
}

/* zero and offset have the scale's size. */
static int take_companions(PyObject *zero, PyObject *offset, struct pack *pack)
{
    size_t size = pack->scale.data ? pack->scale.size : 1;
    if (qlm_given(zero) && qlm_given(offset)) {
        PyErr_SetString(PyExc_ValueError, "zero and offset exclude each other");
        return -1;
    }
    if (qlm_given(zero) && (qlm_take_sized(zero, "zero", QLM_INT32, size, &pack->zero) ||
                            qlm_check_zeros(&pack->zero, "zero", &pack->dtype->type)))
        return -1;
    if (qlm_given(offset) && (qlm_take_sized(offset, "offset", QLM_FLOAT32, size, &pack->offset) ||
                              qlm_check_finite(&pack->offset, "offset")))
        return -1;
    return 0;
}

/* scale: one value, or one for each output and group. */
static int take_scale(PyObject *scale, struct pack *pack)
{
    if (!qlm_given(scale)) return 0;
    size_t k = pack->weight.columns, group = pack->group, size;
    size_t groups = group && group < k ? qlm_div_up(k, group) : 1;
    if (qlm_product(pack->weight.rows, groups, &size)) return -1;
    if (qlm_take_array(scale, "scale", QLM_FLOAT32, &pack->scale)) return -1;
    if (pack->scale.size != 1 && pack->scale.size != size) {
        PyErr_Format(PyExc_ValueError, "scale must have 1 or %zu elements, got %zu", size, pack->scale.size);
        return -1;
    }
    return qlm_check_finite(&pack->scale, "scale");
}

static int take_floats_only(PyObject *const *parameters, size_t group)
{
    for (int i = 0; i < 3; i++)
        if (qlm_given(parameters[i]) || group) {
            PyErr_SetString(PyExc_ValueError, "a float32 weight has no scale, zero, offset or group");
            return -1;
        }
    return 0;
}

static int take_pack(PyObject *const *bound, struct pack *pack)
{
    enum qlm_element element = QLM_FLOAT32;
    if (qlm_given(bound[1])) {
        if (!(pack->dtype = qlm_take_dtype(bound[1], "dtype"))) return -1;
        element = qlm_code_element(pack->dtype->type.code);
    }
    if (qlm_take_ndim(bound[0], "weight", element, 2, &pack->weight)) return -1;
    if (bound[2] && qlm_take_size(bound[2], "group", &pack->group)) return -1;
    if (!pack->dtype) return take_floats_only(bound + 3, pack->group);
    return take_scale(bound[3], pack) || take_companions(bound[4], bound[5], pack) ? -1 : 0;
}

static PyObject *make_packed(PyObject *module, struct pack *pack)
{
    PyTypeObject *type = qlm_state_of(module)->packed_type;
    struct qlm_packed_object *self = (struct qlm_packed_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->dtype = pack->dtype ? pack->dtype->name : "float32";
    self->group = pack->group;
    pack->packed = &self->packed;
    enum qlm_status status = begin_pack(pack);
    struct qlm_work work = {pack->weight.rows, 1, PACK_COST * (double)pack->weight.columns};
    int failed = status == QLM_OK && qlm_run_slices(&work, pack_slice, pack, &status);
    if (!failed && status == QLM_OK) { return (PyObject *)self; }
    if (!failed) qlm_raise_status(module, status, 0, "this weight cannot be packed");
    Py_DECREF(self);
    return NULL;
}

/* ---- other layouts --------------------------------------------------------------------------------------------- */

struct repack {
    struct qlm_packed *to;
    const struct qlm_packed *from;
};

static enum qlm_status repack_slice(void *context, size_t begin, size_t end)
{
    const struct repack *repack = context;
    qlm_repack_outputs(repack->to, repack->from, begin, end);
    return QLM_OK;
}

static struct qlm_fitted *make_fitted(PyObject *module, const struct qlm_packed *from, struct qlm_fit fit)
{
    struct qlm_fitted *fitted = PyMem_RawCalloc(1, sizeof *fitted);
    if (!fitted) return (struct qlm_fitted *)PyErr_NoMemory();
    struct repack repack = {&fitted->packed, from};
    enum qlm_status status = qlm_repack_begin(&fitted->packed, from, fit);
    struct qlm_work work = {from->n, 1, PACK_COST * (double)from->k};
    int failed = status == QLM_OK && qlm_run_slices(&work, repack_slice, &repack, &status);
    if (!failed && status == QLM_OK) return fitted;
    if (!failed) qlm_raise_status(module, status, 0, "this weight cannot be packed");
    free_fitted(fitted);
    return NULL;
}

/* Two threads may both make one: each is kept. */
const struct qlm_packed *qlm_packed_for(PyObject *module, PyObject *weight, const struct qlm_linear_input *input)
{
    struct qlm_packed_object *object = (struct qlm_packed_object *)weight;
    struct qlm_fit fit = qlm_linear_fit(&object->packed, input);
    if (qlm_fits(&object->packed, fit)) return &object->packed;
    struct qlm_fitted *first = __atomic_load_n(&object->fitted, __ATOMIC_ACQUIRE);
    for (const struct qlm_fitted *known = first; known; known = known->next)
        if (qlm_fits(&known->packed, fit)) return &known->packed;
    struct qlm_fitted *fitted = make_fitted(module, &object->packed, fit);
    if (!fitted) return NULL;
    fitted->next = first;
    while (
        !__atomic_compare_exchange_n(&object->fitted, &fitted->next, fitted, 0, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE)) {}
    return &fitted->packed;
}

/* ---- the function ---------------------------------------------------------------------------------------------- */

QLM_FUNCTION(pack)
{
    static const struct qlm_signature signature = {
        "pack", 1, 6, {"weight", "dtype", "group", "scale", "zero", "offset"}};
    PyObject *bound[6];
    struct pack pack = {0};
    if (qlm_bind(&signature, args, nargs, kwnames, bound) || take_pack(bound, &pack)) return NULL;
    return make_packed(module, &pack);
}

PyMethodDef qlm_packed_methods[] = {
    QLM_METHOD(pack, "pack(weight, dtype=None, group=0, scale=None, zero=None, offset=None) -> PackedWeight\n\n"
                     "weight [n, k]: float32 without dtype, codes with it. scale: 1 value, or n * groups of them (by "
                     "output, then group); zero or offset alike. Without a scale it is 1."),
    {NULL, NULL, 0, NULL},
};
