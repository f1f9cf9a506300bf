/* Where people differ: further pronunciations of a word, by rules on its letters and phones. See
 * speech_pronunciation.h.
 *
 * A pattern is a sequence of elements with spaces between them. An element is a set: letters without
 * separators, or phones with "/" between them; "@" has all vowels, "#" all consonants, "." all
 * phones. "!" before a set means all others. "?", "+" and "*" after it are those of regular
 * expressions. "<" is the beginning, "$" the end, and " | " stands between alternatives.
 */
#include "speech_pronunciation.h"
#include "speech_room.h"

#define MOST 63 /* letters or phones, so that the places between them are bits */
#define ALL (~(uint64_t)0)

/* A phone that becomes others, in words with a spelling. */
typedef struct {
  const char *spelling;
  const char *before, *phone, *after; /* what comes before it; which it may be; what comes next */
  int forbids;                        /* whether `after` is what must not come next */
  const char *becomes;
} rule;

enum { AMERICAN = 0, BRITISH = 3, SINGLE = 10, RULES = 20 };

static const rule RULE[RULES] = {
    /* American: water as wadder, twenty as twenny, dog with the vowel of father */
    {"t", "@/R", "T", "AH/ER/IH/IY", 0, "D"},
    {"n t", "N", "T", "AH/ER/IH/IY", 0, ""},
    {"ao", "", "AO", "R", 1, "AA"},
    /* British: no r but before vowels, a y in new, the vowel of father in bath */
    {"r", "IH", "R", "$", 0, "AH"},
    {"r", "@", "R", "@", 1, ""},
    {"r", "", "ER", "$", 0, "AH"},
    {"tdn u | tdn e w | tdn e u", "T/D/N", "UW", "", 0, "Y UW"},
    {"a s stkp | a f ft | a t h | a n c e | a n c h | a n t | a l fv", "", "AE",
     "F/S/TH/V | N S/CH/T", 0, "AA"},
    {"i l e", "", "AH", "L $", 0, "AY"},
    {"aeo r y $", "", "EH/AO", "R IY $", 0, "AH"},
    /* Short and long o, short a and the vowel of father, in words from other languages. */
    {"o !aeiouwy !aeiouwy? aio $", "", "OW", "# #? @ $", 0, "AA"},
    {"< p r o !aeiouwy", "< P R", "AA", "", 0, "OW"},
    {"a !aeiouwyr !aeiouwyr? !aeiouwyr? aeio s? $", "", "AA", "# #? #? @ Z? $", 0, "AE"},
    {"a !aeiouwyr !aeiouwyr? !aeiouwyr? aeio s? $", "", "AE", "# #? #? @ Z? $", 0, "AA"},
    {"o s st | o n g | o g | o f ft | o t h", "", "AA", "S/NG/G/F/TH", 0, "AO"},
    {"tdn u | tdn e w | tdn e u", "T/D/N", "Y", "UW", 0, ""},
    /* Vowels without stress, at the beginning and at the end. */
    {"< bdr e !aeiouwy | < s e !aeiouwy | < p r e !aeiouwy | < e !aeiouwy", "< #*", "IH", "", 0,
     "IY"},
    {"< bdr e !aeiouwy | < s e !aeiouwy | < p r e !aeiouwy | < e !aeiouwy", "< #*", "IY/AH", "",
     0, "IH"},
    {"ei !aeiouy+ e? s? $", "@ .*", "AH", "# #? #? $", 0, "IH"},
    {"ei !aeiouy+ e? s? $", "@ .*", "IH", "# #? #? $", 0, "AH"},
};

/* Rules that are applied together, or each by itself, in this order. */
static const struct {
  int first, end, together;
} GROUPS[] = {{AMERICAN, BRITISH, 1}, {BRITISH, SINGLE, 1}, {SINGLE, RULES, 0},
              {AMERICAN, BRITISH, 0}, {BRITISH, SINGLE, 0}};

