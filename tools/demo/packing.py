"""Training batches: documents drawn, tokenized and packed into rows by worker processes."""

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, Dataset

from . import data

OPEN_ROWS = 16  # a document goes into the fullest open row that still has room


class Batch(NamedTuple):
    """[B,T] each. `document` numbers the documents of a row; `weight` is the loss weight of the token itself."""
    tokens: torch.Tensor
    document: torch.Tensor
    weight: torch.Tensor


class Row:
    def __init__(self, width: int):
        self.tokens = np.zeros(width, np.int64)
        self.document = np.full(width, -1, np.int64)
        self.weight = np.zeros(width, np.float32)
        self.used, self.documents = 0, 0

    def add(self, tokens: list[int], weights: list[float]) -> None:
        end = self.used + len(tokens)
        self.tokens[self.used:end], self.weight[self.used:end] = tokens, weights
        self.document[self.used:end] = self.documents
        self.used, self.documents = end, self.documents + 1


class Batches(Dataset):
    """Batch i is a function of the seed and i alone, so that a resumed run sees what an unbroken one would."""

    def __init__(self, tokenizer_file: Path, rows: int, width: int, seed: int, start: int, stop: int):
        self.file, self.rows, self.width, self.seed = tokenizer_file, rows, width, seed
        self.start, self.stop = start, stop
        self.tokenizer: Tokenizer | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        if self.tokenizer is None:
            self.tokenizer = Tokenizer.from_file(str(self.file))
        rng = random.Random(self.seed * 1_000_003 + self.start + index)
        done, open_rows = [], []
        while len(done) < self.rows:
            tokens, weights = self.encode(data.train_document(rng))
            fitting = [r for r in open_rows if r.used + len(tokens) <= self.width]
            if not fitting:
                if len(open_rows) == OPEN_ROWS:
                    done.append(max(open_rows, key=lambda r: r.used))
                    open_rows.remove(done[-1])
                fitting = [Row(self.width)]
                open_rows += fitting
            max(fitting, key=lambda r: r.used).add(tokens, weights)
        columns = ([getattr(r, name) for r in done] for name in ("tokens", "document", "weight"))
        return Batch(*(torch.from_numpy(np.stack(c)) for c in columns))

    def encode(self, document: data.Document) -> tuple[list[int], list[float]]:
        tokens, weights = [], []
        for segment, encoding in zip(document, self.tokenizer.encode_batch_fast([s.text for s in document])):
            tokens += encoding.ids
            weights += [segment.weight] * len(encoding.ids)
        return tokens[:self.width], weights[:self.width]


def loader(batches: Batches, workers: int) -> DataLoader:
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None,
                      pin_memory=torch.cuda.is_available(), persistent_workers=False)
