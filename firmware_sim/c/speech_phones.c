/* See speech_phones.h. */
#include "speech_phones.h"

#include <string.h>

#define LOGITS 256       /* different values of a logit */
#define KEYS 0x7fffffffu /* keys are below it */

/* A look at all paths that a frame may lead to: first they are counted, then the best kept. */
typedef struct {
  const int8_t *logits;
  int32_t top;   /* no score is above it */
  int32_t limit; /* scores from it on are kept */
  int32_t kept;
  int keeping;
} look;

static int32_t level_count(const speech_core *core) { return core->phones->margin + LOGITS; }

void speech_phones_lay(speech_phones *phones, const speech_core *core, speech_memory *memory) {
  uint64_t paths = (uint64_t)core->phones->paths, records = (uint64_t)core->phones->records + 1;
  phones->core = core;
  phones->records = (speech_record *)speech_take(memory, records, sizeof(speech_record));
  phones->moved = (int32_t *)speech_take(memory, records, sizeof(int32_t));
  phones->content_place = memory->used;
  phones->paths = (speech_path *)speech_take(memory, paths, sizeof(speech_path));
  phones->others = (speech_path *)speech_take(memory, paths, sizeof(speech_path));
  phones->levels =
      (uint32_t *)speech_take(memory, (uint64_t)level_count(core), sizeof(uint32_t));
}

static int is_label(const speech_core *core, const speech_path *path) {
  return path->place < core->automaton->arcs;
}

/* The state that a path has reached. */
static int32_t state_of(const speech_core *core, const speech_path *path) {
  if (is_label(core, path)) return speech_index(&core->targets, path->place);
  return path->place - core->automaton->arcs;
}

/* A sentence goes on in the same words after the last phone of each. */
static uint32_t key_after(const speech_core *core, uint32_t key, int32_t arc) {
  int32_t word = speech_index(&core->arc_words, arc);
  uint64_t says;
  if (word == 0) return key;
  says = (uint64_t)(word - 1) * 1009 + (uint64_t)(core->arc_slots[arc] + 2);
  return (uint32_t)(((uint64_t)key * 1000003 + says) % KEYS);
}

/* Counts or keeps a path, whose score is still without the frame. */
static void offer(speech_phones *phones, look *l, speech_path path, int32_t unit) {
  int32_t below;
  path.score += l->logits[unit];
  below = l->top - path.score;
  if (!l->keeping) {
    if (below < level_count(phones->core)) ++phones->levels[below];
  } else if (path.score >= l->limit && l->kept < phones->core->phones->paths) {
    phones->others[l->kept++] = path;
  }
}

/* Offers the ways of a path into the arcs of a state. CTC writes a repeated phone only after a
 * blank. */
static void enter(speech_phones *phones, look *l, const speech_path *path, int32_t state) {
  const speech_core *core = phones->core;
  int32_t end = speech_index(&core->first_arcs, state + 1);
  int32_t arc;
  for (arc = speech_index(&core->first_arcs, state); arc < end; ++arc) {
    uint16_t phone = core->arc_tokens[arc];
    speech_path entered = *path;
    if (is_label(core, path) && core->arc_tokens[path->place] == phone) continue;
    entered.place = arc;
    entered.record = 2 * path->record + 1;
    if (l->keeping) entered.key = key_after(core, path->key, arc);
    offer(phones, l, entered, phone);
  }
}

static void look_at_all(speech_phones *phones, look *l) {
  const speech_core *core = phones->core;
  int32_t i;
  for (i = 0; i < phones->labels; ++i) {
    speech_path stays = phones->paths[i];
    stays.record *= 2;
    offer(phones, l, stays, core->arc_tokens[stays.place]);
  }
  for (i = 0; i < phones->count; ++i) {
    const speech_path *path = &phones->paths[i];
    int32_t state = state_of(core, path);
    enter(phones, l, path, state);
    if (core->finals[state] >= 0) enter(phones, l, path, core->automaton->start);
  }
  for (i = 0; i < phones->count; ++i) {
    speech_path rests = phones->paths[i];
    rests.place = core->automaton->arcs + state_of(core, &rests);
    rests.record *= 2;
    offer(phones, l, rests, core->phones->count);
  }
}

