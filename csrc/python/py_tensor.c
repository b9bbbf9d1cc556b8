/* py_tensor.c: _core.TensorParts, the fields of a QTensor, so that C can make one without a line of Python. */
#include "py_module.h"
#include "py_types.h"

#include <structmember.h>

#define PARTS(self) ((struct qlm_tensor_object *)(self))

#define EACH_FIELD(X) X(values) X(scale) X(zero_point) X(offset) X(qtype) X(axis) X(group_size)

static int tensor_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
#define VISIT_FIELD(name) Py_VISIT(PARTS(self)->name);
    EACH_FIELD(VISIT_FIELD)
    return 0;
}

static int tensor_clear(PyObject *self)
{
#define CLEAR_FIELD(name) Py_CLEAR(PARTS(self)->name);
    EACH_FIELD(CLEAR_FIELD)
    return 0;
}

static void tensor_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    tensor_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

#define MEMBER_FIELD(name) {"_" #name, T_OBJECT_EX, offsetof(struct qlm_tensor_object, name), 0, NULL},

static PyMemberDef tensor_members[] = {EACH_FIELD(MEMBER_FIELD){NULL, 0, 0, 0, NULL}};

static PyType_Slot tensor_slots[] = {
    {Py_tp_doc, "The fields of a QTensor, which alone is derived from this."},
    {Py_tp_traverse, tensor_traverse},
    {Py_tp_clear, tensor_clear},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_members, tensor_members},
    {0, NULL},
};

PyType_Spec qlm_tensor_spec = {
    .name = "qlm._core.TensorParts",
    .basicsize = sizeof(struct qlm_tensor_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = tensor_slots,
};

PyObject *qlm_new_tensor(PyTypeObject *type, const struct qlm_tensor_parts *parts)
{
    PyObject *self = type->tp_alloc(type, 0);
    if (!self) return NULL;
    PARTS(self)->values = Py_NewRef(parts->values);
    PARTS(self)->scale = Py_NewRef(parts->scale);
    PARTS(self)->zero_point = Py_NewRef(parts->zero_point);
    PARTS(self)->offset = Py_NewRef(Py_None);
    PARTS(self)->qtype = Py_NewRef(parts->qtype);
    PARTS(self)->axis = Py_NewRef(parts->axis);
    PARTS(self)->group_size = Py_NewRef(parts->group_size);
    return self;
}
