/* See speech_pronunciation.h. */
#include "speech_pronunciation.h"

#include <string.h>

#include "speech_room.h"

#define GUESSES 3       /* by letters */
#define MARGIN (2 * 16) /* a guess that costs so much more than the best is left out */
#define SHORT 4         /* letters of an unknown word that may be an abbreviation */

static const char PHONES[] =
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V "
    "W Y Z ZH";

/* The names of letters from a to z, and another one of z. */
static const char *const LETTER_NAMES[] = {
    "EY", "B IY", "S IY", "D IY", "IY", "EH F", "JH IY", "EY CH", "AY", "JH EY", "K EY", "EH L",
    "EH M", "EH N", "OW", "P IY", "K Y UW", "AA R", "EH S", "T IY", "Y UW", "V IY",
    "D AH B AH L Y UW", "EH K S", "W AY", "Z IY"};
static const char ZED[] = "Z EH D";

/* British spellings and American ones: organised, colour, travelling, centre, offence, programme,
 * catalogue. `tails` are what may follow at the end of a word; NULL: anything, anywhere. */
typedef struct {
  const char *after; /* letters of which one stands before; NULL: anything */
  const char *british, *tails, *american;
} respelling;

static const respelling RESPELLINGS[] = {
    {"iy", "s", "e es ed er ing able ation ations", "z"},
    {NULL, "our", NULL, "or"},
    {NULL, "ll", "ed ing er ers", "l"},
    {NULL, "re", ". s", "er"},
    {NULL, "ence", ". s", "ense"},
    {NULL, "mme", ". s", "m"},
    {NULL, "ogue", ". s", "og"},
};

static int is_one_of(char letter, const char *letters) {
  for (; *letters != '\0'; ++letters) {
    if (*letters == letter) return 1;
  }
  return 0;
}

static int starts_with(const char *text, int32_t length, const char *beginning, int32_t count) {
  int32_t i;
  if (count > length) return 0;
  for (i = 0; i < count; ++i) {
    if (text[i] != beginning[i]) return 0;
  }
  return 1;
}

int32_t speech_phone(const char *name, int32_t length) {
  const char *next = PHONES;
  int32_t number;
  for (number = 0; number < SPEECH_PHONES; ++number) {
    int32_t size = 0;
    while (next[size] != ' ' && next[size] != '\0') ++size;
    if (size == length && starts_with(name, length, next, size)) return number;
    next += size + 1;
  }
  return -1;
}

int speech_read_phones(speech_pronunciation *read, const char *names, int32_t length) {
  int32_t at = 0;
  read->count = 0;
  while (at < length) {
    int32_t begin = at, end, phone;
    while (at < length && names[at] != ' ') ++at;
    for (end = at; end > begin && is_one_of(names[end - 1], "012"); --end) continue;
    if (at > begin) {
      phone = speech_phone(names + begin, end - begin);
      if (phone < 0 || read->count == SPEECH_MOST_PHONES) return 0;
      read->phones[read->count++] = (uint8_t)phone;
    }
    ++at;
  }
  return 1;
}

static int is_phone_of(uint8_t phone, const char *names) {
  speech_pronunciation all;
  int32_t i;
  (void)speech_read_phones(&all, names, (int32_t)speech_length(names));
  for (i = 0; i < all.count; ++i) {
    if (all.phones[i] == phone) return 1;
  }
  return 0;
}

/* Adds the sound of "'s". */
static void make_possessive(speech_pronunciation *way) {
  uint8_t last = way->count > 0 ? way->phones[way->count - 1] : 0;
  const char *ending = "Z";
  speech_pronunciation added;
  if (is_phone_of(last, "S Z SH ZH CH JH")) {
    ending = "AH Z";
  } else if (is_phone_of(last, "P T K F TH")) {
    ending = "S";
  }
  (void)speech_read_phones(&added, ending, (int32_t)speech_length(ending));
  if (way->count == 0 || way->count + added.count > SPEECH_MOST_PHONES) return;
  memcpy(way->phones + way->count, added.phones, (size_t)added.count);
  way->count += added.count;
}

static int is_possessive(const char *word, int32_t length) {
  return length >= 2 && word[length - 2] == '\'' && word[length - 1] == 's';
}

/* Adds the names of letters; a z has two. */
static void spell(speech_pronouncer *p, speech_ways *ways, const char *letters, int32_t length,
                  int is_plural) {
  speech_pronunciation *way = &p->said;
  int32_t zeds, i;
  for (zeds = 0; zeds < 2; ++zeds) {
    int has_z = 0;
    way->count = 0;
    for (i = 0; i < length; ++i) {
      const char *name;
      if (letters[i] == '\'') continue;
      name = letters[i] == 'z' && zeds ? ZED : LETTER_NAMES[speech_letter(letters[i])];
      has_z |= letters[i] == 'z';
      (void)speech_read_phones(&p->changed, name, (int32_t)speech_length(name));
      if (way->count + p->changed.count > SPEECH_MOST_PHONES) return;
      memcpy(way->phones + way->count, p->changed.phones, (size_t)p->changed.count);
      way->count += p->changed.count;
    }
    if (is_plural) make_possessive(way);
    speech_ways_add(ways, way);
    if (!has_z) return;
  }
}

