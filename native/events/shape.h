/*
 * What is known of the events' shapes: a tree of places.
 *
 * A place is where a value stands in an event, told by the path to it: the event itself, the value of a key, or all the
 * elements of an array, which are one place however many they are. A place remembers what stood there: the last short
 * string, and for objects their shapes. A shape is one order of keys with the very bytes between their values. All
 * shapes of a place share the places of its keys, so an object with one key more than the last costs that one key.
 */

#ifndef LAMPLIGHTER_SHAPE_H
#define LAMPLIGHTER_SHAPE_H

#include "names.h"
#include "reader.h"

#define LL_LONGEST_REMEMBERED 128 /* bytes of a string that a place keeps */
#define LL_MOST_KEYS 128          /* of a shape; and of a place, over all its shapes */
#define LL_LONGEST_RUN 256        /* bytes between two values */
#define LL_DEEPEST_PLACE 32
#define LL_RECENT 8

/*
 * struct ll_run: what stands between two values, such as `,"key": `; and where it leads.
 *
 *      0  bytes     in the block of the shape
 *      8  place     of the value that follows
 *     16  size
 */
struct ll_run {
    const uint8_t *bytes;
    struct ll_place *place;
    uint32_t size;
};

/*
 * struct ll_shape: one block.
 *
 *      0  next              the shape of this place used before this one
 *      8  image             the dict's key table, in this block
 *     16  tail, tail_size   what stands between the last value and the end of the brace
 *     28  count             of keys
 *     32  size              of the block
 *     40  met               since it was learned
 *     48  runs[count]
 *      .  *image            to a multiple of 16
 *      .  the bytes of the runs and of the tail
 */
struct ll_shape {
    struct ll_shape *next;
    struct ll_image *image;
    const uint8_t *tail;
    uint32_t tail_size;
    uint32_t count;
    size_t size;
    bool met;
    struct ll_run runs[];
};

/*
 * struct ll_known: the objects of a place.
 *
 *      0  shapes        the one used last first
 *      8  fields        the places of the keys, in order of discovery
 *     16  last_field    where the next one is hung
 *     24  recent[8]     fingerprints of unknown shapes met while doubtful
 *     56  fields_count, shapes_count
 *     58  vain          of the shapes learned, how many were never met again; from LL_DOUBT on it learns what comes twice
 *     59  turn          the slot of `recent` that is next overwritten
 */
struct ll_known {
    struct ll_shape *shapes;
    struct ll_place *fields;
    struct ll_place *last_field;
    uint32_t recent[LL_RECENT];
    uint8_t fields_count;
    uint8_t shapes_count;
    uint8_t vain;
    uint8_t turn;
};

/*
 * struct ll_place
 *
 *      0  key           owned, interned; NULL for the event and for elements
 *      8  next          among the fields of its object
 *     16  known         of the objects that stood here, or NULL
 *     24  element       the place of the elements of the arrays that stood here, or NULL
 *     32  last          the string that stood here last, or NULL: plain ASCII, so that its characters are its source
 *     40  last_size
 *     42  patience      how often more it may change before it is no longer kept
 *     43  turn          changes since then; at 256 it is tried again
 *     44  depth
 */
struct ll_place {
    PyObject *key;
    struct ll_place *next;
    struct ll_known *known;
    struct ll_place *element;
    PyObject *last;
    uint16_t last_size;
    uint8_t patience;
    uint8_t turn;
    uint8_t depth;
};

#define LL_PATIENCE 3
#define LL_DOUBT 4
#define LL_MOST_REFUSED 64

/*
 * struct ll_learner: all that a decoder has learned, within its bounds.
 *
 *      0  root          the place of the event
 *     48  names         the cache of keys
 *   8248  bytes         of places, shapes and remembered strings
 *      .  most_bytes    what `bytes` may reach
 *      .  most_shapes   of one place
 *      .  refused       objects whose shape found no room, since all was last forgotten
 *      .  hits, misses, relearns, shapes
 */
struct ll_learner {
    struct ll_place root;
    struct ll_names names;
    size_t bytes;
    size_t most_bytes;
    unsigned most_shapes;
    unsigned refused;
    unsigned long long hits;
    unsigned long long misses;
    unsigned long long relearns;
    size_t shapes;
};

/* Whether a new shape at this place may be learned at first sight. */
static inline bool ll_is_keen(const struct ll_place *place)
{
    return !place->known || place->known->vain < LL_DOUBT;
}

/* The place of this key in objects at `place`: looked for after `*cursor` first, then everywhere, and made if `make`;
 * NULL if there is none. Never an error: without memory nothing is learned. */
struct ll_place *ll_field(struct ll_learner *learner, struct ll_place *place, PyObject *key, struct ll_place **cursor,
                          bool make);

/* The place of an array's elements, or NULL. */
struct ll_place *ll_element(struct ll_learner *learner, struct ll_place *place);

/* Learn the shape of an object at `place` that has just been read, if that is wise: its `count` different keys stand at
 * keys[0], keys[2], ..., its runs in `marks`, and `tail` ends it. */
void ll_learn(struct ll_learner *learner, struct ll_place *place, PyObject *const *keys, struct ll_mark *marks,
              size_t count, const uint8_t *tail, size_t tail_size);

/* A shape has been met again: learning it was not in vain. */
static inline void ll_met(struct ll_known *known, struct ll_shape *shape)
{
    shape->met = true;
    known->vain--;
}

/* Forget everything but the counters. */
void ll_forget(struct ll_learner *learner);

/* At the end of a decode: what was refused too often makes room. */
static inline void ll_settle(struct ll_learner *learner)
{
    if (UNLIKELY(learner->refused >= LL_MOST_REFUSED))
        ll_forget(learner);
}

void ll_remember_changed(struct ll_learner *learner, struct ll_place *place, PyObject *text, size_t size);

/* A string value, its quote at `at`: shared with the last one of its place if it is the same. */
static inline const uint8_t *ll_read_string(struct ll_reader *reader, const uint8_t *at, struct ll_place *place)
{
    const uint8_t *from = at + 1, *end = reader->end, *special;
    PyObject *text;

    if (place && place->last) {
        const size_t size = place->last_size;

        if ((size_t)(end - from) > size && from[size] == '"' &&
            ll_same((const char *)place->last + sizeof(PyASCIIObject), from, size)) {
            if (place->patience != LL_PATIENCE)
                place->patience = LL_PATIENCE;
            return ll_push(reader, Py_NewRef(place->last)) ? from + size + 1 : NULL;
        }
    }
    special = ll_scan(from, end);
    if (LIKELY(special < end && *special == '"')) {
        const size_t size = (size_t)(special - from);

        text = ll_ascii(from, size);
        if (UNLIKELY(!text))
            return NULL;
        if (place && (place->patience || ++place->turn == 0) && size > 1 && size <= LL_LONGEST_REMEMBERED)
            ll_remember_changed(reader->learner, place, text, size);
        return ll_push(reader, text) ? special + 1 : NULL;
    }
    at = ll_read_text(reader, at, special, &text);
    return at && ll_push(reader, text) ? at : NULL;
}

#endif