/* Words that sentences seldom stress, then those that two countries say in their own ways. */
static const struct {
  const char *word, *ways;
} WORDS[] = {
    {"a", "AH,EY"},
    {"an", "AH N"},
    {"and", "AH N D,AH N"},
    {"are", "ER"},
    {"as", "AH Z"},
    {"at", "AH T"},
    {"can", "K AH N"},
    {"for", "F ER,F AH"},
    {"from", "F R AH M"},
    {"him", "IH M"},
    {"of", "AH V,AH"},
    {"or", "ER"},
    {"than", "DH AH N"},
    {"that", "DH AH T"},
    {"the", "DH AH,DH IY"},
    {"them", "DH AH M,AH M"},
    {"to", "T UW,T AH,T IH"},
    {"was", "W AH Z,W AA Z"},
    {"you", "Y UW,Y AH"},
    {"your", "Y AO R,Y ER"},
    {"banana", "B AH N AA N AH"},
    {"basil", "B AE Z AH L,B EY Z AH L"},
    {"data", "D EY T AH,D AE T AH"},
    {"either", "IY DH ER,AY DH ER"},
    {"herb", "HH ER B,ER B"},
    {"herbs", "HH ER B Z,ER B Z"},
    {"leisure", "L EH ZH ER,L IY ZH ER"},
    {"neither", "N IY DH ER,N AY DH ER"},
    {"oregano", "AO R IH G AA N OW"},
    {"privacy", "P R AY V AH S IY,P R IH V AH S IY"},
    {"route", "R UW T,R AW T"},
    {"router", "R AW T ER,R UW T ER"},
    {"schedule", "S K EH JH UH L,SH EH D Y UW L"},
    {"tomato", "T AH M EY T OW,T AH M AA T OW"},
    {"vase", "V EY S,V AA Z"},
    {"vitamin", "V AY T AH M AH N,V IH T AH M IH N"},
    {"yoghurt", "Y OW G ER T,Y AA G ER T"},
    {"yogurt", "Y OW G ER T,Y AA G ER T"},
    {"zebra", "Z IY B R AH,Z EH B R AH"},
};

/* Letters or phones, as numbers below 64. */
typedef struct {
  uint8_t symbols[MOST];
  int32_t count;
  int are_phones;
} sequence;

/* The bits of a set, and how often it may come. */
typedef struct {
  uint64_t members;
  char often; /* '?', '+', '*' or 0 */
} element;

static uint64_t vowels(void) {
  static const char *const names[] = {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER",
                                      "EY", "IH", "IY", "OW", "OY", "UH", "UW"};
  uint64_t found = 0;
  size_t i;
  for (i = 0; i < sizeof names / sizeof *names; ++i) {
    found |= (uint64_t)1 << speech_phone(names[i], 2);
  }
  return found;
}

static int is_end(char c) { return c == '\0' || c == ' '; }

/* Reads an element of letters or phones. Returns what comes after it. */
static const char *read_element(const char *pattern, int are_phones, element *read) {
  int negated = *pattern == '!';
  if (negated) ++pattern;
  read->members = 0;
  read->often = 0;
  while (!is_end(*pattern)) {
    int32_t length = 0;
    char c = *pattern;
    if (c == '?' || c == '+' || c == '*') {
      read->often = c;
      ++pattern;
    } else if (!are_phones) {
      read->members |= (uint64_t)1 << speech_letter(c);
      ++pattern;
    } else if (c == '@' || c == '#' || c == '.') {
      read->members |= c == '.' ? ALL : c == '@' ? vowels() : ~vowels();
      ++pattern;
    } else if (c == '/') {
      ++pattern;
    } else {
      while (pattern[length] >= 'A' && pattern[length] <= 'Z') ++length;
      read->members |= (uint64_t)1 << speech_phone(pattern, length);
      pattern += length;
    }
  }
  if (negated) read->members = ~read->members;
  return pattern;
}

/* The places after an element, from those before it. */
static uint64_t follow(const sequence *s, const element *e, uint64_t places) {
  uint64_t members = 0, once, more;
  int32_t i;
  for (i = 0; i < s->count; ++i) members |= (e->members >> s->symbols[i] & 1) << i;
  once = (places & members) << 1;
  if (e->often == '?') return places | once;
  if (e->often == 0) return once;
  for (i = 0; i < s->count; ++i) {
    more = once | (once & members) << 1;
    if (more == once) break;
    once = more;
  }
  return e->often == '*' ? places | once : once;
}

