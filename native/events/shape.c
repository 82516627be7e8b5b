/* Learning shapes, and keeping what is learned within its bounds. */

#include "shape.h"

static bool has_room(struct ll_learner *learner, size_t size)
{
    if (learner->bytes + size <= learner->most_bytes)
        return true;
    learner->refused++;
    return false;
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
    if (!make || known->fields_count == LL_MOST_KEYS)
        return NULL;
    field = new_place(learner, place);
    if (!field)
        return NULL;
    field->key = interned(Py_NewRef(key));
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

    if (place->patience == 0) { /* its turn has come to be tried again */
        place->patience = 1;
    } else if (before && --place->patience == 0) {
        place->last = NULL;
        learner->bytes -= place->last_size;
        Py_DECREF(before);
        return;
    }
    if (!before && !has_room(learner, size))
        return;
    learner->bytes += size;
    place->last = Py_NewRef(text);
    if (before) {
        learner->bytes -= place->last_size;
        Py_DECREF(before);
    }
    place->last_size = (uint16_t)size;
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

/* Every mark's place, which a doubtful place has not made on the way. */
static bool complete_marks(struct ll_learner *learner, struct ll_place *place, PyObject *const *keys,
                           struct ll_mark *marks, size_t count)
{
    struct ll_place *cursor = NULL;

    for (size_t at = 0; at < count; at++) {
        if (marks[at].size > LL_LONGEST_RUN)
            return false;
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
    struct ll_known *known = known_of(learner, place);
    struct ll_shape *shape, **link;

    if (!known || tail_size > LL_LONGEST_RUN || (!ll_is_keen(place) && !came_before(known, keys, count)) ||
        !complete_marks(learner, place, keys, marks, count))
        return;
    shape = new_shape(learner, marks, count, tail, tail_size);
    if (!shape)
        return;
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
        learner->bytes -= place->last_size;
        Py_DECREF(place->last);
    }
    Py_XDECREF(place->key);
}

void ll_forget(struct ll_learner *learner)
{
    clear_place(learner, &learner->root);
    memset(&learner->root, 0, sizeof learner->root);
    learner->root.patience = LL_PATIENCE;
    learner->refused = 0;
}
