/*
 * The proof of the dict layout, once at import.
 *
 * First by reading: dicts that the interpreter built, of sizes on both sides of every threshold, are compared field by
 * field with what layout.h says of them; a read goes no further than the size the interpreter itself tells. Only then by
 * writing: dicts built directly are compared with theirs and used in every way a handler may. Whatever is not as
 * expected leaves the direct way shut, for the life of the process, and the public API builds every dict.
 */

#include "dict.h"
#include "layout.h"

const char *ll_layout_verdict = "not proven";

#if LL_LAYOUT_KNOWN

static void drop_object(PyObject **object)
{
    Py_XDECREF(*object);
}
#define SCOPED_OBJECT __attribute__((cleanup(drop_object))) PyObject *

#define MOST 200

/* What all trials share. */
struct material {
    PyObject *keys[MOST];
    PyObject *values[MOST];
};

static void drop_material(struct material *material)
{
    for (size_t at = 0; at < MOST; at++) {
        Py_XDECREF(material->keys[at]);
        Py_XDECREF(material->values[at]);
    }
}

/* Values are of mortal objects that nothing else refers to, but for one list, which makes a dict one to be tracked. */
static int gather(struct material *material)
{
    for (size_t at = 0; at < MOST; at++) {
        material->keys[at] = PyUnicode_FromFormat("lamplighter key %zu", at);
        material->values[at] = PyFloat_FromDouble(0.5 + (double)at);
        if (!material->keys[at] || !material->values[at] || PyObject_Hash(material->keys[at]) == -1)
            return -1;
    }
    return 0;
}

static PyObject *public_dict(const struct material *material, size_t count)
{
    PyObject *dict = PyDict_New();

    for (size_t at = 0; dict && at < count; at++)
        if (PyDict_SetItem(dict, material->keys[at], material->values[at]) < 0)
            Py_CLEAR(dict);
    return dict;
}

static Py_ssize_t size_of(PyObject *dict)
{
    SCOPED_OBJECT size = PyObject_CallMethod(dict, "__sizeof__", NULL);

    return size ? PyLong_AsSsize_t(size) : -1;
}

/* ---- by reading ---- */

/* The entry a look-up of this hash would find first that holds this key; -1 if it would find none. */
static int64_t look_up(struct ll_keys *keys, PyObject *key)
{
    const size_t mask = ((size_t)1 << keys->log2_size) - 1;
    size_t perturb = (size_t)((PyASCIIObject *)key)->hash, slot = perturb & mask;

    for (size_t probes = 0; probes <= mask + 16; probes++) {
        const int64_t entry = ll_index_get(keys, slot);

        if (entry < 0 || entry >= keys->nentries)
            return -1;
        if (ll_entries(keys)[entry].key == key)
            return entry;
        perturb >>= LL_PERTURB_SHIFT;
        slot = (slot * 5 + perturb + 1) & mask;
    }
    return -1;
}

/* Whether the interpreter's own dict of the first `count` keys is what layout.h says; NULL, or what is not. */
static const char *read_dict(const struct material *material, size_t count)
{
    SCOPED_OBJECT dict = public_dict(material, count);
    const unsigned log2_size = ll_log2_size(count);
    struct ll_keys *keys;

    if (!dict)
        return "memory";
    if (((PyDictObject *)dict)->ma_used != (Py_ssize_t)count || ((PyDictObject *)dict)->ma_values)
        return "a dict's own fields";
    if (size_of(dict) != (Py_ssize_t)(sizeof(PyDictObject) + ll_keys_size(log2_size)))
        return "the size of a key table";
    keys = (struct ll_keys *)((PyDictObject *)dict)->ma_keys;
    if (keys->refcnt != 1 || keys->log2_size != log2_size || keys->kind != LL_KIND_UNICODE || keys->version != 0 ||
        keys->log2_index_bytes != ll_log2_index_bytes(log2_size))
        return "the head of a key table";
    if (keys->nentries != (Py_ssize_t)count || keys->usable != (Py_ssize_t)(ll_usable(log2_size) - count))
        return "the counts of a key table";
    for (size_t at = 0; at < count; at++) {
        const struct ll_entry *entry = &ll_entries(keys)[at];

        if (entry->key != material->keys[at] || entry->value != material->values[at])
            return "the entries of a key table";
        if (look_up(keys, material->keys[at]) != (int64_t)at)
            return "the index of a key table";
    }
    return NULL;
}