/* The lowest score that is kept: within the margin, and of at most so many paths. */
static int32_t limit_of(const speech_phones *phones, const look *l) {
  const speech_phone_numbers *p = phones->core->phones;
  int32_t best = 0, below;
  uint32_t count = 0;
  while (best < LOGITS - 1 && phones->levels[best] == 0) ++best;
  for (below = best; below < best + p->margin; ++below) {
    count += phones->levels[below];
    if (count > (uint32_t)p->paths) break;
  }
  if (below == best) ++below; /* too many equal ones: the first */
  return l->top - below + 1;
}

/* Whether a path comes first: by its place, by its sentence, or as the likelier one. */
static int precedes(const speech_path *a, const speech_path *b) {
  if (a->place != b->place) return a->place < b->place;
  if (a->key != b->key) return a->key < b->key;
  return a->score >= b->score;
}

static void swap(speech_phones *phones) {
  speech_path *paths = phones->paths;
  phones->paths = phones->others;
  phones->others = paths;
}

/* Sorts the first `count` paths; equals keep their order. */
static void sort(speech_phones *phones, int32_t count) {
  int32_t width, begin;
  for (width = 1; width < count; width *= 2) {
    const speech_path *from = phones->paths;
    speech_path *to = phones->others;
    for (begin = 0; begin < count; begin += 2 * width) {
      int32_t middle = begin + width < count ? begin + width : count;
      int32_t end = middle + width < count ? middle + width : count;
      int32_t left = begin, right = middle, i;
      for (i = begin; i < end; ++i) {
        if (right == end || (left < middle && precedes(&from[left], &from[right]))) {
          to[i] = from[left++];
        } else {
          to[i] = from[right++];
        }
      }
    }
    swap(phones);
  }
}

/* Adds a path of a place to the best of it, behind equal ones. Returns their number. */
static int32_t rank(speech_path *best, int32_t count, const speech_path *path) {
  int32_t i = count;
  if (count == SPEECH_WAYS && best[--i].score >= path->score) return count;
  for (; i > 0 && best[i - 1].score < path->score; --i) best[i] = best[i - 1];
  best[i] = *path;
  return count == SPEECH_WAYS ? count : count + 1;
}

/* Keeps of sorted paths the best of each sentence in a place, and the best ones of a place. Returns
 * their number. */
static int32_t choose(speech_path *paths, int32_t count) {
  speech_path best[SPEECH_WAYS];
  int32_t kept = 0, i = 0;
  while (i < count) {
    int32_t place = paths[i].place, ways = 0;
    for (; i < count && paths[i].place == place; ++i) {
      if (i > 0 && paths[i - 1].place == place && paths[i - 1].key == paths[i].key) continue;
      ways = rank(best, ways, &paths[i]);
    }
    /* Not before: the loop above compares paths with those before them. */
    memcpy(paths + kept, best, (size_t)ways * sizeof *paths);
    kept += ways;
  }
  return kept;
}

/* Drops the records that no path leads to. */
static void collect(speech_phones *phones) {
  int32_t count = 0, i;
  memset(phones->moved, 0, (size_t)phones->record_count * sizeof *phones->moved);
  for (i = 0; i < phones->count; ++i) {
    int32_t record = phones->paths[i].record / 2;
    for (; record > 0 && phones->moved[record] == 0; record = phones->records[record].parent) {
      phones->moved[record] = 1;
    }
  }
  for (i = 0; i < phones->record_count; ++i) {
    if (i > 0 && phones->moved[i] == 0) continue;
    phones->records[count].parent = phones->moved[phones->records[i].parent];
    phones->records[count].arc = phones->records[i].arc;
    phones->moved[i] = count++;
  }
  phones->record_count = count;
  for (i = 0; i < phones->count; ++i) {
    speech_path *path = &phones->paths[i];
    path->record = 2 * phones->moved[path->record / 2] + path->record % 2;
  }
}

