/* Learning shapes, and keeping what is learned within its bounds. */

#include "shape.h"

static inline bool has_room(const struct ll_learner *learner, size_t size)
{
    return learner->bytes + size <= learner->most_bytes;
}

/* Zeroed and counted memory, or NULL without an exception. */
static void *take(struct ll_learner *learner, size_t size)
{
    void *block = has_room(learner, size) ? PyMem_Calloc(1, size) : NULL;

    if (block)
        learner->bytes += size;
    return block;
}

static void give_back(struct ll_learner *learner, void *block, size_t size)
{
    learner->bytes -= size;
    PyMem_Free(block);
}

/* ---- places ---- */

static struct ll_place *new_place(struct ll_learner *learner, const struct ll_place *above)
{
    struct ll_place *place = above->depth < LL_DEEPEST_PLACE ? take(learner, sizeof *place) : NULL;

    if (place) {
        place->depth = (uint8_t)(above->depth + 1);
        place->patience = LL_PATIENCE;
    }
    return place;
}

#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030d0000
/* On 3.12 an interned string is never freed: so many may be interned by all decoders, and the rest are not. */
static unsigned internable = 1 << 16;
#endif

/* The string a handler's own constant of these characters is, so that looking it up compares no characters. Takes the
 * reference over and gives one back. */
static PyObject *interned(PyObject *key)
{
#if PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030d0000
    if (PyUnicode_CHECK_INTERNED(key) || internable == 0)
        return key;
    internable--;
#endif
    PyUnicode_InternInPlace(&key);
    return key;
}

static struct ll_known *known_of(struct ll_learner *learner, struct ll_place *place)
{
    if (!place->known)
        place->known = take(learner, sizeof *place->known);
    return place->known;
}

/* What a key is counted as, though a handler's code may hold the same string. */
static size_t key_size(PyObject *key)
{
    return sizeof(PyCompactUnicodeObject) + (size_t)(PyUnicode_GET_LENGTH(key) + 1) * PyUnicode_KIND(key);
}

static inline bool is_key(const struct ll_place *place, PyObject *key)
{
    return place->key == key || (((PyASCIIObject *)place->key)->hash == ((PyASCIIObject *)key)->hash &&
                                 PyUnicode_Compare(place->key, key) == 0);
}

struct ll_place *ll_field(struct ll_learner *learner, struct ll_place *place, PyObject *key, struct ll_place **cursor,
                          bool make)
{
    struct ll_known *known = make ? known_of(learner, place) : place->known;
    struct ll_place *field;

    if (!known)
        return NULL;
    field = *cursor ? (*cursor)->next : known->fields;
    if (LIKELY(field && is_key(field, key)))
        return *cursor = field;
    for (field = known->fields; field; field = field->next)
        if (is_key(field, key))
            return *cursor = field;
    if (!make || known->fields_count == LL_MOST_KEYS || PyUnicode_GET_LENGTH(key) > LL_LONGEST_RUN ||
        !has_room(learner, sizeof *field + key_size(key)))
        return NULL;
    field = new_place(learner, place);
    if (!field)
        return NULL;
    field->key = interned(Py_NewRef(key));
    learner->bytes += key_size(key);
    ll_names_put(&learner->names, field->key);
    if (known->last_field)
        known->last_field->next = field;
    else
        known->fields = field;
    known->last_field = field;
    known->fields_count++;
    return *cursor = field;
}

struct ll_place *ll_element(struct ll_learner *learner, struct ll_place *place)
{
    if (!place->element)
        place->element = new_place(learner, place);
    return place->element;
}

void ll_remember_changed(struct ll_learner *learner, struct ll_place *place, PyObject *text, size_t size)
{
    PyObject *before = place->last;
    bool keep = true;

    if (place->patience == 0) /* its turn has come to be tried again */
        place->patience = 1;
    else if (before)
        keep = --place->patience > 0;
    if (before)
        learner->bytes -= place->last_size + sizeof(PyASCIIObject);
    place->last = NULL;
    if (keep && has_room(learner, size + sizeof(PyASCIIObject))) {
        learner->bytes += size + sizeof(PyASCIIObject);
        place->last = Py_NewRef(text);
        place->last_size = (uint16_t)size;
    }
    Py_XDECREF(before);
}

/* ---- shapes ---- */

static void drop_shape(struct ll_learner *learner, struct ll_shape *shape)
{
    ll_image_clear(shape->image);
    learner->shapes--;
    give_back(learner, shape, shape->size);
}

static size_t to_16(size_t size)
{
    return (size + 15) & ~(size_t)15;
}

