/*
 * The encoder for what handlers mostly return: str, int, float, bool, None, list, tuple, dict and Decimal.
 *
 * It takes these types and no subclass of them, and so runs none of the handler's code; what it meets else it leaves,
 * with the whole result, to lamplighter/events/writer.py, which knows every rule and every word of a refusal. What it
 * does write is what writer.py would have written, to the byte.
 */

#include "encoder.h"

#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

static char *write_value(struct ll_out *out, char *at, PyObject *value);

char *ll_grow(struct ll_out *out, char *at, Py_ssize_t need)
{
    Py_ssize_t used = at - out->start;
    if (need > PY_SSIZE_T_MAX / 4 - used) {
        PyErr_NoMemory();
        return NULL;
    }
    Py_ssize_t size = 2 * (used + need + LL_SLACK);
    if (out->bytes != NULL) {
        if (_PyBytes_Resize(&out->bytes, size) < 0)
            return NULL;
    } else {
        out->bytes = PyBytes_FromStringAndSize(NULL, size);
        if (out->bytes == NULL)
            return NULL;
        memcpy(PyBytes_AS_STRING(out->bytes), out->start, (size_t)used);
    }
    out->start = PyBytes_AS_STRING(out->bytes);
    out->end = out->start + size;
    return out->start + used;
}

/* Text that needs no escape: what str() or repr() made of a number. Takes over the reference, which may be NULL. */
static char *write_bare(struct ll_out *out, char *at, PyObject *text)
{
    if (text == NULL)
        return NULL;
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
    at = utf8 == NULL ? NULL : ll_room(out, at, size);
    if (at != NULL) {
        memcpy(at, utf8, (size_t)size);
        at += size;
    }
    Py_DECREF(text);
    return at;
}

static char *write_int(struct ll_out *out, char *at, PyObject *value)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)value))
        return ll_room(out, ll_write_int64(at, PyUnstable_Long_CompactValue((PyLongObject *)value)), 0);
#else
    if ((size_t)(Py_SIZE(value) + 1) < 3)
        return ll_room(out, ll_write_int64(at, Py_SIZE(value) * (int64_t)((PyLongObject *)value)->ob_digit[0]), 0);
#endif
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (!overflow)
        return ll_room(out, ll_write_int64(at, number), 0);
    /* From 3.12 on this may run Python: whoever holds the int may let it go meanwhile. */
    Py_INCREF(value);
    at = write_bare(out, at, PyLong_Type.tp_repr(value));
    Py_DECREF(value);
    return at;
}

static char *write_constant(struct ll_out *out, char *at, const char *text, size_t size)
{
    memcpy(at, text, size);
    return ll_room(out, at + size, 0);
}

#define WRITE_CONSTANT(out, at, text) write_constant(out, at, text, sizeof(text) - 1)

static char *write_float(struct ll_out *out, char *at, PyObject *value)
{
    return ll_room(out, ll_write_double(at, PyFloat_AS_DOUBLE(value)), 0);
}

/* Whoever returns a Decimal has imported decimal; nobody else pays for it. The one in Python is left to writer.py. */
static int is_decimal(struct ll_out *out, PyTypeObject *type)
{
    if (out->decimal == NULL) {
        PyObject *name = PyUnicode_FromString("_decimal");
        PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
        Py_XDECREF(name);
        PyObject *found = module == NULL ? NULL : PyObject_GetAttrString(module, "Decimal");
        Py_XDECREF(module);
        if (found == NULL || !PyType_Check(found)) {
            Py_XDECREF(found);
            return 0;
        }
        out->decimal = (PyTypeObject *)found;
    }
    return type == out->decimal;
}

