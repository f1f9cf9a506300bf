/* See speech_lexicon.h. */
#include "speech_lexicon.h"

#define LETTERS 27
#define WORD_END 27 /* in the code of letters, beside 0 to 26 */
#define SYMBOLS 28
#define BLOCK 16  /* words */
#define STRIDE 32 /* n-grams */
#define BOOK 16   /* costs and back-offs of a level */
#define HEADER 32 /* bytes before the tables of levels */
#define CHECKED_FROM 12
#define MOST_BYTES (1u << 24)
#define MOST_BITS 24     /* of a symbol, and of a number */
#define LONGEST 64       /* letters of a word in the lexicon */

/* Bits that are taken one after the other, the highest of a byte first. */
typedef struct {
  const uint8_t *data;
  uint32_t at, end; /* bits */
  int failed;
} bits;

uint32_t speech_letter(char letter) {
  return letter == '\'' ? 26u : (uint32_t)(letter - 'a');
}

/* CRC-32, as zlib has it, by four bits at a time. */
static uint32_t check_sum(const uint8_t *data, uint32_t bytes) {
  uint32_t table[16], sum = 0xffffffffu, i;
  for (i = 0; i < 16; ++i) {
    uint32_t value = i, k;
    for (k = 0; k < 4; ++k) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
    table[i] = value;
  }
  for (i = 0; i < bytes; ++i) {
    sum ^= data[i];
    sum = sum >> 4 ^ table[sum & 15];
    sum = sum >> 4 ^ table[sum & 15];
  }
  return ~sum;
}

/* The next `bytes` of a file from a place on; NULL: it ends before. */
static const uint8_t *part(const speech_lexicon *lexicon, uint64_t *place, uint64_t bytes) {
  const uint8_t *found = lexicon->data + *place;
  if (*place > lexicon->bytes || bytes > lexicon->bytes - *place) return NULL;
  *place += bytes;
  return found;
}

static int open_codes(speech_lexicon *lexicon, uint64_t place) {
  uint32_t count = lexicon->labels, i;
  lexicon->first_label = part(lexicon, &place, LETTERS + 1);
  if (lexicon->first_label == NULL) return 0;
  lexicon->phones = part(lexicon, &place, 2 * (uint64_t)count);
  if (lexicon->phones == NULL) return 0;
  lexicon->label_bits = part(lexicon, &place, count);
  if (lexicon->label_bits == NULL) return 0;
  lexicon->letter_bits = part(lexicon, &place, SYMBOLS * SYMBOLS);
  if (lexicon->letter_bits == NULL) return 0;
  for (i = 0; i < LETTERS; ++i) {
    if (lexicon->first_label[i] > lexicon->first_label[i + 1]) return 0;
  }
  for (i = 0; i < 2 * count; ++i) {
    if (lexicon->phones[i] >= SPEECH_PHONES && lexicon->phones[i] != SPEECH_NO_PHONE) return 0;
  }
  return lexicon->first_label[0] == 0 && lexicon->first_label[LETTERS] == count;
}

static int open_level(const speech_lexicon *lexicon, speech_level *level, uint64_t place) {
  const uint8_t *head = part(lexicon, &place, 4);
  uint64_t count = level->count, bytes = (count + 7) / 8, parents, i;
  uint64_t sizes[9];
  const uint8_t *found[9];
  if (head == NULL) return 0;
  level->parents = speech_lexicon_number(head);
  parents = level->parents;
  if (count == 0 || parents > count) return 0;
  sizes[0] = 4 * ((count + STRIDE - 1) / STRIDE);
  sizes[1] = 4 * ((parents + STRIDE - 1) / STRIDE);
  sizes[2] = sizes[3] = BOOK;
  sizes[4] = sizes[5] = bytes;
  sizes[6] = count;
  sizes[7] = (count + 1) / 2;
  sizes[8] = (parents + 1) / 2;
  for (i = 0; i < 9; ++i) {
    found[i] = part(lexicon, &place, sizes[i]);
    if (found[i] == NULL) return 0;
  }
  level->before = found[0];
  level->first = found[1];
  level->cost_of = found[2];
  level->backoff_of = found[3];
  level->branching = found[4];
  level->last = found[5];
  level->labels = found[6];
  level->costs = found[7];
  level->backoffs = found[8];
  return 1;
}