static struct ll_shape *new_shape(struct ll_learner *learner, const struct ll_mark *marks, size_t count,
                                  const uint8_t *tail, size_t tail_size)
{
    const size_t image_at = to_16(sizeof(struct ll_shape) + count * sizeof(struct ll_run));
    const size_t bytes_at = image_at + ll_image_size(count);
    PyObject *keys[LL_MOST_KEYS];
    struct ll_shape *shape;
    size_t size = bytes_at + tail_size;
    uint8_t *bytes;

    for (size_t at = 0; at < count; at++) {
        keys[at] = marks[at].place->key;
        size += marks[at].size;
    }
    shape = take(learner, size);
    if (!shape)
        return NULL;
    shape->image = (struct ll_image *)(void *)((char *)shape + image_at);
    if (ll_image_make(shape->image, keys, count) < 0) {
        PyErr_Clear();
        give_back(learner, shape, size);
        return NULL;
    }
    bytes = (uint8_t *)shape + bytes_at;
    for (size_t at = 0; at < count; at++) {
        memcpy(bytes, marks[at].bytes, marks[at].size);
        shape->runs[at] = (struct ll_run){.bytes = bytes, .place = marks[at].place, .size = marks[at].size};
        bytes += marks[at].size;
    }
    memcpy(bytes, tail, tail_size);
    shape->tail = bytes;
    shape->tail_size = (uint32_t)tail_size;
    shape->count = (uint32_t)count;
    shape->size = size;
    learner->shapes++;
    return shape;
}

/* Whether these keys came lately; if not, they have now. */
static bool came_before(struct ll_known *known, PyObject *const *keys, size_t count)
{
    uint64_t print = count;

    for (size_t at = 0; at < count; at++)
        print = (print ^ (uint64_t)((PyASCIIObject *)keys[2 * at])->hash) * 0x9e3779b97f4a7c15u;
    for (size_t at = 0; at < LL_RECENT; at++)
        if (known->recent[at] == (uint32_t)(print >> 32))
            return true;
    known->recent[known->turn] = (uint32_t)(print >> 32);
    known->turn = (uint8_t)((known->turn + 1) % LL_RECENT);
    return false;
}

/* Whether an object here, with these runs, is one to learn. */
static bool is_learnable(const struct ll_place *place, const struct ll_mark *marks, size_t count, size_t tail_size)
{
    if (place->depth == LL_DEEPEST_PLACE || tail_size > LL_LONGEST_RUN)
        return false;
    for (size_t at = 0; at < count; at++)
        if (marks[at].size > LL_LONGEST_RUN)
            return false;
    return true;
}

/* Every mark's place, which a doubtful place has not made on the way. */
static bool complete_marks(struct ll_learner *learner, struct ll_place *place, PyObject *const *keys,
                           struct ll_mark *marks, size_t count)
{
    struct ll_place *cursor = NULL;

    for (size_t at = 0; at < count; at++) {
        if (!marks[at].place)
            marks[at].place = ll_field(learner, place, keys[2 * at], &cursor, true);
        if (!marks[at].place)
            return false;
        cursor = marks[at].place;
    }
    return true;
}

void ll_learn(struct ll_learner *learner, struct ll_place *place, PyObject *const *keys, struct ll_mark *marks,
              size_t count, const uint8_t *tail, size_t tail_size)
{
    struct ll_shape *shape = NULL, **link;
    struct ll_known *known;

    if (!is_learnable(place, marks, count, tail_size))
        return;
    known = known_of(learner, place);
    if (known && !ll_is_keen(place) && !came_before(known, keys, count))
        return;
    if (known && complete_marks(learner, place, keys, marks, count))
        shape = new_shape(learner, marks, count, tail, tail_size);
    if (!shape) {
        learner->refused++;
        return;
    }
    if (known->vain < LL_DOUBT)
        known->vain++;
    if (known->shapes)
        learner->relearns++;
    shape->next = known->shapes;
    known->shapes = shape;
    if (known->shapes_count < learner->most_shapes) {
        known->shapes_count++;
        return;
    }
    for (link = &known->shapes; (*link)->next; link = &(*link)->next)
        continue;
    drop_shape(learner, *link);
    *link = NULL;
}

/* ---- forgetting ---- */

static void clear_place(struct ll_learner *learner, struct ll_place *place);

static void drop_place(struct ll_learner *learner, struct ll_place *place)
{
    clear_place(learner, place);
    give_back(learner, place, sizeof *place);
}

/* Recurses as deep as places go, LL_DEEPEST_PLACE. */
static void clear_place(struct ll_learner *learner, struct ll_place *place)
{
    struct ll_known *known = place->known;

    if (known) {
        struct ll_shape *shape = known->shapes;
        struct ll_place *field = known->fields;

        while (shape) {
            struct ll_shape *next = shape->next;

            drop_shape(learner, shape);
            shape = next;
        }
        while (field) {
            struct ll_place *next = field->next;

            drop_place(learner, field);
            field = next;
        }
        give_back(learner, known, sizeof *known);
    }
    if (place->element)
        drop_place(learner, place->element);
    if (place->last) {
        learner->bytes -= place->last_size + sizeof(PyASCIIObject);
        Py_DECREF(place->last);
    }
    if (place->key) {
        learner->bytes -= key_size(place->key);
        Py_DECREF(place->key);
    }
}

void ll_forget(struct ll_learner *learner)
{
    clear_place(learner, &learner->root);
    memset(&learner->root, 0, sizeof learner->root);
    learner->root.patience = LL_PATIENCE;
    learner->refused = 0;
}