static char *write_decimal(struct ll_out *out, char *at, PyObject *value)
{
    Py_INCREF(value);
    PyObject *text = PyObject_Str(value);
    Py_DECREF(value);
    if (text == NULL)
        return NULL;
    /* "NaN", "-sNaN17": none has another form than NaN. "-Infinity" and the numbers stay what they are. */
    const char *utf8 = PyUnicode_AsUTF8(text);
    if (utf8 == NULL || utf8[*utf8 == '-'] == 'N' || utf8[*utf8 == '-'] == 's') {
        Py_DECREF(text);
        return utf8 == NULL ? NULL : WRITE_CONSTANT(out, at, "NaN");
    }
    return write_bare(out, at, text);
}

static char *write_list(struct ll_out *out, char *at, PyObject *list)
{
    *at++ = '[';
    /* Length and items are read anew each time: an item's writing may set off a collection, and so any code. */
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i > 0) {
            *at++ = ',';
            *at++ = ' ';
        }
        at = write_value(out, at, PyList_GET_ITEM(list, i));
        if (at == NULL)
            return NULL;
    }
    *at++ = ']';
    return ll_room(out, at, 0);
}

static char *write_tuple(struct ll_out *out, char *at, PyObject *tuple)
{
    *at++ = '[';
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        if (i > 0) {
            *at++ = ',';
            *at++ = ' ';
        }
        at = write_value(out, at, PyTuple_GET_ITEM(tuple, i));
        if (at == NULL)
            return NULL;
    }
    *at++ = ']';
    return ll_room(out, at, 0);
}

/* A key of another type than str: the value's text in quotes. */
static char *write_other_key(struct ll_out *out, char *at, PyObject *key)
{
    if (key != Py_None && !PyBool_Check(key) && !PyLong_CheckExact(key) && !PyFloat_CheckExact(key))
        return NULL;
    *at++ = '"';
    at = write_value(out, at, key);
    if (at == NULL)
        return NULL;
    *at++ = '"';
    return ll_room(out, at, 0);
}

static char *write_dict(struct ll_out *out, char *at, PyObject *dict)
{
    Py_ssize_t size = PyDict_GET_SIZE(dict), place = 0;
    PyObject *key, *value;
    char opener = '{';
    while (PyDict_Next(dict, &place, &key, &value)) {
        if (opener == '{') {
            *at++ = opener;
            opener = ',';
        } else {
            *at++ = opener;
            *at++ = ' ';
        }
        if (PyUnicode_CheckExact(key)) {
            at = ll_write_text(out, at, key);
            if (at == NULL)
                return NULL;
            *at++ = ':';
            *at++ = ' ';
            at = write_value(out, at, value);
        } else {
            Py_INCREF(value); /* see write_int */
            at = write_other_key(out, at, key);
            if (at != NULL) {
                *at++ = ':';
                *at++ = ' ';
                at = write_value(out, at, value);
            }
            Py_DECREF(value);
        }
        /* A dict that changed while it was walked (see write_list): writer.py meets the same, and says so. */
        if (at == NULL || PyDict_GET_SIZE(dict) != size)
            return NULL;
    }
    if (opener == '{')
        *at++ = opener;
    *at++ = '}';
    return ll_room(out, at, 0);
}

static char *write_container(struct ll_out *out, char *at, PyObject *container,
                             char *(*write)(struct ll_out *, char *, PyObject *))
{
    if (Py_EnterRecursiveCall(" while encoding a JSON object"))
        return NULL;
    Py_INCREF(container);
    at = ll_room(out, at, 0);
    Py_BEGIN_CRITICAL_SECTION(container);
    at = at == NULL ? NULL : write(out, at, container);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(container);
    Py_LeaveRecursiveCall();
    return at;
}

static char *write_value(struct ll_out *out, char *at, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type)
        return ll_write_text(out, at, value);
    if (type == &PyLong_Type)
        return write_int(out, at, value);
    if (type == &PyDict_Type)
        return write_container(out, at, value, write_dict);
    if (type == &PyList_Type)
        return write_container(out, at, value, write_list);
    if (value == Py_None)
        return WRITE_CONSTANT(out, at, "null");
    if (value == Py_True)
        return WRITE_CONSTANT(out, at, "true");
    if (value == Py_False)
        return WRITE_CONSTANT(out, at, "false");
    if (type == &PyFloat_Type)
        return write_float(out, at, value);
    if (type == &PyTuple_Type)
        return write_container(out, at, value, write_tuple);
    if (is_decimal(out, type))
        return write_decimal(out, at, value);
    return NULL;
}