/* Records the arcs that paths have entered. A path without room for it ends. */
static void record(speech_phones *phones) {
  int32_t most = phones->core->phones->records + 1;
  int32_t entered = 0, kept = 0, i;
  for (i = 0; i < phones->count; ++i) entered += phones->paths[i].record % 2;
  if (phones->record_count + entered > most) collect(phones);
  phones->labels = 0;
  for (i = 0; i < phones->count; ++i) {
    speech_path path = phones->paths[i];
    int32_t parent = path.record / 2;
    if (path.record % 2 == 1 && phones->record_count == most) continue;
    if (path.record % 2 == 1) {
      phones->records[phones->record_count].parent = parent;
      phones->records[phones->record_count].arc = path.place;
      parent = phones->record_count++;
    }
    path.record = parent;
    phones->labels += is_label(phones->core, &path);
    phones->paths[kept++] = path;
  }
  phones->count = kept;
}

/* Goes on by a frame. */
static void advance(speech_phones *phones, const int8_t *logits) {
  look l = {NULL, INT32_MIN, 0, 0, 0};
  int32_t highest = INT8_MIN, i;
  l.logits = logits;
  for (i = 0; i <= phones->core->phones->count; ++i) {
    if (logits[i] > highest) highest = logits[i];
  }
  for (i = 0; i < phones->count; ++i) {
    if (phones->paths[i].score > l.top) l.top = phones->paths[i].score;
  }
  if (phones->count == 0) return;
  l.top += highest;
  memset(phones->levels, 0, (size_t)level_count(phones->core) * sizeof *phones->levels);
  look_at_all(phones, &l);
  l.limit = limit_of(phones, &l);
  l.keeping = 1;
  look_at_all(phones, &l);
  swap(phones);
  sort(phones, l.kept);
  phones->count = choose(phones->paths, l.kept);
  record(phones);
}

/* Notes a complete sentence, behind equal ones; of the same words the likelier one stays. */
static void note(speech_phones *phones, const speech_path *path) {
  speech_sentence *all = phones->sentences;
  int32_t i;
  for (i = 0; i < phones->sentence_count && all[i].key != path->key; ++i) continue;
  if (i == SPEECH_TEXTS) --i;
  if (i < phones->sentence_count && all[i].score >= path->score) return;
  if (i == phones->sentence_count) ++phones->sentence_count;
  for (; i > 0 && all[i - 1].score < path->score; --i) all[i] = all[i - 1];
  all[i].record = path->record;
  all[i].score = path->score;
  all[i].key = path->key;
}

void speech_phones_find(speech_phones *phones, const int8_t *logits, int32_t frames) {
  const speech_core *core = phones->core;
  int32_t units = core->phones->count + 1, i;
  phones->records[0].parent = 0;
  phones->record_count = 1;
  phones->paths[0].place = core->automaton->arcs + core->automaton->start;
  phones->paths[0].score = 0;
  phones->paths[0].key = 0;
  phones->paths[0].record = 0;
  phones->count = 1;
  phones->labels = 0;
  for (i = 0; i < frames; ++i) advance(phones, logits + (size_t)i * (size_t)units);
  phones->sentence_count = 0;
  for (i = 0; i < phones->count; ++i) {
    const speech_path *path = &phones->paths[i];
    if (core->finals[state_of(core, path)] >= 0) note(phones, path);
  }
}

int32_t speech_phones_arcs(const speech_phones *phones, int32_t sentence, int32_t *arcs) {
  int32_t first = phones->sentences[sentence].record;
  int32_t count = 0, record, i;
  for (record = first; record > 0; record = phones->records[record].parent) ++count;
  for (record = first, i = count; record > 0; record = phones->records[record].parent) {
    arcs[--i] = phones->records[record].arc;
  }
  return count;
}
