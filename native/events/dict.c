/* Building dicts whole, directly where the layout is proven. */

#include "dict.h"

#include "layout.h"

bool ll_direct;

static void release(PyObject **objects, size_t count)
{
    for (size_t at = 0; at < count; at++)
        Py_DECREF(objects[at]);
}

/* ---- by the public API ---- */

static PyObject *public_of_pairs(PyObject **pairs, size_t count)
{
    PyObject *dict = PyDict_New();

    for (size_t at = 0; dict && at < count; at++)
        if (PyDict_SetItem(dict, pairs[2 * at], pairs[2 * at + 1]) < 0)
            Py_CLEAR(dict);
    release(pairs, 2 * count);
    return dict;
}

static PyObject *public_of_image(const struct ll_image *image, PyObject **values)
{
    PyObject *const *keys = (PyObject *const *)(const void *)image->table;
    PyObject *dict = PyDict_New();

    for (size_t at = 0; dict && at < image->count; at++)
        if (PyDict_SetItem(dict, keys[at], values[at]) < 0)
            Py_CLEAR(dict);
    release(values, image->count);
    return dict;
}

/* ---- directly ---- */

#if LL_LAYOUT_KNOWN

/* A dict that has this table, which it takes over; NULL with an exception, and then the table is still the caller's. */
static PyObject *adopt(struct ll_keys *keys, size_t used, bool containers)
{
    PyObject *dict = PyDict_New();
    PyDictObject *inside = (PyDictObject *)dict;

    if (UNLIKELY(!dict))
        return NULL;
#if PY_VERSION_HEX < 0x030c0000
    ((struct ll_keys *)inside->ma_keys)->refcnt--; /* the table all empty dicts share; immortal from 3.12 on */
#endif
    inside->ma_keys = (PyDictKeysObject *)keys;
    inside->ma_used = (Py_ssize_t)used;
    /* As a dict that grew item by item: untracked while nothing in it can be part of a cycle; from 3.14 always tracked. */
    if (containers && !PyObject_GC_IsTracked(dict))
        PyObject_GC_Track(dict);
    return dict;
}

static struct ll_keys *blank(size_t count)
{
    const unsigned log2_size = ll_log2_size(count);
    struct ll_keys *keys = LL_KEYS_MALLOC(ll_keys_size(log2_size));

    if (UNLIKELY(!keys)) {
        PyErr_NoMemory();
        return NULL;
    }
    keys->refcnt = 1;
    keys->log2_size = (uint8_t)log2_size;
    keys->log2_index_bytes = (uint8_t)ll_log2_index_bytes(log2_size);
    keys->kind = LL_KIND_UNICODE;
    keys->version = 0;
    memset(keys->indices, 0xff, (size_t)1 << keys->log2_index_bytes);
    return keys;
}

static bool equal_keys(PyObject *left, Py_hash_t hash, PyObject *right)
{
    if (((PyASCIIObject *)right)->hash != hash)
        return false;
    return PyUnicode_GET_LENGTH(left) == PyUnicode_GET_LENGTH(right) && PyUnicode_KIND(left) == PyUnicode_KIND(right) &&
           memcmp(PyUnicode_DATA(left), PyUnicode_DATA(right),
                  (size_t)PyUnicode_GET_LENGTH(left) * PyUnicode_KIND(left)) == 0;
}

/* Put the key, whose reference is taken over, where a look-up will find it: its entry's number. */
static size_t place(struct ll_keys *keys, struct ll_entry *entries, PyObject *key, size_t used)
{
    const Py_hash_t hash = ((PyASCIIObject *)key)->hash;
    const size_t mask = ((size_t)1 << keys->log2_size) - 1;
    size_t perturb = (size_t)hash, slot = (size_t)hash & mask;

    for (;;) {
        const int64_t entry = ll_index_get(keys, slot);

        if (LIKELY(entry < 0)) {
            ll_index_set(keys, slot, used);
            entries[used].key = key;
            return used;
        }
        if (entries[entry].key == key || equal_keys(key, hash, entries[entry].key)) {
            Py_DECREF(key);
            return (size_t)entry;
        }
        perturb >>= LL_PERTURB_SHIFT;
        slot = (slot * 5 + perturb + 1) & mask;
    }
}