/* The places at which a match of a pattern ends that begins at one of some places. */
static uint64_t ends_of(const sequence *s, const char *pattern, uint64_t begins) {
  uint64_t places = begins, found = 0;
  element e;
  for (;;) {
    if (*pattern == ' ') {
      ++pattern;
    } else if (*pattern == '<') {
      places &= 1;
      ++pattern;
    } else if (*pattern == '$') {
      places &= (uint64_t)1 << s->count;
      ++pattern;
    } else if (*pattern == '|' || *pattern == '\0') {
      found |= places;
      places = begins;
      if (*pattern++ == '\0') return found;
    } else {
      pattern = read_element(pattern, s->are_phones, &e);
      places = follow(s, &e, places);
    }
  }
}

/* Makes a sequence of a pronunciation. Returns whether it is short enough. */
static int take_phones(sequence *s, const speech_pronunciation *from) {
  int32_t i;
  if (from->count > MOST) return 0;
  for (i = 0; i < from->count; ++i) s->symbols[i] = from->phones[i];
  s->count = from->count;
  s->are_phones = 1;
  return 1;
}

/* Applies a rule to a pronunciation. */
static void apply(const rule *r, const sequence *word, speech_pronunciation *way) {
  speech_pronunciation becomes;
  sequence phones;
  uint64_t before;
  element target;
  int32_t count = 0, i, k;
  if (!take_phones(&phones, way) || ends_of(word, r->spelling, ALL) == 0) return;
  before = ends_of(&phones, r->before, ALL);
  (void)read_element(r->phone, 1, &target);
  (void)speech_read_phones(&becomes, r->becomes, (int32_t)speech_length(r->becomes));
  for (i = 0; i < phones.count; ++i) {
    uint8_t phone = phones.symbols[i];
    int fits = (before >> i & 1) && (target.members >> phone & 1);
    if (fits) fits = (ends_of(&phones, r->after, (uint64_t)1 << (i + 1)) == 0) == r->forbids;
    if (!fits) way->phones[count++] = phone;
    for (k = 0; fits && k < becomes.count; ++k) way->phones[count++] = becomes.phones[k];
  }
  way->count = count;
}

/* Adds the ways of the table. */
static void add_listed(speech_pronouncer *p, const char *word, int32_t length) {
  size_t i;
  for (i = 0; i < sizeof WORDS / sizeof *WORDS; ++i) {
    const char *ways = WORDS[i].ways;
    int32_t k = 0;
    while (k < length && WORDS[i].word[k] == word[k]) ++k;
    if (k < length || WORDS[i].word[k] != '\0') continue;
    while (*ways != '\0') {
      int32_t size = 0;
      while (ways[size] != ',' && ways[size] != '\0') ++size;
      (void)speech_read_phones(&p->changed, ways, size);
      speech_ways_add(&p->ways, &p->changed);
      ways += ways[size] == '\0' ? size : size + 1;
    }
  }
}

void speech_variants(speech_pronouncer *p, const char *word, int32_t length,
                     const speech_pronunciation *usual) {
  sequence letters;
  size_t group;
  int32_t i;
  for (i = 0; i < length; ++i) letters.symbols[i] = (uint8_t)speech_letter(word[i]);
  letters.count = length;
  letters.are_phones = 0;
  add_listed(p, word, length);
  for (group = 0; group < sizeof GROUPS / sizeof *GROUPS; ++group) {
    p->said = *usual;
    for (i = GROUPS[group].first; i < GROUPS[group].end; ++i) {
      if (p->ways.count == SPEECH_MOST_WAYS) return;
      apply(&RULE[i], &letters, &p->said);
      if (GROUPS[group].together) continue;
      speech_ways_add(&p->ways, &p->said);
      p->said = *usual;
    }
    if (GROUPS[group].together) speech_ways_add(&p->ways, &p->said);
  }
}
