/*
 * Objects that a fork may use without writing to them.
 *
 * Each use of an object counts its references, and after a fork the first write to a page copies the page. An immortal
 * object (PEP 683, CPython 3.12 and later) has a count that is never written; and is never freed either. So only
 * objects are made immortal that have nothing to tell anybody when they are freed: text, numbers, code, functions,
 * classes, modules, and tuples of such. Instances, lists and dictionaries are left as they are: a file or connection
 * that only they hold is closed when they go.
 */

#include "template.h"

#if PY_VERSION_HEX >= 0x030c0000 && !defined(Py_GIL_DISABLED) && SIZEOF_VOID_P == 8
#define CAN_MAKE_IMMORTAL 1
#ifndef _Py_IMMORTAL_REFCNT /* its name until 3.13 */
#define _Py_IMMORTAL_REFCNT _Py_IMMORTAL_INITIAL_REFCNT
#endif

enum {
    DEEPEST = 64 /* nested tuples followed; the C stack's sake */
};

struct walk {
    Py_ssize_t made;
    int depth;
};

static int keep(PyObject *object, struct walk *walk);

static int make(PyObject *object, struct walk *walk)
{
    object->ob_refcnt = _Py_IMMORTAL_REFCNT;
    walk->made++;
    return 1;
}

static int keep_items(PyObject *tuple, struct walk *walk)
{
    int all = 1;
    if (walk->depth == DEEPEST)
        return 0;
    walk->depth++;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
        all &= keep(PyTuple_GET_ITEM(tuple, i), walk);
    walk->depth--;
    return all;
}

/* The collector does not know code objects; what they hold is found here. */
static void keep_code(PyCodeObject *code, struct walk *walk)
{
    PyObject *const held[] = {
        code->co_consts, code->co_names,    code->co_localsplusnames, code->co_localspluskinds, code->co_filename,
        code->co_name,   code->co_qualname, code->co_linetable,       code->co_exceptiontable,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(held); i++)
        keep(held[i], walk);
}

static int is_plain(PyTypeObject *type)
{
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyBytes_Type || type == &PyFloat_Type ||
           type == &PyComplex_Type;
}

static int is_definition(PyObject *object)
{
    static PyTypeObject *const types[] = {
        &PyFunction_Type,    &PyModule_Type,          &PyProperty_Type,        &PyStaticMethod_Type, &PyClassMethod_Type,
        &PyMethodDescr_Type, &PyClassMethodDescr_Type, &PyWrapperDescr_Type, &PyGetSetDescr_Type,  &PyMemberDescr_Type,
    };
    PyTypeObject *type = Py_TYPE(object);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++)
        if (type == types[i])
            return 1;
    if (type == &PyCFunction_Type) {
        PyObject *self = PyCFunction_GET_SELF(object);
        return !self || PyModule_CheckExact(self);
    }
    return PyType_Check(object);
}

/* Make an object immortal if it is of such a kind, and tell whether it is. */
static int keep(PyObject *object, struct walk *walk)
{
    if (!object)
        return 1;
    if (_Py_IsImmortal(object))
        return 1;
    if (is_plain(Py_TYPE(object)) || is_definition(object))
        return make(object, walk);
    if (PyCode_Check(object)) {
        make(object, walk);
        keep_code((PyCodeObject *)object, walk);
        return 1;
    }
    return PyTuple_CheckExact(object) && keep_items(object, walk) && make(object, walk);
}

static int visit_held(PyObject *object, void *walk)
{
    keep(object, walk);
    return 0;
}

static int visit_tracked(PyObject *object, void *walk)
{
    keep(object, walk);
    if (PyDict_CheckExact(object)) { /* its own traversal passes over keys that are all text */
        PyObject *key;
        Py_ssize_t position = 0;
        while (PyDict_Next(object, &position, &key, NULL))
            keep(key, walk);
    }
    traverseproc traverse = Py_TYPE(object)->tp_traverse;
    if (traverse)
        traverse(object, visit_held, walk);
    return 1;
}
#endif

PyObject *ll_immortalise(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
#ifdef CAN_MAKE_IMMORTAL
    struct walk walk = {0, 0};
    PyUnstable_GC_VisitObjects(visit_tracked, &walk);
    return PyLong_FromSsize_t(walk.made);
#else
    return PyLong_FromLong(0);
#endif
}