static PyObject *direct_of_pairs(PyObject **pairs, size_t count, bool containers)
{
    struct ll_keys *keys = blank(count);
    struct ll_entry *entries;
    PyObject *dict;
    size_t used = 0, room;

    if (UNLIKELY(!keys)) {
        release(pairs, 2 * count);
        return NULL;
    }
    entries = ll_entries(keys);
    room = ll_usable(keys->log2_size);
    for (size_t at = 0; at < count; at++) {
        const size_t entry = place(keys, entries, pairs[2 * at], used);

        if (UNLIKELY(entry < used))
            Py_DECREF(entries[entry].value);
        else
            used++;
        entries[entry].value = pairs[2 * at + 1];
    }
    memset(entries + used, 0, (room - used) * sizeof *entries);
    keys->nentries = (Py_ssize_t)used;
    keys->usable = (Py_ssize_t)(room - used);
    dict = adopt(keys, used, containers);
    if (UNLIKELY(!dict)) {
        for (size_t at = 0; at < used; at++) {
            Py_DECREF(entries[at].key);
            Py_DECREF(entries[at].value);
        }
        LL_KEYS_FREE(keys);
    }
    return dict;
}

static PyObject *direct_of_image(const struct ll_image *image, PyObject **values, bool containers)
{
    const size_t count = image->count;
    struct ll_keys *keys = LL_KEYS_MALLOC(image->size);
    struct ll_entry *entries;
    PyObject *dict;

    if (UNLIKELY(!keys)) {
        release(values, count);
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(keys, image->table, image->size);
    entries = (struct ll_entry *)((char *)keys + image->entries);
    for (size_t at = 0; at < count; at++) {
        Py_INCREF(entries[at].key);
        entries[at].value = values[at];
    }
    dict = adopt(keys, count, containers);
    if (UNLIKELY(!dict)) {
        release(values, count);
        for (size_t at = 0; at < count; at++)
            Py_DECREF(entries[at].key);
        LL_KEYS_FREE(keys);
    }
    return dict;
}

#endif

/* ---- either ---- */

PyObject *ll_dict_of_pairs(PyObject **pairs, size_t count, bool containers)
{
    if (count == 0)
        return PyDict_New();
#if LL_LAYOUT_KNOWN
    if (LIKELY(ll_direct && count < (size_t)1 << 30))
        return direct_of_pairs(pairs, count, containers);
#endif
    (void)containers;
    return public_of_pairs(pairs, count);
}

PyObject *ll_dict_of_image(const struct ll_image *image, PyObject **values, bool containers)
{
#if LL_LAYOUT_KNOWN
    if (LIKELY(ll_direct))
        return direct_of_image(image, values, containers);
#endif
    (void)containers;
    return public_of_image(image, values);
}

size_t ll_image_size(size_t count)
{
#if LL_LAYOUT_KNOWN
    if (ll_direct)
        return sizeof(struct ll_image) + ll_keys_size(ll_log2_size(count));
#endif
    return sizeof(struct ll_image) + count * sizeof(PyObject *);
}

int ll_image_make(struct ll_image *image, PyObject *const *keys, size_t count)
{
    image->count = (uint32_t)count;
    image->size = (uint32_t)(ll_image_size(count) - sizeof *image);
    image->entries = 0;
#if LL_LAYOUT_KNOWN
    if (ll_direct) {
        struct ll_keys *table = blank(count);
        struct ll_entry *entries;

        if (!table)
            return -1;
        entries = ll_entries(table);
        memset(entries, 0, ll_usable(table->log2_size) * sizeof *entries);
        for (size_t at = 0; at < count; at++)
            place(table, entries, Py_NewRef(keys[at]), at);
        table->nentries = (Py_ssize_t)count;
        table->usable = (Py_ssize_t)(ll_usable(table->log2_size) - count);
        image->entries = (uint32_t)((char *)entries - (char *)table);
        memcpy(image->table, table, image->size);
        LL_KEYS_FREE(table);
        return 0;
    }
#endif
    for (size_t at = 0; at < count; at++)
        ((PyObject **)(void *)image->table)[at] = Py_NewRef(keys[at]);
    return 0;
}

void ll_image_clear(struct ll_image *image)
{
#if LL_LAYOUT_KNOWN
    if (ll_direct) {
        struct ll_entry *entries = (struct ll_entry *)(void *)(image->table + image->entries);

        for (size_t at = 0; at < image->count; at++)
            Py_DECREF(entries[at].key);
        return;
    }
#endif
    for (size_t at = 0; at < image->count; at++)
        Py_DECREF(((PyObject **)(void *)image->table)[at]);
}
