/* The cache of keys. */

#include "names.h"

#include "reader.h"

static inline size_t slot_of(const uint8_t *from, size_t size)
{
    uint64_t head, tail;

    if (size >= 8) {
        head = ll_load64(from);
        tail = ll_load64(from + size - 8);
    } else if (size >= 4) {
        head = ll_load32(from);
        tail = ll_load32(from + size - 4);
    } else {
        head = from[0];
        tail = (uint64_t)from[size / 2] << 8 | from[size - 1];
    }
    return (size_t)(((head ^ (tail << 29 | tail >> 35) ^ size) * 0x9e3779b97f4a7c15u) >> 54);
}

_Static_assert(LL_NAMES == 1024, "slot_of takes 10 bits");

static size_t bytes_of(PyObject *name)
{
    return sizeof(PyASCIIObject) + (size_t)PyUnicode_GET_LENGTH(name) + 1;
}

static PyObject *made(const uint8_t *from, size_t size)
{
    PyObject *name = ll_ascii(from, size);

    if (LIKELY(name) && UNLIKELY(PyObject_Hash(name) == -1))
        Py_CLEAR(name);
    return name;
}

static void set(struct ll_names *names, PyObject **slot, PyObject *name)
{
    PyObject *before = *slot;

    names->bytes += bytes_of(name);
    *slot = Py_NewRef(name);
    if (before) {
        names->bytes -= bytes_of(before);
        Py_DECREF(before);
    }
}

PyObject *ll_name(struct ll_names *names, const uint8_t *from, size_t size)
{
    PyObject **slot, *name;

    if (UNLIKELY(!names || size > LL_LONGEST_NAME || size == 0))
        return made(from, size);
    slot = &names->slot[slot_of(from, size)];
    name = *slot;
    if (LIKELY(name && (size_t)PyUnicode_GET_LENGTH(name) == size &&
               ll_same((const char *)name + sizeof(PyASCIIObject), from, size)))
        return Py_NewRef(name);
    name = made(from, size);
    if (LIKELY(name))
        set(names, slot, name);
    return name;
}

void ll_names_put(struct ll_names *names, PyObject *name)
{
    const size_t size = (size_t)PyUnicode_GET_LENGTH(name);

    if (PyUnicode_IS_COMPACT_ASCII(name) && size && size <= LL_LONGEST_NAME)
        set(names, &names->slot[slot_of(PyUnicode_DATA(name), size)], name);
}

void ll_names_clear(struct ll_names *names)
{
    for (size_t at = 0; at < LL_NAMES; at++)
        Py_CLEAR(names->slot[at]);
    names->bytes = 0;
}