/* A key that is no string makes a table of the other kind. */
static const char *read_general(const struct material *material)
{
    SCOPED_OBJECT dict = public_dict(material, 3);
    struct ll_keys *keys;

    if (!dict || PyDict_SetItem(dict, Py_None, Py_None) < 0)
        return "memory";
    keys = (struct ll_keys *)((PyDictObject *)dict)->ma_keys;
    return keys->kind == 0 ? NULL : "the kind of a key table";
}

/* A new dict borrows the table of all empty dicts: adopt() gives that reference back before 3.12. */
static const char *read_empty(void)
{
    SCOPED_OBJECT first = PyDict_New();
    SCOPED_OBJECT second = NULL;
    struct ll_keys *keys;
    Py_ssize_t before;

    if (!first)
        return "memory";
    keys = (struct ll_keys *)((PyDictObject *)first)->ma_keys;
    before = keys->refcnt;
    second = PyDict_New();
    if (!second)
        return "memory";
    if ((struct ll_keys *)((PyDictObject *)second)->ma_keys != keys || ((PyDictObject *)second)->ma_used != 0)
        return "the empty key table";
    if (keys->refcnt - before != (PY_VERSION_HEX < 0x030c0000))
        return "the references to the empty key table";
    return NULL;
}

/* ---- by writing ---- */

static PyObject *built_of_pairs(const struct material *material, size_t count)
{
    PyObject *pairs[2 * (MOST + 1)];

    for (size_t at = 0; at < count; at++) {
        pairs[2 * at] = Py_NewRef(material->keys[at]);
        pairs[2 * at + 1] = Py_NewRef(material->values[at]);
    }
    /* The first key once more: the value is the last one's, the place the first one's. */
    pairs[2 * count] = Py_NewRef(material->keys[0]);
    pairs[2 * count + 1] = Py_NewRef(material->values[0]);
    return ll_dict_of_pairs(pairs, count + 1, false);
}

static PyObject *built_of_image(const struct material *material, size_t count)
{
    PyObject *values[MOST], *dict;
    struct ll_image *image = PyMem_Malloc(ll_image_size(count));

    if (!image)
        return PyErr_NoMemory();
    if (ll_image_make(image, material->keys, count) < 0) {
        PyMem_Free(image);
        return NULL;
    }
    for (size_t at = 0; at < count; at++)
        values[at] = Py_NewRef(material->values[at]);
    dict = ll_dict_of_image(image, values, false);
    ll_image_clear(image);
    PyMem_Free(image);
    return dict;
}

/* Whether both are one and the same to every reader, and iterate alike. */
static bool alike(PyObject *dict, PyObject *model)
{
    Py_ssize_t at = 0, model_at = 0;
    PyObject *key, *value, *model_key, *model_value;

    while (PyDict_Next(model, &model_at, &model_key, &model_value))
        if (!PyDict_Next(dict, &at, &key, &value) || key != model_key || value != model_value ||
            PyDict_GetItemWithError(dict, key) != value)
            return false;
    return !PyDict_Next(dict, &at, &key, &value) && PyObject_RichCompareBool(dict, model, Py_EQ) == 1 &&
           PyObject_GC_IsTracked(dict) == PyObject_GC_IsTracked(model);
}

