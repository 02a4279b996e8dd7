"""Writes the GGUF that llama.cpp loads: tensors, tokenizer, ChatML template, and who made it."""

import gguf
import numpy as np

import model

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TYPES = {"f32": gguf.GGMLQuantizationType.F32, "q8_0": gguf.GGMLQuantizationType.Q8_0}
FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def write(path, kind, shape, weights, bpe, progress):
    """Writes `path`; matrices are of type `kind`, vectors stay f32. No output.weight: tied."""
    w = gguf.GGUFWriter(path, "qwen2")
    w.add_name("tillerman-embedded")
    w.add_description(
        "Plays the planner, executor, verifier and generator of Tillerman on its own task families;"
        f" trained from nothing on {progress['tokens'] / 1e6:.1f} M tokens with recipe/train.py."
    )
    w.add_license("MIT")
    w.add_file_type(FILE_TYPES[kind])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(shape.context)
    w.add_embedding_length(shape.width)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.ffn)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.heads_kv)
    w.add_rope_freq_base(shape.rope_base)
    w.add_layer_norm_rms_eps(shape.eps)
    w.add_vocab_size(shape.vocab)

    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")  # three digits a token, whole words first
    w.add_token_list(bpe.tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in bpe.special else gguf.TokenType.NORMAL for t in bpe.tokens])
    w.add_token_merges(bpe.merges)
    w.add_bos_token_id(bpe.special["<|endoftext|>"])
    w.add_eos_token_id(bpe.im_end)
    w.add_eot_token_id(bpe.im_end)
    w.add_pad_token_id(bpe.special["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(CHATML)

    for name, tensor in weights.items():
        a = tensor.detach().float().numpy()
        as_type = TYPES[kind] if a.ndim == 2 else TYPES["f32"]
        w.add_tensor(name, np.ascontiguousarray(gguf.quants.quantize(a, as_type)), raw_dtype=as_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read(path, shape, bpe):
    """{name: f32 tensor} of a GGUF written here: a shipped file is where the next training goes on from.

    Q8_0 weights come back within half a quantisation step, which a few hundred steps forget.
    """
    import torch

    file = gguf.GGUFReader(path)
    if file.get_field("tokenizer.ggml.tokens").contents() != list(bpe.tokens):
        raise SystemExit(f"{path} has another vocabulary: give the tokenizer.json it was trained with")
    for key, want in (("block_count", shape.layers), ("attention.head_count", shape.heads),
                      ("attention.head_count_kv", shape.heads_kv), ("rope.freq_base", shape.rope_base)):
        have = file.get_field(f"qwen2.{key}").contents()
        if have != want:
            raise SystemExit(f"{path} has {key} {have}, asked for is {want}: give its own --layers, --heads, --heads-kv, --rope-base")
    found = {}
    for t in file.tensors:
        a = gguf.quants.dequantize(t.data, t.tensor_type)
        found[t.name] = torch.from_numpy(np.array(a, dtype=np.float32)).reshape(*reversed([int(n) for n in t.shape]))
    for name, wanted in model.init(shape, 0).items():
        if name not in found or found[name].shape != wanted.shape:
            raise SystemExit(f"{path}: {name} is missing or of another shape: give its own --width and --ffn")
    return found