/* Removes apostrophes at both ends; returns the length. */
static int32_t strip(const char **word, int32_t length) {
  while (length > 0 && **word == '\'') {
    ++*word;
    --length;
  }
  while (length > 0 && (*word)[length - 1] == '\'') --length;
  return length;
}

/* Length of one of the tails that is all of a text; -1: none is. */
static int is_tail(const char *text, int32_t length, const char *tails) {
  while (*tails != '\0') {
    int32_t size = 0;
    while (tails[size] != ' ' && tails[size] != '\0') ++size;
    if (*tails == '.' ? length == 0
                      : size == length && starts_with(text, length, tails, size)) return 1;
    tails += tails[size] == '\0' ? size : size + 1;
  }
  return 0;
}

/* Writes a word in American spelling. Returns its length; 0: it is the same, or too long. */
static int32_t respell(const respelling *rule, const char *word, int32_t length, char *written) {
  int32_t british = (int32_t)speech_length(rule->british), american = (int32_t)speech_length(rule->american);
  int32_t at = 0, count = 0, changes = 0;
  while (at < length) {
    int fits = starts_with(word + at, length - at, rule->british, british) &&
               (rule->after == NULL || (at > 0 && is_one_of(word[at - 1], rule->after))) &&
               (rule->tails == NULL ||
                is_tail(word + at + british, length - at - british, rule->tails));
    if (count + american > SPEECH_MOST_LETTERS) return 0;
    if (fits) {
      memcpy(written + count, rule->american, (size_t)american);
      count += american;
      at += british;
      ++changes;
    } else {
      written[count++] = word[at++];
    }
  }
  return changes > 0 ? count : 0;
}

/* Adds the ways of the lexicon; a possessive also from its noun, and a word in British spelling from
 * its American one. Returns whether it could. */
static int find_known(speech_pronouncer *p, speech_ways *ways, const char *word, int32_t length) {
  int32_t possessives = 0, i, k;
  int found = 0;
  char written[SPEECH_MOST_LETTERS];
  for (;;) {
    const char *inner = word;
    int32_t size = strip(&inner, length);
    found = speech_lexicon_find(p->lexicon, word, length, ways);
    if (found == 0 && size < length) found = speech_lexicon_find(p->lexicon, inner, size, ways);
    if (found != 0 || !is_possessive(word, length)) break;
    length -= 2;
    ++possessives;
  }
  for (i = 0; found == 0 && i < (int32_t)(sizeof RESPELLINGS / sizeof *RESPELLINGS); ++i) {
    int32_t size = respell(&RESPELLINGS[i], word, length, written);
    if (size > 0) found = speech_lexicon_find(p->lexicon, written, size, ways);
  }
  for (i = 0; i < ways->count; ++i) {
    for (k = 0; k < possessives; ++k) make_possessive(&ways->ways[i]);
  }
  return found >= 0;
}

/* Guesses how letters are said. Returns whether it could. */
static int guess(speech_pronouncer *p, const char *word, int32_t length) {
  int32_t possessives = 0, size, i, k;
  const char *inner = word;
  p->guesses.count = 0;
  while (is_possessive(word, length)) {
    const char *noun = word;
    if (strip(&noun, length - 2) == 0) break;
    length -= 2;
    ++possessives;
  }
  size = strip(&inner, length);
  if (!speech_lexicon_guess(p->lexicon, &p->guess, inner, size, GUESSES, MARGIN, &p->guesses)) {
    return 0;
  }
  if (p->guesses.count == 0) spell(p, &p->guesses, word, length, 0);
  for (i = 0; i < p->guesses.count; ++i) {
    for (k = 0; k < possessives; ++k) make_possessive(&p->guesses.ways[i]);
  }
  return p->guesses.count > 0;
}

/* Letters of a word that has no vowel before a possible "'s", and so is said by their names; 0: it
 * has one. */
static int32_t initials(const char *word, int32_t length) {
  int32_t count = is_possessive(word, length) ? length - 2 : length, i;
  for (i = 0; i < count; ++i) {
    if (is_one_of(word[i], "aeiouy'")) return 0;
  }
  return count;
}

int speech_pronounce(speech_pronouncer *p, const char *word, int32_t length) {
  int32_t letters = initials(word, length), i;
  p->ways.count = 0;
  if (length == 1 && !is_one_of(word[0], "ai")) {
    spell(p, &p->ways, word, length, 0);
    return 1;
  }
  if (!find_known(p, &p->ways, word, length)) return 0;
  if (p->ways.count == 0 && letters > 0 && length > 1) {
    spell(p, &p->ways, word, letters, letters < length);
    return 1;
  }
  if (p->ways.count > 0) {
    p->guesses.ways[0] = p->ways.ways[0];
  } else {
    if (!guess(p, word, length)) return 0;
    speech_ways_add(&p->ways, &p->guesses.ways[0]);
    if (length <= SHORT) spell(p, &p->ways, word, length, 0);
    for (i = 1; i < p->guesses.count; ++i) speech_ways_add(&p->ways, &p->guesses.ways[i]);
  }
  speech_variants(p, word, length, &p->guesses.ways[0]);
  return 1;
}