/* Take keys out, put them in again, grow past the next resize: with both, comparing after each step. */
static bool alike_in_use(PyObject *dict, PyObject *model, const struct material *material, size_t count)
{
    PyObject *const both[] = {dict, model};

    for (size_t one = 0; one < 2; one++)
        if (PyDict_SetItem(both[one], material->keys[count - 1], Py_None) < 0 ||
            PyDict_DelItem(both[one], material->keys[count / 2]) < 0)
            return false;
    if (!alike(dict, model))
        return false;
    for (size_t one = 0; one < 2; one++) {
        SCOPED_OBJECT copy = PyDict_Copy(both[one]);

        if (!copy || !alike(copy, both[one]) || PyDict_SetItem(copy, Py_None, Py_None) < 0)
            return false;
        if (PyDict_SetItem(both[one], material->keys[count / 2], copy) < 0)
            return false;
    }
    for (size_t at = count; at < MOST && at < 2 * count + 4; at++)
        for (size_t one = 0; one < 2; one++)
            if (PyDict_SetItem(both[one], material->keys[at], material->values[at]) < 0)
                return false;
    for (size_t one = 0; one < 2; one++)
        if (PyDict_DelItem(both[one], material->keys[count / 2]) < 0)
            return false;
    if (!alike(dict, model) || size_of(dict) != size_of(model))
        return false;
    PyDict_Clear(dict);
    return PyDict_GET_SIZE(dict) == 0 && PyDict_SetItem(dict, material->keys[0], Py_None) == 0 &&
           PyDict_GetItemWithError(dict, material->keys[0]) == Py_None;
}

static const char *write_dict(const struct material *material, size_t count, bool of_image)
{
    const Py_ssize_t references = Py_REFCNT(material->values[0]);
    const Py_ssize_t key_references = Py_REFCNT(material->keys[0]);
    {
        SCOPED_OBJECT model = public_dict(material, count);
        SCOPED_OBJECT dict = of_image ? built_of_image(material, count) : built_of_pairs(material, count);

        if (!model || !dict)
            return "memory";
        if (!alike(dict, model) || (of_image && size_of(dict) != size_of(model)))
            return "a dict that was built";
        if (!alike_in_use(dict, model, material, count))
            return "a dict that was built, in use";
    }
    if (Py_REFCNT(material->values[0]) != references || Py_REFCNT(material->keys[0]) != key_references)
        return "the references of a dict that was built";
    return NULL;
}

/* A dict with a container in it is the garbage collector's business, as its model is. */
static const char *write_tracked(const struct material *material)
{
    PyObject *pair[2] = {Py_NewRef(material->keys[0]), PyList_New(0)};
    SCOPED_OBJECT model = public_dict(material, 0);
    SCOPED_OBJECT dict = NULL;

    if (!pair[1] || !model || PyDict_SetItem(model, pair[0], pair[1]) < 0) {
        Py_DECREF(pair[0]);
        Py_XDECREF(pair[1]);
        return "memory";
    }
    dict = ll_dict_of_pairs(pair, 1, true);
    if (!dict)
        return "memory";
    return alike(dict, model) ? NULL : "the tracking of a dict that was built";
}

static const char *prove(const struct material *material)
{
    static const unsigned char sizes[] = {1, 5, 6, 10, 11, 21, 22, 42, 85, 86, 170, 171};
    const char *fault = read_empty();

    if (!fault)
        fault = read_general(material);
    for (size_t at = 0; !fault && at < sizeof sizes; at++)
        fault = read_dict(material, sizes[at]);
    if (fault)
        return fault;
    ll_direct = true;
    for (size_t at = 0; !fault && at < sizeof sizes; at++) {
        fault = write_dict(material, sizes[at], false);
        if (!fault)
            fault = write_dict(material, sizes[at], true);
    }
    if (!fault)
        fault = write_tracked(material);
    ll_direct = !fault;
    return fault;
}

int ll_prove_layout(void)
{
    __attribute__((cleanup(drop_material))) struct material material = {0};

    if (gather(&material) < 0)
        return -1;
    ll_layout_verdict = prove(&material);
    if (!ll_layout_verdict)
        ll_layout_verdict = "direct";
    else if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_MemoryError))
        return -1;
    PyErr_Clear();
    return 0;
}

#else

int ll_prove_layout(void)
{
    ll_layout_verdict = "unknown";
    return 0;
}

#endif