int speech_lexicon_open(speech_lexicon *lexicon, const void *data, size_t bytes) {
  const uint8_t *head = (const uint8_t *)data;
  uint64_t place;
  uint32_t i;
  if (data == NULL || bytes < HEADER || bytes > MOST_BYTES) return 0;
  lexicon->data = head;
  lexicon->bytes = (uint32_t)bytes;
  if (speech_lexicon_number(head) != 0x6978656cu || head[4] != 1 || head[5] != 0) return 0; /* "lexi" */
  lexicon->level_count = (uint32_t)head[6] | (uint32_t)head[7] << 8;
  lexicon->words = speech_lexicon_number(head + 16);
  lexicon->labels = speech_lexicon_number(head + 20);
  if (speech_lexicon_number(head + 12) != bytes || lexicon->labels == 0 || lexicon->labels > 255 ||
      lexicon->level_count == 0 || lexicon->level_count > SPEECH_MOST_LEVELS ||
      speech_lexicon_number(head + 8) != check_sum(head + CHECKED_FROM, (uint32_t)bytes - CHECKED_FROM) ||
      !open_codes(lexicon, speech_lexicon_number(head + 24))) return 0;
  place = speech_lexicon_number(head + 28);
  lexicon->blocks = part(lexicon, &place, 4 * (((uint64_t)lexicon->words + BLOCK - 1) / BLOCK));
  if (lexicon->blocks == NULL || HEADER + 8 * (size_t)lexicon->level_count > bytes) return 0;
  for (i = 0; i < lexicon->level_count; ++i) {
    const uint8_t *count = head + HEADER + 4 * (size_t)i;
    lexicon->levels[i].count = speech_lexicon_number(count);
    place = speech_lexicon_number(count + 4 * (size_t)lexicon->level_count);
    if (!open_level(lexicon, &lexicon->levels[i], place)) return 0;
  }
  return lexicon->levels[0].count == lexicon->labels + 1;
}

void speech_ways_add(speech_ways *ways, const speech_pronunciation *way) {
  int32_t i, k;
  if (way->count == 0 || ways->count == SPEECH_MOST_WAYS) return;
  for (i = 0; i < ways->count; ++i) {
    const speech_pronunciation *other = &ways->ways[i];
    if (other->count != way->count) continue;
    for (k = 0; k < way->count && other->phones[k] == way->phones[k]; ++k) continue;
    if (k == way->count) return;
  }
  ways->ways[ways->count++] = *way;
}

static uint32_t take(bits *b, uint32_t count) {
  uint32_t value = 0;
  for (; count > 0; --count, ++b->at) {
    if (b->at >= b->end) {
      b->failed = 1;
      return 0;
    }
    value = value << 1 | (b->data[b->at / 8] >> (7 - b->at % 8) & 1);
  }
  return value;
}

/* A symbol of a prefix code, whose bits are given for each. */
static uint32_t take_symbol(bits *b, const uint8_t *lengths, uint32_t count) {
  uint32_t code = 0, first = 0, length, i;
  for (length = 1; length <= MOST_BITS && !b->failed; ++length) {
    uint32_t above, found = 0;
    code |= take(b, 1);
    above = code - first;
    for (i = 0; i < count; ++i) {
      if (lengths[i] == length && found++ == above) return i;
    }
    first = (first + found) << 1;
    code <<= 1;
  }
  b->failed = 1;
  return 0;
}

/* A number in Elias's gamma code, less 1. */
static uint32_t take_number(bits *b) {
  uint32_t zeros = 0;
  while (zeros < MOST_BITS && !b->failed && take(b, 1) == 0) ++zeros;
  return (1u << zeros | take(b, zeros)) - 1;
}

