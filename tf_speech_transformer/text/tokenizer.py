"""Text to token ids and back."""

import io
import string
from pathlib import Path
from typing import Protocol

import sentencepiece

START, END, SPACE, BLANK = "<s>", "</s>", "<space>", "<blank>"


class Tokenizer(Protocol):
    """Ids 0 and 1 are `<s>` and `</s>`; the last one is CTC's `<blank>`."""

    kind: str
    start: int
    end: int
    blank: int
    size: int

    def encode(self, text: str) -> list[int]:
        """Ids of the text in lower case, without start and end; ValueError for what has none."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Text of ids; start, end and blank are left out."""
        ...

    def tokens(self) -> list[str]:
        """The token of each id."""
        ...

    def save(self, directory: Path) -> None:
        """Writes what `load` of the class reads."""
        ...


class CharacterTokenizer:
    """Letters a-z, apostrophe and space."""

    kind = "characters"

    def __init__(self) -> None:
        self._tokens = [START, END, SPACE, *string.ascii_lowercase, "'", BLANK]
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self.start, self.end = 0, 1
        self.size = len(self._tokens)
        self.blank = self.size - 1

    def encode(self, text: str) -> list[int]:
        ids = []
        for character in " ".join(text.lower().split()):
            token = SPACE if character == " " else character
            if token not in self._ids:
                raise ValueError(
                    f"character {character!r} of {text!r} is not in the vocabulary"
                    " (a-z, apostrophe, space): spell it out in the transcript"
                )
            ids.append(self._ids[token])
        return ids

    def decode(self, ids: list[int]) -> str:
        tokens = [self._tokens[i] for i in ids if i not in (self.start, self.end, self.blank)]
        return " ".join("".join(" " if token == SPACE else token for token in tokens).split())

    def tokens(self) -> list[str]:
        return list(self._tokens)

    def save(self, directory: Path) -> None:
        text = "".join(f"{token}\n" for token in self._tokens)
        _write(directory / "tokens.txt", text.encode())

    @classmethod
    def load(cls, directory: Path) -> "CharacterTokenizer":
        tokenizer = cls()
        file = directory / "tokens.txt"
        if not file.is_file():
            raise ValueError(f"{file} does not exist: train into {directory.parent} first")
        if file.read_text().splitlines() != tokenizer.tokens():
            raise ValueError(f"{file} is not the vocabulary of the character tokenizer")
        return tokenizer


class SentencePieceTokenizer:
    """Pieces of a sentencepiece model: pieces[i] has id i, `<blank>` comes after them."""

    kind = "sentencepiece"
    FILE = "sentencepiece.model"

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.start, self.end = self._processor.bos_id(), self._processor.eos_id()
        if (self.start, self.end) != (0, 1):
            raise ValueError("a sentencepiece model must have <s> at 0 and </s> at 1")
        self.blank = self._processor.get_piece_size()
        self.size = self.blank + 1

    @classmethod
    def train(cls, texts: list[str], pieces: int) -> "SentencePieceTokenizer":
        """A unigram model over `texts`; `pieces` counts `<s>`, `</s>` and `<unk>` too."""
        if not texts:
            raise ValueError("no texts to train a tokenizer on")
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(" ".join(text.lower().split()) for text in texts),
            model_writer=out,
            vocab_size=pieces,
            model_type="unigram",
            character_coverage=1.0,
            bos_id=0,
            eos_id=1,
            unk_id=2,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        return cls(out.getvalue())

    def encode(self, text: str) -> list[int]:
        lower = " ".join(text.lower().split())
        ids = list(self._processor.encode(lower))
        if self._processor.unk_id() in ids:
            known = set("".join(self.tokens())) | {" "}
            unknown = next((c for c in lower if c not in known), lower)
            raise ValueError(
                f"character {unknown!r} of {text!r} is not in the vocabulary: spell it out in the"
                " transcript"
            )
        return ids

    def decode(self, ids: list[int]) -> str:
        return self._processor.decode([int(i) for i in ids if i < self.blank])

    def tokens(self) -> list[str]:
        return [self._processor.id_to_piece(i) for i in range(self.blank)] + [BLANK]

    def save(self, directory: Path) -> None:
        _write(directory / self.FILE, self._model)

    @classmethod
    def load(cls, directory: Path) -> "SentencePieceTokenizer":
        return cls((directory / cls.FILE).read_bytes())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