/* The text as a bytes object. Its memory, where it is one already, is only cut to size. */
static PyObject *finished(struct ll_out *out, char *at)
{
    Py_ssize_t size = at - out->start;
    if (out->bytes == NULL)
        return PyBytes_FromStringAndSize(out->start, size);
    if (_PyBytes_Resize(&out->bytes, size) < 0)
        return NULL;
    PyObject *bytes = out->bytes;
    out->bytes = NULL;
    return bytes;
}

/* The result as JSON; NULL without an exception where it holds anything but plain values. */
static PyObject *encode_plain(PyObject *result, int ascii_only)
{
    struct ll_out out;
    out.start = out.first;
    out.end = out.first + sizeof(out.first);
    out.bytes = NULL;
    out.decimal = NULL;
    out.third = ascii_only ? 0x7f : '"';
    char *at = write_value(&out, out.start, result);
    PyObject *bytes = at == NULL ? NULL : finished(&out, at);
    Py_XDECREF(out.bytes);
    Py_XDECREF(out.decimal);
    /* Python meets the fault again, and words it. What is no Exception ends the process, and is passed on. */
    if (bytes == NULL && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    return bytes;
}

PyDoc_STRVAR(encode_doc,
             "encode($self, /, result, *, ascii_only)\n--\n\n"
             "A handler's result as bytes, and whether they are JSON.\n\n"
             "Bytes are sent as they are, and are not JSON. Everything else becomes JSON with the separators \", \" and\n"
             "\": \"; ascii_only says whether other characters are escaped. Floats that JSON does not know go out as NaN\n"
             "and Infinity, as on Lambda. Raises MarshalError.");

/* `slowly` is the function in Python that encodes what is not plain. */
static PyObject *encode(PyObject *slowly, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    if (count != 1 || names == NULL || PyTuple_GET_SIZE(names) != 1 ||
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "ascii_only") != 0) {
        PyErr_SetString(PyExc_TypeError, "encode() takes a result, and ascii_only by name");
        return NULL;
    }
    int ascii_only = PyObject_IsTrue(arguments[1]);
    if (ascii_only < 0)
        return NULL;
    PyObject *bytes = encode_plain(arguments[0], ascii_only);
    if (bytes == NULL) {
        if (PyErr_Occurred())
            return NULL;
        return PyObject_CallFunctionObjArgs(slowly, arguments[0], ascii_only ? Py_True : Py_False, NULL);
    }
    PyObject *pair = PyTuple_New(2);
    if (pair == NULL) {
        Py_DECREF(bytes);
        return NULL;
    }
    Py_INCREF(Py_True);
    PyTuple_SET_ITEM(pair, 0, bytes);
    PyTuple_SET_ITEM(pair, 1, Py_True);
    return pair;
}

static PyMethodDef encode_method = {"encode", (PyCFunction)(void (*)(void))encode, METH_FASTCALL | METH_KEYWORDS,
                                    encode_doc};

PyDoc_STRVAR(encoder_doc, "encoder(slowly, /)\n--\n\n"
                          "The function encode(result, *, ascii_only); slowly(result, ascii_only) takes over where the\n"
                          "result holds anything but plain values.");

static PyObject *encoder(PyObject *module, PyObject *slowly)
{
    PyObject *name = PyModule_GetNameObject(module);
    if (name == NULL)
        return NULL;
    PyObject *function = PyCFunction_NewEx(&encode_method, slowly, name);
    Py_DECREF(name);
    return function;
}

static PyMethodDef methods[] = {
    {"encoder", encoder, METH_O, encoder_doc},
    {NULL, NULL, 0, NULL},
};

int ll_add_encoder(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