/* Takes a pronunciation of a word of the lexicon. */
static void take_way(const speech_lexicon *lexicon, bits *b, const char *letters, int32_t length,
                     speech_pronunciation *way) {
  int32_t i;
  way->count = 0;
  if (take(b, 1) == 1) {
    for (i = 0; i < length && !b->failed; ++i) {
      const uint8_t *first = lexicon->first_label + speech_letter(letters[i]);
      uint32_t place = first[0] + take_symbol(b, lexicon->label_bits + first[0],
                                              (uint32_t)first[1] - first[0]);
      const uint8_t *phones = lexicon->phones + 2 * (size_t)place;
      if (b->failed) return;
      if (phones[0] != SPEECH_NO_PHONE) way->phones[way->count++] = phones[0];
      if (phones[1] != SPEECH_NO_PHONE) way->phones[way->count++] = phones[1];
    }
    return;
  }
  for (i = 0; i < SPEECH_MOST_PHONES && !b->failed; ++i) {
    uint32_t phone = take(b, 6);
    if (phone >= SPEECH_PHONES) return;
    way->phones[way->count++] = (uint8_t)phone;
  }
}

/* Compares the first word of a block with a word; beyond the file's end: 1. */
static int compare_first(const speech_lexicon *lexicon, uint32_t block, const char *word,
                         int32_t length) {
  uint32_t place = speech_lexicon_number(lexicon->blocks + 4 * (size_t)block);
  int32_t i;
  for (i = 0; i <= length; ++i, ++place) {
    int wanted = i < length ? word[i] : 0;
    if (place >= lexicon->bytes || lexicon->data[place] > wanted) return 1;
    if (lexicon->data[place] < wanted) return -1;
  }
  return 0;
}

/* Takes the letters of the next word. Returns their number; -1: damaged. */
static int32_t take_letters(const speech_lexicon *lexicon, bits *b, char *letters,
                            int32_t length) {
  uint32_t shared = take_number(b);
  uint32_t before;
  if (b->failed || shared > (uint32_t)length) return -1;
  length = (int32_t)shared;
  before = length > 0 ? speech_letter(letters[length - 1]) : WORD_END;
  for (;;) {
    uint32_t letter = take_symbol(b, lexicon->letter_bits + SYMBOLS * (size_t)before, SYMBOLS);
    if (b->failed) return -1;
    if (letter == WORD_END) return length;
    if (length == LONGEST) return -1;
    letters[length++] = letter == 26 ? '\'' : (char)('a' + (int)letter);
    before = letter;
  }
}

/* The first word of a block, as letters. Returns their number; -1: damaged. */
static int32_t first_letters(const speech_lexicon *lexicon, uint32_t place, char *letters) {
  int32_t length = 0;
  for (; place < lexicon->bytes && length < LONGEST; ++place) {
    char letter = (char)lexicon->data[place];
    if (letter == 0) return length;
    if ((letter < 'a' || letter > 'z') && letter != '\'') return -1;
    letters[length++] = letter;
  }
  return -1;
}

/* Looks for a word in its block. */
static int find_in_block(const speech_lexicon *lexicon, uint32_t block, const char *word,
                         int32_t wanted, speech_ways *ways) {
  uint32_t place = speech_lexicon_number(lexicon->blocks + 4 * (size_t)block), i, count;
  char letters[LONGEST];
  int32_t length = first_letters(lexicon, place, letters);
  speech_pronunciation way;
  bits b = {NULL, 0, 0, 0};
  if (length < 0) return -1;
  b.data = lexicon->data;
  b.at = 8 * (place + (uint32_t)length + 1);
  b.end = 8 * lexicon->bytes;
  for (i = 0; i < BLOCK && block * BLOCK + i < lexicon->words; ++i) {
    int is_wanted;
    if (i > 0) length = take_letters(lexicon, &b, letters, length);
    if (length < 0) return -1;
    is_wanted = length == wanted;
    for (count = 0; is_wanted && count < (uint32_t)length; ++count) {
      is_wanted = letters[count] == word[count];
    }
    for (count = take_number(&b) + 1; count > 0 && !b.failed; --count) {
      take_way(lexicon, &b, letters, length, &way);
      if (is_wanted && !b.failed) speech_ways_add(ways, &way);
    }
    if (b.failed) return -1;
    if (is_wanted) return 1;
  }
  return 0;
}

int speech_lexicon_find(const speech_lexicon *lexicon, const char *word, int32_t length,
                        speech_ways *ways) {
  uint32_t low = 0, high = (lexicon->words + BLOCK - 1) / BLOCK;
  while (low < high) { /* the first block whose words come after it */
    uint32_t middle = low + (high - low) / 2;
    if (compare_first(lexicon, middle, word, length) <= 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low == 0 ? 0 : find_in_block(lexicon, low - 1, word, length, ways);
}
