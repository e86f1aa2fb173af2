"""Builds the demo model's tokenizer: byte-level BPE with the family's normaliser, split rule and special tokens.

    python3 -m tools.demo.tokenizer --template qwen3.6.jinja --out models/hylas-tiny      (needs `tokenizers`)

Only the merges differ from the released files; the special tokens have the same texts and follow the base vocabulary.
"""

import argparse
import json
import random
import shutil
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from .data import train_document

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>
<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
<tool_response> </tool_response> <think> </think>
<|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod> <tts_text_bos_single> <|audio_pad|>""".split()
KEPT_IN_TEXT = set(SPECIAL[14:26])  # "special": false, as in the released files: skip_special_tokens keeps them
BASE_VOCABULARY = 4096 - len(SPECIAL)
CORPUS_DOCUMENTS = 40_000
CORPUS_SEED = 7


def corpus(texts: list[Path]):
    rng = random.Random(CORPUS_SEED)
    for _ in range(CORPUS_DOCUMENTS):
        yield "".join(s.text for s in train_document(rng) if not s.text.startswith("<|endoftext|>"))
    for path in texts:
        yield path.read_text()


def train_bpe(texts: list[Path]) -> dict:
    """The trained tokenizer as the released JSON form: dictionary entries by id, merges as pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(**byte_level)])
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=BASE_VOCABULARY, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((strip_special(text) for text in corpus(texts)), trainer)
    tokenizer.model.ignore_merges = False
    return json.loads(tokenizer.to_str())


def strip_special(text: str) -> str:
    for token in SPECIAL:
        text = text.replace(token, "\n")
    return text


def added_tokens(first_id: int) -> list[dict]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [{"id": first_id + i, "content": token, **flags, "special": token not in KEPT_IN_TEXT}
            for i, token in enumerate(SPECIAL)]


def write_tokenizer(out: Path, template: Path, texts: list[Path]) -> int:
    """Writes the four text files of the released layout; returns the number of tokens."""
    out.mkdir(parents=True, exist_ok=True)
    spec = train_bpe(texts)
    added = added_tokens(len(spec["model"]["vocab"]))
    spec["added_tokens"] = added
    (out / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
    end_of_text, end_of_turn = added[0]["id"], added[2]["id"]
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added}
    config = {"add_bos_token": False, "add_prefix_space": False, "bos_token": None,
              "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
              "model_max_length": 262144, "pad_token": "<|endoftext|>", "split_special_tokens": False,
              "tokenizer_class": "Qwen2Tokenizer", "unk_token": None, "added_tokens_decoder": decoder}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"bos_token_id": end_of_text, "do_sample": True, "eos_token_id": [end_of_turn, end_of_text],
                  "pad_token_id": end_of_text, "temperature": 1.0, "top_k": 20, "top_p": 0.95,
                  "transformers_version": "4.57.1"}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    shutil.copyfile(template, out / "chat_template.jinja")
    return added[-1]["id"] + 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the BPE vocabulary and write the tokenizer files.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True, help="the family's chat template, copied as it is")
    parser.add_argument("texts", type=Path, nargs="*", help="further text files for the merges")
    arguments = parser.parse_args()
    print("tokens:", write_tokenizer(arguments.out, arguments.template, arguments.texts))
